"""Backup runs under faults: nothing is lost, nothing is falsely a point."""

import threading
from dataclasses import replace

import pytest

from aivo_backup.errors import AccessDeniedError, BackupError, UnreachableError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.minio.objects import Attributes, ChangedError, Condition, Stored
from tests.unit.minio.memory import MemoryStore, no_fault
from tests.unit.minio.world import BUCKET, FULL, INCREMENTAL, SETTINGS, World, failed, ten_files


@pytest.fixture
def world() -> World:
    return ten_files()


def changed_at(world: World, operation: str, key: str, change: bytes, *, times: int = 1) -> None:
    """Overwrites the source's ``key`` just before an ``operation`` on it."""
    left = [times]

    def hook(asked: str, bucket: str, asked_key: str) -> None:
        if (asked, asked_key) == (operation, key) and left[0]:
            left[0] -= 1
            world.source.add(bucket, key, change + str(left[0]).encode())

    world.source.hook = hook


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


def test_uploads_of_a_killed_run_are_aborted_by_the_next_full_one(world: World) -> None:
    world.target.begin_upload(BUCKET, "minio-data/docs/large", Attributes()).put_part(b"x")
    world.target.begin_upload(BUCKET, "leases/minio", Attributes())
    world.backup()
    assert [upload.key for upload in world.target.uploads.values()] == ["leases/minio"]


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
