"""Restores: what is asked for comes back, and nothing else is touched."""

from dataclasses import replace
from datetime import timedelta

import pytest

from aivo_backup.errors import RefusedError, UnreachableError, UsageError, VerificationError
from aivo_backup.stores.minio.objects import Attributes
from aivo_backup.stores.minio.plan import Change, PlannedChange, RestoreRequest, Selection
from tests.unit.minio.memory import MemoryStore, no_fault
from tests.unit.minio.world import BUCKET, FULL, INCREMENTAL, SETTINGS, World

ATTRIBUTES = Attributes(content_type="text/plain", metadata={"owner": "me"}, headers={"cache-control": "max-age=60"})


@pytest.fixture
def world() -> World:
    world = World()
    for key in ("a/1", "a/2", "a/b/1", "b/1", "b/2.txt", "c*d", "large"):
        body = b"0123456789" * 5 if key == "large" else key.encode()
        world.put(key, body, ATTRIBUTES)
    return world


def test_one_key_comes_back_with_its_attributes(world: World) -> None:
    taken = world.backup()
    before = world.source.contents("docs")
    world.put("a/1", b"overwritten by mistake")
    world.source.remove("docs", "a/2")
    plan = world.restore(taken.point, world.source, key="a/2")
    assert plan.changes == {Change.CREATE: 1}
    assert world.source.contents("docs")["a/2"] == before["a/2"]
    assert world.source.contents("docs")["a/1"][0] == b"overwritten by mistake"


@pytest.mark.parametrize(
    ("selection", "keys"),
    [
        ({"prefix": "a/"}, {"a/1", "a/2", "a/b/1"}),
        ({"glob": "*/1"}, {"a/1", "a/b/1", "b/1"}),
        ({"glob": "b/?.txt"}, {"b/2.txt"}),
        ({"glob": "c[*]d"}, {"c*d"}),
        ({"key": "c*d"}, {"c*d"}),
        ({}, {"a/1", "a/2", "a/b/1", "b/1", "b/2.txt", "c*d", "large"}),
    ],
)
def test_a_selection_restores_just_that(world: World, selection: dict[str, str], keys: set[str]) -> None:
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    plan = world.restore(taken.point, elsewhere, target_bucket="copy", **selection)  # pyright: ignore[reportArgumentType] - the strings among the options
    assert plan.creates_bucket
    assert elsewhere.contents("copy") == {
        key: value for key, value in world.source.contents("docs").items() if key in keys
    }


def test_newer_objects_are_kept_unless_told(world: World) -> None:
    taken = world.backup()
    world.put("a/1", b"newer")
    kept = world.restore(taken.point, world.source)
    assert kept.changes == {Change.EQUAL: 6, Change.KEEP_NEWER: 1}
    assert world.source.contents("docs")["a/1"][0] == b"newer"
    replaced = world.restore(taken.point, world.source, overwrite_newer=True)
    assert replaced.changes == {Change.EQUAL: 6, Change.REPLACE_NEWER: 1}
    assert world.source.contents("docs")["a/1"] == (b"a/1", ATTRIBUTES)


def test_older_objects_are_replaced(world: World) -> None:
    elsewhere = MemoryStore(name="elsewhere")
    elsewhere.create_bucket("docs")
    elsewhere.add("docs", "a/1", b"from long ago")
    elsewhere.at("docs", "a/1").last_modified -= timedelta(days=1)
    plan = world.restore(world.backup().point, elsewhere, key="a/1")
    assert plan.changes == {Change.REPLACE: 1}
    assert elsewhere.contents("docs")["a/1"][0] == b"a/1"


def test_extra_objects_are_kept_unless_exactness_is_asked_for(world: World) -> None:
    taken = world.backup()
    world.put("a/later", b"made after the point")
    world.put("z", b"outside the selection")
    plan = world.restore(taken.point, world.source, prefix="a/")
    assert plan.changes == {Change.EQUAL: 3, Change.KEEP_EXTRA: 1}
    plan = world.restore(taken.point, world.source, prefix="a/", exact=True)
    assert plan.changes == {Change.EQUAL: 3, Change.REMOVE: 1}
    assert "a/later" not in world.source.contents("docs")
    assert "z" in world.source.contents("docs")


