"""Backup runs under faults: nothing is lost, nothing is falsely a point."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from aivo_backup.errors import AccessDeniedError, BackupError, RefusedError, UnreachableError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.minio.manifest import target_key
from aivo_backup.stores.minio.objects import Attributes, ChangedError, Condition, ListedObject, ListedVersion, Stored
from aivo_backup.stores.minio.ordered import DisorderedListingError
from aivo_backup.stores.minio.transfer import ByteBudget
from tests.unit.minio.memory import MemoryStore, no_fault
from tests.unit.minio.world import BUCKET, FULL, HEARTBEAT_BUCKET, INCREMENTAL, SETTINGS, World, failed


@pytest.fixture
def world() -> World:
    world = World()
    for number in range(10):
        world.put(f"file-{number}", f"content of {number}".encode(), Attributes(content_type="text/plain"))
    return world


def manifest_lines(world: World, point: str) -> list[dict[str, object]]:
    keys = [key for key in world.target.contents(BUCKET) if key.startswith(f"metadata/minio/{point}/manifest-")]
    bodies = [gzip.decompress(world.target.at(BUCKET, key).body or b"") for key in sorted(keys)]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def changed_at(world: World, operation: str, key: str, change: bytes, *, times: int = 1) -> None:
    """Overwrites the source's ``key`` just before an ``operation`` on it."""
    left = [times]

    def hook(asked: str, bucket: str, asked_key: str) -> None:
        if (asked, asked_key) == (operation, key) and left[0]:
            left[0] -= 1
            world.source.add(bucket, key, change + str(left[0]).encode())

    world.source.hook = hook


def test_the_layout_is_the_runbooks_and_the_manifest_names_everything(world: World) -> None:
    taken = world.backup()
    assert taken.point == "20261122_033000"
    assert {key for key in world.target.contents(BUCKET) if key.startswith("minio-data/")} == {
        *(f"minio-data/docs/file-{number}" for number in range(10)),
        f"minio-data/{HEARTBEAT_BUCKET}/heartbeat.json",
    }
    lines = manifest_lines(world, taken.point)
    assert [(line["bucket"], line["key"]) for line in lines] == sorted((line["bucket"], line["key"]) for line in lines)
    body = b"content of 3"
    held = world.target.at(BUCKET, "minio-data/docs/file-3")
    assert {"bucket": "docs", "key": "file-3"}.items() <= next(
        line for line in lines if line["key"] == "file-3"
    ).items()
    assert next(line for line in lines if line["key"] == "file-3") | {"last_modified": ""} == {
        "bucket": "docs",
        "key": "file-3",
        "target_key": "minio-data/docs/file-3",
        "size": len(body),
        "etag": world.source.at("docs", "file-3").etag,
        "sha256": hashlib.sha256(body).hexdigest(),
        "version_id": held.version_id,
        "target_etag": held.etag,
        "content_type": "text/plain",
        "metadata": {},
        "headers": {},
        "last_modified": "",
    }
    assert taken.facts["objects"] == 11
    assert taken.facts["bytes.docs"] == 120
    assert taken.facts["heartbeat"] == "2026-11-22T03:00:00.000000Z"
    assert taken.recoverable_at == world.now


def test_an_increment_moves_and_names_only_what_changed(world: World) -> None:
    full = world.backup()
    world.put("file-3", b"new content")
    world.source.remove("docs", "file-4")
    taken = world.backup(INCREMENTAL)
    assert taken.depends_on == (full.point,)
    assert taken.bytes_transferred == len(b"new content")
    lines = manifest_lines(world, taken.point)
    assert [(line["key"], line.get("gone", False)) for line in lines] == [("file-3", False), ("file-4", True)]
    assert world.target.at(BUCKET, "minio-data/docs/file-5").version_id
    assert "minio-data/docs/file-4" not in world.target.contents(BUCKET)


def test_nothing_changed_reads_no_object_at_all(world: World) -> None:
    world.backup()
    asked: list[str] = []
    world.source.hook = lambda operation, _bucket, _key: asked.append(operation)
    taken = world.backup(INCREMENTAL)
    assert set(asked) == {"list", "buckets"}
    assert (taken.bytes_transferred, taken.facts["objects"]) == (0, 11)


