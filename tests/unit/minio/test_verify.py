"""The restore test finds what is wrong, by name: each of these mutants of a good backup must fail."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from aivo_backup.errors import UsageError, VerificationError
from aivo_backup.stores.minio.manifest import target_key
from tests.unit.minio.memory import Held
from tests.unit.minio.world import BUCKET, HEARTBEAT_BUCKET, INCREMENTAL, SETTINGS, World, failed

LONG = "k" * 1024


@pytest.fixture
def world() -> World:
    world = World()
    for number in range(10):
        world.put(f"file-{number}", f"content of {number}".encode())
    world.put("large", b"0123456789" * 5)
    world.put(LONG, b"too long to be mirrored")
    return world


def flip(held: Held, at: int = 5) -> None:
    """One bit at rest."""
    body = bytearray(held.body or b"")
    body[at] ^= 1
    held.body = bytes(body)


def test_an_untouched_point_passes_and_says_what_was_looked_at(world: World) -> None:
    tested = world.restore_test(world.backup())
    assert failed(tested) == {}
    assert [check.name for check in tested.checks] == ["manifest", "counts", "versions", "content", "heartbeat"]
    assert "13 objects" in next(check.detail for check in tested.checks if check.name == "content")
    assert tested.newest_heartbeat is not None
    assert (world.now - tested.newest_heartbeat) == timedelta(minutes=30)


def data(world: World, name: str) -> Held:
    return world.target.at(BUCKET, f"minio-data/docs/{name}")


def drop(world: World, key: str) -> None:
    world.target.held[BUCKET].pop(key)


def empty(world: World, name: str) -> None:
    data(world, name).body = b""


def replace_with_new_version(world: World, name: str) -> None:
    drop(world, f"minio-data/docs/{name}")
    world.target.add(BUCKET, f"minio-data/docs/{name}", f"content of {name[-1]}".encode())


MUTANTS: list[tuple[str, Callable[[World], None], str, str]] = [
    ("flipped bit", lambda world: flip(data(world, "file-3")), "content", "docs/file-3"),
    ("flipped bit in parts", lambda world: flip(data(world, "large"), 33), "content", "docs/large"),
    (
        "flipped bit, long key",
        lambda world: flip(world.target.at(BUCKET, target_key("docs", LONG))),
        "content",
        "docs/kkk",
    ),
    ("missing object", lambda world: drop(world, "minio-data/docs/file-4"), "versions", "docs/file-4"),
    (
        "missing object, long key",
        lambda world: drop(world, target_key("docs", LONG)),
        "versions",
        "docs/kkk",
    ),
    ("empty object", lambda world: empty(world, "file-5"), "versions", "docs/file-5"),
    ("same content, other version", lambda world: replace_with_new_version(world, "file-6"), "versions", "docs/file-6"),
    (
        "no heartbeat",
        lambda world: drop(world, f"minio-data/{HEARTBEAT_BUCKET}/heartbeat.json"),
        "heartbeat",
        "no heartbeat",
    ),
]


@pytest.mark.parametrize(("mutate", "check", "name"), [mutant[1:] for mutant in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_mutant_fails_by_name(world: World, mutate: Callable[[World], None], check: str, name: str) -> None:
    taken = world.backup()
    mutate(world)
    assert name in failed(world.restore_test(taken))[check]


def test_a_stale_heartbeat_is_not_the_recorded_one(world: World) -> None:
    taken = world.backup()
    facts = {**taken.facts, "heartbeat": "2026-11-22T03:01:00.000000Z"}
    assert "heartbeat" in failed(world.restore_test(replace(taken, facts=facts)))["counts"]


def test_counts_that_differ_from_the_catalog_fail(world: World) -> None:
    taken = world.backup()
    facts = {**taken.facts, "objects": 14, "bytes.docs": 1}
    detail = failed(world.restore_test(replace(taken, facts=facts)))["counts"]
    assert "objects: 14 recorded, 13 in the manifest" in detail
    assert "bytes.docs: 1 recorded" in detail


def test_another_summary_than_the_catalogs_fails(world: World) -> None:
    taken = world.backup()
    inventory = taken.inventory
    assert inventory is not None
    assert "manifest" in failed(world.restore_test(replace(taken, inventory=replace(inventory, checksum="0"))))


@pytest.mark.parametrize("name", ["summary.json", "manifest-00000.jsonl.gz"])
def test_a_flipped_bit_in_the_manifest_is_an_error_that_names_it(world: World, name: str) -> None:
    taken = world.backup()
    key = f"metadata/minio/{taken.point}/{name}"
    flip(world.target.at(BUCKET, key), at=-40)
    with pytest.raises(VerificationError, match=key):
        world.restore_test(taken)


def test_a_digit_changed_in_the_summary_is_found(world: World) -> None:
    taken = world.backup()
    held = world.target.at(BUCKET, f"metadata/minio/{taken.point}/summary.json")
    held.body = (held.body or b"").replace(b'"removed": 0', b'"removed": 1')
    with pytest.raises(VerificationError, match="not what was written"):
        world.restore_test(taken)


def test_a_missing_part_is_an_error_that_names_it(world: World) -> None:
    taken = world.backup()
    key = f"metadata/minio/{taken.point}/manifest-00000.jsonl.gz"
    world.target.held[BUCKET].pop(key)
    with pytest.raises(VerificationError, match=f"{key} is missing"):
        world.restore_test(taken)


def test_a_manifest_that_names_fewer_objects_than_its_summary_is_an_error(world: World) -> None:
    """A full point replaced, and its increment left: both are whole, and do not belong together."""
    world.backup()
    second = world.backup(INCREMENTAL)
    other = World()
    for number in range(3):
        other.put(f"file-{number}", b"")
    full = other.backup()
    for key, history in other.target.held[BUCKET].items():
        if key.startswith(f"metadata/minio/{full.point}"):
            world.target.held[BUCKET][key] = history
    with pytest.raises(VerificationError, match=rf"{second.point} names 4 objects, its summary 13"):
        world.restore_test(second)


def test_an_increment_without_its_full_point_is_an_error(world: World) -> None:
    full = world.backup()
    second = world.backup(INCREMENTAL)
    world.target.held[BUCKET].pop(f"metadata/minio/{full.point}/summary.json")
    with pytest.raises(VerificationError, match=f"full point {full.point}"):
        world.restore_test(second)


def test_an_unknown_point_is_named(world: World) -> None:
    taken = world.backup()
    with pytest.raises(UsageError, match="20200101_000000"):
        world.restore_test(replace(taken, point="20200101_000000"))


def test_a_share_reads_each_object_once_in_so_many_days(world: World) -> None:
    for number in range(200):
        world.put(f"more/{number}", b"x")
    taken = world.backup()
    world.settings = replace(SETTINGS, verify_share=0.25)
    reads: dict[str, int] = {}

    def count(operation: str, _bucket: str, key: str) -> None:
        if operation == "open" and key.startswith(("minio-data/docs", "minio-long")):
            reads[key] = reads.get(key, 0) + 1

    world.target.hook = count
    per_day: list[int] = []
    for _ in range(4):
        before = sum(reads.values())
        assert failed(world.restore_test(taken)) == {}
        per_day.append(sum(reads.values()) - before)
        world.now += timedelta(days=1)
    assert len(reads) == 212
    assert set(reads.values()) == {1}
    assert all(30 < read < 80 for read in per_day), per_day


def test_a_test_that_read_nothing_proves_nothing(world: World) -> None:
    world.source.remove(HEARTBEAT_BUCKET, "heartbeat.json")
    for key in world.source.contents("docs"):
        world.source.remove("docs", key)
    world.put("only", b"one")
    taken = world.backup()
    world.settings = replace(SETTINGS, verify_share=0.01)
    outcomes = {True: 0, False: 0}
    for _ in range(100):
        outcomes["content" in failed(world.restore_test(taken))] += 1
        world.now += timedelta(days=1)
    assert outcomes == {True: 99, False: 1}


def test_the_source_is_not_needed(world: World) -> None:
    taken = world.backup()
    world.source.held.clear()
    assert failed(world.restore_test(taken)) == {}


def test_an_increments_objects_are_looked_at_through_its_full_point(world: World) -> None:
    world.backup()
    world.put("file-1", b"new")
    world.source.remove("docs", "file-2")
    taken = world.backup(INCREMENTAL)
    assert failed(world.restore_test(taken)) == {}
    flip(data(world, "file-9"))
    assert "docs/file-9" in failed(world.restore_test(taken))["content"]
