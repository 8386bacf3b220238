"""Production held against a point, and the import of what it lost."""

from datetime import timedelta

import pytest

from aivo_backup.errors import UsageError
from aivo_backup.stores.minio.plan import Change, Selection
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference, Differs
from tests.unit.minio.world import FULL, World


@pytest.fixture
def world() -> World:
    world = World()
    for key in ("a", "b", "c", "d", "e"):
        world.put(key, key.encode())
    return world


def test_lost_changed_and_newer_are_told_apart_and_what_is_equal_is_not_read(world: World) -> None:
    taken = world.backup(FULL)
    world.source.remove("docs", "a")
    world.put("b", b"changed since")
    world.source.at("docs", "c").body = b"changed, and no younger"
    world.source.at("docs", "c").etag = "other"
    world.source.at("docs", "c").last_modified -= timedelta(days=1)
    world.put("z", b"newer")
    world.source.create_bucket("later")
    world.put("k", b"newer", bucket="later")
    world.beat()
    operations: list[tuple[str, str]] = []
    world.source.hook = lambda operation, _bucket, key: operations.append((operation, key))
    listed: list[tuple[str, Differs, str]] = []
    found = world.store.differences(taken.point, each=lambda unit, how, name: listed.append((unit, how, name)))
    assert found == (
        Difference(unit="docs", lost=1, changed=2, newer=1, examples=("a", "b", "c", "z")),
        Difference(unit="later", newer=1, examples=("k",)),
    )
    assert sorted(listed) == [
        ("docs", Differs.CHANGED, "b"),
        ("docs", Differs.CHANGED, "c"),
        ("docs", Differs.LOST, "a"),
        ("docs", Differs.NEWER, "z"),
        ("later", Differs.NEWER, "k"),
    ]
    assert not {key for operation, key in operations if operation in ("open", "info")} & {"d", "e"}
    assert not {operation for operation, _ in operations} & {"put", "delete", "create_bucket", "complete"}


def test_what_was_lost_is_imported_and_nothing_else(world: World) -> None:
    taken = world.backup(FULL)
    world.source.remove("docs", "a")
    world.source.remove("docs", "e")
    world.put("b", b"changed since")
    plan = world.store.import_lost(taken.point, Selection(bucket="docs"))
    assert plan.changes == {Change.CREATE: 2, Change.KEEP_OTHER: 1, Change.EQUAL: 2}
    assert world.source.contents("docs")["b"][0] == b"changed since"
    assert world.store.differences(taken.point, ["docs"]) == (Difference(unit="docs", changed=1, examples=("b",)),)


def test_a_bucket_that_is_gone_is_lost_whole_and_examples_are_bounded(world: World) -> None:
    for number in range(30):
        world.put(f"n{number:02d}", b"")
    taken = world.backup(FULL)
    world.source.held.pop("docs")
    (difference,) = world.store.differences(taken.point, ["docs"])
    assert (difference.gone, difference.lost, difference.newer) == (True, 35, 0)
    assert len(difference.examples) == EXAMPLES_BOUND
    assert "docs" not in world.source.buckets()


def test_a_bucket_that_nobody_has_is_named(world: World) -> None:
    taken = world.backup(FULL)
    with pytest.raises(UsageError, match="has a bucket nope: the point holds aivo-heartbeat, docs"):
        world.store.differences(taken.point, ["docs", "nope"])