def test_metadata_alone_is_seen_by_its_time_and_equal_bytes_written_again_are_not_copied(world: World) -> None:
    world.put("same", b"same")
    world.backup()
    world.put("same", b"same")
    world.put("file-1", b"content of 1", Attributes(content_type="text/plain", metadata={"owner": "me"}))
    taken = world.backup(INCREMENTAL)
    assert taken.bytes_transferred == len(b"content of 1")
    empty = MemoryStore()
    world.restore(taken.point, empty)
    assert empty.at("docs", "file-1").attributes.metadata == {"owner": "me"}
    asked: list[str] = []
    world.source.hook = lambda operation, _bucket, _key: asked.append(operation)
    world.backup(INCREMENTAL)
    assert "info" not in asked, "a rewritten object is asked for once, not in every run"


def test_an_object_that_changes_between_listing_and_copy_is_copied_as_it_is_then(world: World) -> None:
    changed_at(world, "open", "file-2", b"changed meanwhile ")
    taken = world.backup()
    assert failed(world.restore_test(taken)) == {}
    empty = MemoryStore()
    world.restore(taken.point, empty)
    assert empty.contents("docs")["file-2"][0] == b"changed meanwhile 0"


def test_a_transfer_that_breaks_goes_on_in_the_same_version_or_begins_again_in_the_new_one(world: World) -> None:
    world.hasty = False
    world.put("large", b"0123456789" * 5)
    broken = [False]

    def source_hook(operation: str, _bucket: str, key: str) -> None:
        if (operation, key) == ("read", "large") and not broken[0]:
            broken[0] = True
            raise UnreachableError("reset by peer")

    def target_hook(operation: str, _bucket: str, key: str) -> None:
        if (operation, key) == ("put_part", "minio-data/docs/large"):
            broken[0] = False  # so that every part breaks once
            if len(world.source.held["docs"]["large"]) == 1:
                world.source.add("docs", "large", b"abcdefghij" * 6)

    world.source.hook, world.target.hook = source_hook, target_hook
    taken = world.backup()
    world.source.hook = world.target.hook = no_fault
    empty = MemoryStore()
    world.restore(taken.point, empty)
    assert empty.contents("docs")["large"][0] == b"abcdefghij" * 6, "never a mixture of two versions"
    assert world.target.uploads == {}


def test_an_object_that_never_holds_still_is_named_and_no_point_is_left(world: World) -> None:
    world.hasty = False
    world.put("large", b"0123456789" * 5)

    def restless(operation: str, bucket: str, key: str) -> None:
        if (operation, key) == ("read", "large"):
            world.source.add(bucket, key, f"{world.source.writes:050d}".encode())
            raise UnreachableError("reset by peer")

    world.source.hook = restless
    with pytest.raises(BackupError, match=r"docs/large.*changed 4 times"):
        world.backup()
    assert world.store.held_points() == ()
    assert world.target.uploads == {}


def test_a_body_that_ends_early_is_never_taken_for_the_object(world: World) -> None:
    world.source.body_hook = lambda key, body: body[:-1] if key in ("file-7", "file-8") else body
    with pytest.raises(BackupError, match=r"2 objects could not be copied: docs/file-7.*docs/file-8"):
        world.backup()
    assert world.store.held_points() == ()


def test_a_body_that_is_longer_than_it_says_is_never_taken_for_the_object(world: World) -> None:
    world.source.body_hook = lambda key, body: body + b"!" if key == "file-7" else body
    with pytest.raises(BackupError, match="docs/file-7"):
        world.backup()


def test_an_answer_smaller_than_the_listing_is_never_taken_for_the_object(world: World) -> None:
    """A truncated object with status 200 and a length that fits its body, under the ETag of the whole."""

    def shrink(operation: str, bucket: str, key: str) -> None:
        if (operation, key) == ("open", "file-7"):
            held = world.source.at(bucket, key)
            held.body = (held.body or b"")[:3]

    world.source.hook = shrink
    with pytest.raises(BackupError, match=r"docs/file-7.*3 bytes answered of the 12 listed"):
        world.backup()


def died_at(world: World, number: int) -> None:
    """The next run dies at its ``number``-th write of an object."""
    left = [number]

    def die(operation: str, _bucket: str, key: str) -> None:
        if operation in ("put", "complete") and key.startswith("minio-data/"):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

    world.target.hook = die
    with pytest.raises(KeyboardInterrupt):
        world.backup()
    world.target.hook = no_fault