def test_every_point_comes_back_exactly_also_backwards(world: World) -> None:
    held = [(world.backup(FULL), world.source.contents("docs"))]
    world.put("a/1", b"second")
    world.source.remove("docs", "b/1")
    held.append((world.backup(INCREMENTAL), world.source.contents("docs")))
    world.put("b/1", b"third")
    world.put("new", b"third")
    held.append((world.backup(INCREMENTAL), world.source.contents("docs")))
    for taken, contents in (*held, *reversed(held)):
        world.restore(taken.point, world.source, exact=True, overwrite_newer=True)
        assert world.source.contents("docs") == contents


def test_a_plan_changes_nothing_and_says_what_would(world: World) -> None:
    taken = world.backup()
    world.source.remove("docs", "a/1")
    world.put("a/2", b"newer")
    world.put("extra", b"extra")
    writes, contents = world.source.writes, world.source.contents("docs")
    world.source.versioned = False
    request = RestoreRequest(point=taken.point, selection=Selection(bucket="docs"), overwrite_newer=True, exact=True)
    seen: list[PlannedChange] = []
    plan = world.store.plan_restore(request, each=seen.append)
    assert plan.changes == {Change.CREATE: 1, Change.REPLACE_NEWER: 1, Change.REMOVE: 1, Change.EQUAL: 5}
    assert [(change.change, change.key) for change in plan.examples] == [
        (Change.CREATE, "a/1"),
        (Change.REPLACE_NEWER, "a/2"),
        (Change.REMOVE, "extra"),
    ]
    assert len(seen) == 8
    assert plan.bytes_written == 6
    assert plan.lost_for_good == 2
    assert (world.source.writes, world.source.contents("docs")) == (writes, contents)
    world.source.versioned = True
    assert world.store.plan_restore(request).lost_for_good == 0


def test_a_plan_makes_no_bucket(world: World) -> None:
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    request = RestoreRequest(point=taken.point, selection=Selection(bucket="docs"))
    plan = world.store.plan_restore(request, to=elsewhere)
    assert (plan.creates_bucket, plan.changes) == (True, {Change.CREATE: 7})
    assert elsewhere.held == {}


def test_an_interrupted_restore_goes_on_where_it_was(world: World) -> None:
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    left = [4]

    def die(operation: str, _bucket: str, _key: str) -> None:
        if operation in ("put", "complete"):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

    elsewhere.hook = die
    with pytest.raises(KeyboardInterrupt):
        world.restore(taken.point, elsewhere)
    elsewhere.hook = no_fault
    done = len(elsewhere.contents("docs"))
    plan = world.restore(taken.point, elsewhere)
    assert plan.changes == {Change.EQUAL: done, Change.CREATE: 7 - done}
    assert done > 0
    assert elsewhere.contents("docs") == world.source.contents("docs")
    assert elsewhere.uploads == {}


def test_equal_bytes_under_another_etag_are_equal_and_other_metadata_is_not(world: World) -> None:
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    world.settings = replace(SETTINGS, part_bytes=16)
    world.restore(taken.point, elsewhere)
    elsewhere.at("docs", "large").etag = "of-other-parts-2"
    assert world.restore(taken.point, elsewhere).changes == {Change.EQUAL: 7}
    elsewhere.at("docs", "large").attributes = Attributes(content_type="other")
    assert world.restore(taken.point, elsewhere, overwrite_newer=True).changes == {
        Change.EQUAL: 6,
        Change.REPLACE: 1,
    }
    elsewhere.at("docs", "large").body = b"X123456789" * 5
    elsewhere.at("docs", "large").etag = "same-size"
    plan = world.restore(taken.point, elsewhere, overwrite_newer=True)
    assert plan.changes[Change.REPLACE] == 1
    assert elsewhere.contents("docs") == world.source.contents("docs")


