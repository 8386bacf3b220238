"""Backup runs: what a point names, what an increment moves, what deletions and damage do to either."""

import gzip
import hashlib
import json
from dataclasses import replace

import pytest

from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.minio.manifest import target_key
from aivo_backup.stores.minio.objects import Attributes
from tests.unit.minio.memory import MemoryStore
from tests.unit.minio.world import BUCKET, FULL, HEARTBEAT_BUCKET, INCREMENTAL, SETTINGS, World, failed, ten_files


@pytest.fixture
def world() -> World:
    return ten_files()


def manifest_lines(world: World, point: str) -> list[dict[str, object]]:
    keys = [key for key in world.target.contents(BUCKET) if key.startswith(f"metadata/minio/{point}/manifest-")]
    bodies = [gzip.decompress(world.target.at(BUCKET, key).body or b"") for key in sorted(keys)]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


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


def test_a_point_is_never_older_than_the_one_before_it(world: World) -> None:
    taken = world.backup()
    store = world.store
    with pytest.raises(RefusedError, match=taken.point):
        store.backup(FULL, now=world.now, progress=world.lines.append)