@pytest.mark.parametrize("kind", [FULL, INCREMENTAL])
def test_a_run_takes_over_what_one_that_died_has_copied(world: World, kind: BackupKind) -> None:
    world.settings = replace(SETTINGS, transfers=1)
    died_at(world, 7)
    assert world.store.held_points() == ()
    world.put("file-0", b"changed since")
    died_at(world, 3)
    copied: list[str] = []
    world.source.hook = lambda operation, _bucket, key: copied.append(key) if operation == "open" else None
    taken = world.backup(kind)
    assert copied == ["file-6", "file-7", "file-8", "file-9"], "only what came after the last part that was put down"
    assert failed(world.restore_test(taken)) == {}
    empty = MemoryStore()
    world.restore(taken.point, empty)
    assert empty.contents("docs") == world.source.contents("docs")


def test_what_a_dead_run_left_is_believed_only_as_far_as_it_reads_and_is_there(world: World) -> None:
    world.settings = replace(SETTINGS, transfers=1)
    died_at(world, 9)
    parts = sorted(key for key in world.target.contents(BUCKET) if key.startswith("metadata/"))
    held = world.target.at(BUCKET, parts[1])
    held.body = (held.body or b"")[:-9]
    world.target.held[BUCKET].pop("minio-data/docs/file-0")
    taken = world.backup()
    assert failed(world.restore_test(taken)) == {}


def test_one_object_that_fails_does_not_make_the_next_run_copy_the_others_again(world: World) -> None:
    world.source.body_hook = lambda key, body: body[:-1] if key in ("file-1", "file-7") else body
    with pytest.raises(BackupError, match=r"docs/file-1.*docs/file-7"):
        world.backup()
    world.source.body_hook = lambda _key, body: body
    assert world.backup().bytes_transferred == 2 * len(b"content of 7")


def test_an_object_that_vanishes_before_its_copy_is_not_in_the_point(world: World) -> None:
    world.backup()
    world.put("file-2", b"changed")

    def vanish(operation: str, bucket: str, key: str) -> None:
        if (operation, key) == ("open", "file-2"):
            world.source.remove(bucket, key)

    world.source.hook = vanish
    taken = world.backup(INCREMENTAL)
    assert taken.facts["objects"] == 10
    assert "minio-data/docs/file-2" not in world.target.contents(BUCKET)
    assert failed(world.restore_test(taken)) == {}


def test_a_mass_deletion_stops_the_run_before_anything_changes(world: World) -> None:
    world.backup()
    for number in range(3):
        world.source.remove("docs", f"file-{number}")
    world.put("new", b"new")
    writes = world.target.writes
    with pytest.raises(RefusedError, match="3 of the 11 objects of the last point 20261122_033000 are gone"):
        world.backup(INCREMENTAL)
    assert world.target.writes == writes
    taken = world.backup(INCREMENTAL, accept_deletions=True)
    assert taken.facts["objects"] == 9


@pytest.mark.parametrize("kind", [FULL, INCREMENTAL])
def test_deletions_up_to_the_share_become_delete_markers(world: World, kind: BackupKind) -> None:
    first = world.backup()
    for number in range(2):
        world.source.remove("docs", f"file-{number}")
    world.backup(kind)
    history = world.target.held[BUCKET]["minio-data/docs/file-0"]
    assert [held.body is None for held in history] == [False, True]
    assert failed(world.restore_test(first)) == {}, "the version is still there"


def test_a_mass_deletion_during_the_run_deletes_nothing_and_leaves_no_point(world: World) -> None:
    world.backup()
    for number in range(10):
        world.put(f"file-{number}", b"changed")

    def vanish(operation: str, bucket: str, key: str) -> None:
        if operation == "open":
            world.source.remove(bucket, key)

    world.source.hook = vanish
    with pytest.raises(RefusedError, match="nothing was deleted"):
        world.backup()
    assert len(world.store.held_points()) == 1
    assert len([key for key in world.target.contents(BUCKET) if key.startswith("minio-data/docs/")]) == 10


def test_the_guard_counts_with_the_newest_point_also_when_its_manifest_is_damaged(world: World) -> None:
    taken = world.backup()
    held = world.target.at(BUCKET, f"metadata/minio/{taken.point}/manifest-00000.jsonl.gz")
    held.body = b"rubbish"
    for number in range(10):
        world.source.remove("docs", f"file-{number}")
    with pytest.raises(RefusedError, match="10 of the 11 objects"):
        world.backup()
    for number in range(10):
        world.put(f"file-{number}", b"back")
    again = world.backup()
    assert failed(world.restore_test(again)) == {}
    assert any("damaged" in line for line in world.lines)


def test_a_damaged_point_is_passed_over_for_the_one_before_it(world: World) -> None:
    world.backup()
    second = world.backup()
    summary = world.target.at(BUCKET, f"metadata/minio/{second.point}/summary.json")
    summary.body = (summary.body or b"").replace(b'"copied": 0', b'"copied": 1')
    assert [point.point for point in world.store.held_points()] == ["20261122_033000"]
    world.put("file-1", b"changed")
    third = world.backup()
    assert third.bytes_transferred == len(b"changed")
    assert failed(world.restore_test(third)) == {}