@pytest.mark.parametrize("name", ["a/1", "large"])
def test_a_damaged_object_is_named_not_written_and_the_others_are_restored(world: World, name: str) -> None:
    taken = world.backup()
    held = world.target.at(BUCKET, f"minio-data/docs/{name}")
    held.body = b"X" + (held.body or b"")[1:]
    world.put("extra", b"extra")
    for key in ("a/1", "a/2", "large"):
        world.source.remove("docs", key)
    with pytest.raises(VerificationError, match=f"1 objects of {taken.point} are not what was backed up: {name} "):
        world.restore(taken.point, world.source, exact=True)
    contents = world.source.contents("docs")
    assert name not in contents
    assert {"a/1", "a/2", "large"} - {name} <= set(contents)
    assert "extra" in contents, "nothing is removed by a restore that failed"
    assert world.source.uploads == {}


def test_a_version_that_is_gone_is_named(world: World) -> None:
    taken = world.backup()
    world.target.held[BUCKET].pop("minio-data/docs/b/1")
    with pytest.raises(VerificationError, match=r"b/1 .*gone from the backup"):
        world.restore(taken.point, MemoryStore())


@pytest.mark.parametrize("selection", [{"key": "a/9"}, {"prefix": "q"}, {"glob": "*.pdf"}])
def test_what_the_point_lacks_is_refused_and_nothing_changes(world: World, selection: dict[str, str]) -> None:
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    with pytest.raises(UsageError, match=f"{taken.point} has nothing in docs"):
        world.restore(taken.point, elsewhere, exact=True, **selection)  # pyright: ignore[reportArgumentType] - as above
    assert elsewhere.held == {}


def test_an_unknown_bucket_or_point_is_refused(world: World) -> None:
    taken = world.backup()
    with pytest.raises(UsageError, match=r"no bucket nope: it holds aivo-heartbeat, docs"):
        world.store.restore(RestoreRequest(point=taken.point, selection=Selection(bucket="nope")))
    with pytest.raises(UsageError, match="20200101_000000"):
        world.restore("20200101_000000", world.source)
    with pytest.raises(UsageError, match="exclude each other"):
        Selection(bucket="docs", prefix="a", key="b")


def test_an_empty_bucket_comes_back_too(world: World) -> None:
    world.source.create_bucket("empty")
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    world.store.restore(RestoreRequest(point=taken.point, selection=Selection(bucket="empty")), to=elsewhere)
    assert elsewhere.buckets() == ("empty",)


def test_the_newest_point_at_a_time_is_found(world: World) -> None:
    first = world.backup()
    between = world.now + timedelta(minutes=10)
    second = world.backup()
    points = world.store.points
    assert points.at(between).summary.point == first.point
    assert points.at(world.now).summary.point == second.point
    with pytest.raises(UsageError, match="at or before"):
        points.at(between - timedelta(days=1))


def test_held_points_tell_what_the_catalog_needs(world: World) -> None:
    full = world.backup()
    incremental = world.backup(INCREMENTAL)
    held = world.store.held_points()
    assert [(point.point, point.kind, point.depends_on) for point in held] == [
        (full.point, FULL, ()),
        (incremental.point, INCREMENTAL, (full.point,)),
    ]
    assert [(point.facts, point.inventory) for point in held] == [
        (full.facts, full.inventory),
        (incremental.facts, incremental.inventory),
    ]