def test_a_bucket_that_vanished_counts_as_deletions_and_a_configured_one_is_named(world: World) -> None:
    world.backup()
    del world.source.held["docs"]
    with pytest.raises(RefusedError, match="10 of the 11"):
        world.backup()
    world.settings = replace(SETTINGS, buckets=("docs",))
    with pytest.raises(BackupError, match="docs"):
        world.backup()
    assert len([key for key in world.target.contents(BUCKET) if key.startswith("minio-data/")]) == 11


def test_an_unreachable_source_changes_nothing(world: World) -> None:
    world.backup()
    before = world.target.writes

    def down(_operation: str, _bucket: str, _key: str) -> None:
        raise UnreachableError("connection refused")

    world.source.hook = down
    with pytest.raises(UnreachableError):
        world.backup()
    assert world.target.writes == before


def test_an_outage_of_a_minute_is_survived(world: World) -> None:
    world.hasty = False
    failures = [0]
    began = world.now
    lock = threading.Lock()

    def outage(operation: str, _bucket: str, _key: str) -> None:
        with lock:
            if operation in ("open", "put") and (world.now - began).total_seconds() < 30 * 60 + 50:
                failures[0] += 1
                raise UnreachableError("503 slow down")

    world.source.hook = world.target.hook = outage
    taken = world.backup()
    assert failures[0] > 3
    assert failed(world.restore_test(taken)) == {}


def test_refused_credentials_are_not_retried(world: World) -> None:
    world.hasty = False
    asked = [0]

    def refuse(operation: str, _bucket: str, key: str) -> None:
        if (operation, key) == ("open", "file-1"):
            asked[0] += 1
            raise AccessDeniedError("read docs/file-1: access denied")

    world.source.hook = refuse
    with pytest.raises(AccessDeniedError, match="docs/file-1"):
        world.backup()
    assert asked[0] == 1


def test_permission_lost_on_the_way_ends_the_run_and_keeps_what_was_copied(world: World) -> None:
    for number in range(100):
        world.put(f"more-{number:03d}", b"x")
    asked = [0]

    def refuse(operation: str, _bucket: str, key: str) -> None:
        if (operation, key[:23]) == ("put", "minio-data/docs/more-05"):
            asked[0] += 1
            raise AccessDeniedError(f"write {key}: access denied")

    world.target.hook = refuse
    with pytest.raises(AccessDeniedError, match="objects could not be copied: docs/more-05"):
        world.backup()
    world.target.hook = no_fault
    assert asked[0] == 10
    assert world.backup().bytes_transferred == 10


def test_a_run_that_gives_up_early_keeps_what_was_copied_too(world: World) -> None:
    for number in range(25):
        world.put(f"more-{number:03d}", b"x")
    world.source.body_hook = lambda key, body: b"" if key.startswith("more-") else body
    with pytest.raises(BackupError, match="20 objects could not be copied"):
        world.backup()
    world.source.body_hook = lambda _key, body: body
    assert world.backup().bytes_transferred == 25


class Listing(MemoryStore):
    """Lists in an order of its own."""

    order: tuple[str, ...] = ()

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        listed = {item.key: item for item in super().objects(bucket, prefix)}
        yield from (listed[key] for key in self.order if key in listed) if bucket == "docs" else listed.values()


@pytest.mark.parametrize("order", [("a", "c", "b"), ("a", "b", "b", "c"), ("a", "b", "a", "b", "c")])
def test_a_listing_out_of_order_or_repeated_is_an_error(order: tuple[str, ...]) -> None:
    source = Listing(name="source")
    source.order = order
    world = World(source=source)
    for key in "abc":
        world.put(key, b"x")
    with pytest.raises(DisorderedListingError, match="the listing of docs at source"):
        world.backup()
    assert world.store.held_points() == ()


def test_a_full_run_repairs_what_is_missing_wrong_or_not_current_at_the_target(world: World) -> None:
    world.put("k" * 1024, b"too long to be mirrored")
    taken = world.backup()
    world.target.held[BUCKET].pop("minio-data/docs/file-1")
    world.target.remove(BUCKET, "minio-data/docs/file-2")
    world.target.add(BUCKET, "minio-data/docs/file-3", b"overwritten by somebody")
    world.target.at(BUCKET, "minio-data/docs/file-4").body = b"shorter"
    world.target.remove(BUCKET, target_key("docs", "k" * 1024))
    world.target.add(BUCKET, "minio-data/docs/stranger", b"nobody knows me")
    world.target.add(BUCKET, "minio-data/other-bucket/stranger", b"nor me")
    assert set(failed(world.restore_test(taken))) == {"versions"}
    incremental = world.backup(INCREMENTAL)
    assert incremental.bytes_transferred == 0, "an increment does not look"
    full = world.backup()
    assert failed(world.restore_test(full)) == {}
    mirrored = {key for key in world.target.contents(BUCKET) if key.startswith("minio-data/")}
    assert mirrored == {
        *(f"minio-data/docs/file-{number}" for number in range(10)),
        f"minio-data/{HEARTBEAT_BUCKET}/heartbeat.json",
    }
    assert world.target.at(BUCKET, "minio-data/docs/file-3").body == b"content of 3"


def test_uploads_of_a_killed_run_are_aborted_by_the_next_full_one(world: World) -> None:
    world.target.begin_upload(BUCKET, "minio-data/docs/large", Attributes()).put_part(b"x")
    world.target.begin_upload(BUCKET, "leases/minio", Attributes())
    world.backup()
    assert [upload.key for upload in world.target.uploads.values()] == ["leases/minio"]


def test_a_point_is_never_older_than_the_one_before_it(world: World) -> None:
    taken = world.backup()
    store = world.store
    with pytest.raises(RefusedError, match=taken.point):
        store.backup(FULL, now=world.now, progress=world.lines.append)


class Measuring(MemoryStore):
    """Knows how many bytes it is being handed at once."""

    held_bytes = 0
    most_bytes = 0

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        sha256: str,
        condition: Condition | None = None,
    ) -> Stored:
        if key.startswith("minio-data/docs/"):
            with self.lock:
                self.held_bytes += len(body)
                self.most_bytes = max(self.most_bytes, self.held_bytes)
            threading.Event().wait(0.01)
            with self.lock:
                self.held_bytes -= len(body)
        return super().put(bucket, key, body, attributes, sha256=sha256, condition=condition)


@pytest.mark.parametrize("ours", [True, False])
def test_a_summary_whose_answer_was_lost_is_recognised_and_anothers_is_not(world: World, *, ours: bool) -> None:
    """The client's own second try meets what the first one wrote; so does a second run of the same second."""
    done = [False]

    def write_first(operation: str, bucket: str, key: str) -> None:
        if operation == "put" and key.endswith("summary.json") and not done[0]:
            done[0] = True
            body = target.last_body if ours else b"{}"
            world.target.add(bucket, key, body)

    class Remembering(MemoryStore):
        last_body = b""

        def put(
            self,
            bucket: str,
            key: str,
            body: bytes,
            attributes: Attributes,
            *,
            sha256: str,
            condition: Condition | None = None,
        ) -> Stored:
            self.last_body = body
            return super().put(bucket, key, body, attributes, sha256=sha256, condition=condition)

    target = Remembering(name="target")
    world = World(source=world.source, target=target)
    target.hook = write_first
    if ours:
        assert failed(world.restore_test(world.backup())) == {}
        return
    with pytest.raises(ChangedError):
        world.backup()
    assert world.store.held_points() == ()


class Restless(MemoryStore):
    """Lists versions in an order of its own."""

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        return iter(sorted(super().versions(bucket, prefix), key=lambda version: version.key, reverse=True))


def test_a_listing_of_versions_out_of_order_is_an_error() -> None:
    world = World(target=Restless(name="target"))
    for key in "ab":
        world.put(key, b"x")
    world.backup()
    with pytest.raises(DisorderedListingError, match="listing of aivo-backup-minio at target"):
        world.backup()


def test_bytes_in_flight_stay_within_their_bound() -> None:
    target = Measuring(name="target")
    world = World(target=target, settings=replace(SETTINGS, transfers=8, bytes_in_flight=20))
    for number in range(20):
        world.put(f"file-{number}", b"12345678")
    assert failed(world.restore_test(world.backup())) == {}
    assert target.most_bytes == 16, "two fit at once, a third does not"


def test_the_byte_budget_holds_back_what_does_not_fit() -> None:
    budget = ByteBudget(10)
    entered = threading.Event()

    def second() -> None:
        with budget.holding(6):
            entered.set()

    with budget.holding(6):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
        with budget.holding(4):
            pass
    thread.join(5)
    assert entered.is_set()
    with budget.holding(1000):
        pass