def test_what_is_written_while_a_restore_runs_is_kept(world: World) -> None:
    """Between the listing and the write: a key that was absent, and one that was older."""
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")
    elsewhere.create_bucket("docs")
    elsewhere.add("docs", "a/2", b"from long ago")
    elsewhere.at("docs", "a/2").last_modified -= timedelta(days=1)

    def application(operation: str, bucket: str, key: str) -> None:
        if (operation, key) in {("put", "a/1"), ("put", "a/2"), ("complete", "large")}:
            elsewhere.hook = no_fault if key == "large" else application
            elsewhere.add(bucket, key, b"the application's")

    elsewhere.hook = application
    plan = world.restore(taken.point, elsewhere)
    assert plan.changes == {Change.KEEP_NEWER: 3, Change.CREATE: 4}
    assert {key for key, (body, _) in elsewhere.contents("docs").items() if body == b"the application's"} == {
        "a/1",
        "a/2",
        "large",
    }


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_elses(world: World) -> None:
    taken = world.backup()
    elsewhere = MemoryStore(name="elsewhere")

    def lose_answer(operation: str, bucket: str, key: str) -> None:
        if (operation, key) == ("put", "a/1"):
            elsewhere.hook = no_fault
            elsewhere.add(bucket, key, b"a/1", attributes=ATTRIBUTES)
            raise UnreachableError("the answer did not come")

    elsewhere.hook = lose_answer
    world.hasty = False
    assert world.restore(taken.point, elsewhere).changes == {Change.CREATE: 7}


def test_only_missing_objects_are_written_when_asked_so(world: World) -> None:
    taken = world.backup()
    world.source.remove("docs", "a/1")
    world.put("a/2", b"newer")
    world.source.at("docs", "b/1").body = b"from long ago"
    world.source.at("docs", "b/1").last_modified -= timedelta(days=1)
    plan = world.restore(taken.point, world.source, only_missing=True)
    assert plan.changes == {Change.CREATE: 1, Change.KEEP_OTHER: 2, Change.EQUAL: 4}
    assert world.source.contents("docs")["a/1"] == (b"a/1", ATTRIBUTES)
    with pytest.raises(UsageError, match="exclude each other"):
        world.restore(taken.point, world.source, only_missing=True, exact=True)


def outlived(world: World) -> tuple[str, str]:
    """Two points; of the first one S3 has expired what the second one superseded, 31 days later."""
    first = world.backup()
    for key in ("a/1", "large"):
        world.put(key, b"newer")
    world.source.remove("docs", "b/1")
    second = world.backup(accept_deletions=True)
    world.now += timedelta(days=31)
    for key in ("a/1", "large", "b/1"):
        # All but the newest version, as the bucket's lifecycle does.
        del world.target.held[BUCKET][f"minio-data/docs/{key}"][:-1]
    return first.point, second.point


def test_of_a_point_past_its_retention_what_has_expired_is_told_before_anything_changes(world: World) -> None:
    first, second = outlived(world)
    elsewhere = MemoryStore(name="elsewhere")
    request = RestoreRequest(point=first, selection=Selection(bucket="docs"))
    plan = world.store.plan_restore(request, to=elsewhere)
    assert plan.changes == {Change.CREATE: 4, Change.GONE: 3}
    with pytest.raises(RefusedError, match=r"past its retention, and 3 objects of it have expired: a/1, b/1, large"):
        world.store.restore(request, to=elsewhere)
    assert not elsewhere.held
    done = world.store.restore(replace(request, partial=True), to=elsewhere)
    assert done.changes == plan.changes
    assert len(elsewhere.contents("docs")) == 4
    assert world.restore(second, MemoryStore(name="other")).changes == {Change.CREATE: 6}
    assert world.restore(first, MemoryStore(name="some"), prefix="a/2").changes == {Change.CREATE: 1}


def test_what_production_still_has_of_an_old_point_is_not_asked_for(world: World) -> None:
    """Nothing changed at the source: every version is the current one, and none has expired."""
    first = world.backup()
    world.now += timedelta(days=31)
    plan = world.store.plan_restore(RestoreRequest(point=first.point, selection=Selection(bucket="docs")))
    assert plan.changes == {Change.EQUAL: 7}
    assert world.restore(first.point, MemoryStore(name="elsewhere")).changes == {Change.CREATE: 7}
