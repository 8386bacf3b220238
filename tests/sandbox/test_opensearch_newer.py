"""What production holds that a point does not, and the other way round: counted, compared, and guarded, on a real
cluster."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.errors import (
    BackupError,
    ConfigurationError,
    RefusedError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from aivo_backup.stores.opensearch import RestoreMode, RestoreRequest, documents
from aivo_backup.stores.opensearch.cluster import settings_of
from aivo_backup.stores.opensearch.newer import Newer
from aivo_backup.stores.port import Difference, Stopwatch, silent
from sandbox.data.snapshot_files import flip_byte
from sandbox.state import Sandbox
from tests.sandbox.opensearch_world import DOCUMENTS, World, made


@pytest.fixture(scope="module")
def backed_up(sandbox: Sandbox) -> Generator[tuple[World, RecoveryPoint]]:
    """One cluster and point; each test takes indices of its own from it."""
    with made(sandbox) as one:
        yield one, one.backup()


def newer(world: World, point: RecoveryPoint, *indices: str) -> dict[str, Newer]:
    plan = world.store.plan_restore(RestoreRequest(snapshot=point.id, indices=indices), now=datetime.now(UTC))
    return {each.index: each for each in world.store.newer_than(plan, point)}


def copied(world: World, point: RecoveryPoint, index: str, prefix: str) -> str:
    world.restore(
        point, index, mode=RestoreMode.RENAMED, rename_pattern="^", rename_replacement=f"{prefix}-{world.prefix}-"
    )
    return f"{prefix}-{world.prefix}-{index}"


def state(world: World) -> dict[str, Any]:
    """What no refusal may change."""
    return {name: settings_of(world.cluster, name) for name in world.names()}


def test_newer_documents_are_counted_by_sequence_number_and_then_compared_by_id(
    backed_up: tuple[World, RecoveryPoint],
) -> None:
    world, point = backed_up
    shards = newer(world, point, world.packages)[world.packages]
    assert (shards.written, shards.present, shards.held) == (0, DOCUMENTS, DOCUMENTS)
    world.fill(world.packages, DOCUMENTS, 7)  # new
    for name in ("d1", "d700", "d1999"):
        world.client.index(index=world.packages, id=name, body={"number": -1})  # changed
    for name in ("d2", "d900"):
        world.client.delete(index=world.packages, id=name, params={"refresh": "true"})  # gone
    # The same id under a routing of its own is another document.
    routed = {"routing": "other", "refresh": "true"}
    world.cluster.put(world.packages, "_doc", "d5", what="test", body={"number": 5}, params=routed)

    found = newer(world, point, world.packages)[world.packages]
    assert (found.written, found.present, found.held) == (7 + 3 + 1, DOCUMENTS + 7 - 2 + 1, DOCUMENTS)
    copy = copied(world, point, world.packages, "one")
    difference = documents.compare(world.cluster, copy=copy, live=world.packages, unit=world.packages)
    assert difference == replace(
        Difference(unit=world.packages, lost=2, changed=3, newer=8), examples=difference.examples
    )
    assert set(difference.examples) == {
        "d2",
        "d900",
        "d1",
        "d700",
        "d1999",
        "d5",
        *(f"d{DOCUMENTS + n}" for n in range(7)),
    }
    assert set(difference.examples[:2]) == {"d2", "d900"}
    written = list(documents.written_after(world.cluster, copy=copy, live=world.packages))
    assert len(written) == 11
    assert [each.source for each in written if each.key == ("d5", "other")] == [{"number": 5}]

    assert documents.bring_back(world.cluster, copy=copy, live=world.packages) == 2
    assert documents.bring_back(world.cluster, copy=copy, live=world.packages) == 0
    again = documents.compare(world.cluster, copy=copy, live=world.packages, unit="x")
    assert (again.lost, again.changed, again.newer) == (0, 3, 8)
    assert documents.put(world.cluster, copy, written) == documents.Put(written=8, kept=3)
    assert documents.put(world.cluster, copy, written, overwrite=True) == documents.Put(written=11, kept=0)
    assert documents.compare(world.cluster, copy=copy, live=world.packages, unit="x").equal


def test_an_index_that_was_made_anew_or_is_gone_is_not_told_by_sequence_numbers(world: World) -> None:
    point = world.backup()
    world.cluster.delete(world.people, what="test")
    assert newer(world, point, world.people) == {}
    assert documents.compare(world.cluster, copy=world.packages, live=world.people, unit="x").lost == DOCUMENTS
    world.fill(world.people, 0, 21)
    told = newer(world, point, world.people)[world.people]
    assert (told.written, told.present, told.held) == (None, 21, 20)
    assert "made anew or restored since" in told.line()
    # Points of older versions do not say what the shards' histories were.
    bare = replace(point, facts={name: fact for name, fact in point.facts.items() if not name.startswith("shards.")})
    assert newer(world, bare, world.packages)[world.packages].written is None


def test_half_an_index_is_never_compared_or_counted(backed_up: tuple[World, RecoveryPoint]) -> None:
    world, _ = backed_up
    half = f"{world.prefix}-half"
    world.cluster.put(
        half,
        what="test",
        body={"settings": {"index.routing.allocation.require.rack": "nowhere", "number_of_replicas": 0}},
        params={"wait_for_active_shards": "0"},
    )
    for copy, live in ((world.people, half), (half, world.people)):
        with pytest.raises(UnreachableError, match=f"a shard of {half} is down"):
            documents.compare(world.cluster, copy=copy, live=live, unit="x")
    # Should it go down in between, the answer of the others is not taken for the whole.
    with pytest.raises(UnreachableError, match="only 1 of 2 shards"):
        documents.number_of(world.cluster, f"{world.people},{half}")
    world.cluster.delete(half, what="test")


def test_a_document_that_the_mapping_refuses_is_named(backed_up: tuple[World, RecoveryPoint]) -> None:
    world, _ = backed_up
    wrong = documents.Document(id="odd", source={"number": "no number"})
    with pytest.raises(BackupError, match=f"{world.people} refused the document odd: failed to parse field"):
        documents.put(world.cluster, world.people, [wrong])


@pytest.mark.parametrize("block", ["read_only", "read_only_allow_delete"])
def test_a_read_only_index_is_refused_before_anything_is_touched(
    backed_up: tuple[World, RecoveryPoint], block: str
) -> None:
    world, point = backed_up
    world.cluster.put(world.people, "_settings", what="test", body={f"index.blocks.{block}": "true"})
    before = state(world)
    try:
        with pytest.raises(RefusedError, match=f"index.blocks.{block}"):
            world.restore(point, world.people)
        assert state(world) == before
    finally:
        world.cluster.put(world.people, "_settings", what="test", body={f"index.blocks.{block}": None})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"cluster.blocks.create_index": "true"}, "takes no new index .cluster.blocks.create_index"),
        (
            {
                "cluster.routing.allocation.disk.threshold_enabled": "true",
                "cluster.routing.allocation.disk.watermark.low": "900tb",
                "cluster.routing.allocation.disk.watermark.high": "2b",
                "cluster.routing.allocation.disk.watermark.flood_stage": "1b",
            },
            r"0\.0 GB free below the watermark of 900tb: free or add disk space",
        ),
    ],
)
def test_a_cluster_without_room_is_not_restored_into(
    backed_up: tuple[World, RecoveryPoint], settings: Mapping[str, str], match: str
) -> None:
    world, point = backed_up
    before = state(world)
    world.cluster.put("_cluster", "settings", what="test", body={"transient": settings})
    try:
        with pytest.raises(RefusedError, match=match):
            world.restore(point, world.people)
    finally:
        world.cluster.put("_cluster", "settings", what="test", body={"transient": dict.fromkeys(settings)})
    assert state(world) == before


def test_system_indices_are_left_alone(backed_up: tuple[World, RecoveryPoint]) -> None:
    world, _ = backed_up
    system = f".{world.prefix}-plugin"
    world.fill(system, 0, 1)
    world.cluster.put(
        "_snapshot", world.settings.repository, f"{world.prefix}-foreign", what="test",
        body={"indices": [system, world.people]}, params={"wait_for_completion": "true"},
    )  # fmt: skip
    foreign = RestoreRequest(snapshot=f"{world.prefix}-foreign")
    plan = world.store.plan_restore(foreign, now=datetime.now(UTC))
    assert [index.source for index in plan.indices] == [world.people]
    for wanted, kind in ((system, RefusedError), (".*-plugin", UsageError)):
        with pytest.raises(kind, match=r"system index|holds no index"):
            world.store.plan_restore(replace(foreign, indices=(wanted,)), now=datetime.now(UTC))


@pytest.fixture
def world(sandbox: Sandbox) -> Generator[World]:
    with made(sandbox) as one:
        yield one


def test_a_closed_index_is_restored_and_stays_closed_when_that_fails(world: World) -> None:
    # A place that no node offers any more: its shards stay where they are, and so does the copy of them.
    places = {"index.routing.allocation.require.box": "old"}
    point = world.backup()
    world.fill(world.people, 20, 2)
    world.cluster.put(world.people, "_settings", what="test", body={**places, "index.blocks.write": "true"})
    world.cluster.post(world.people, "_close", what="test")
    names = world.names()
    request = RestoreRequest(snapshot=point.id, indices=(world.people,))
    plan = world.store.plan_restore(request, now=datetime.now(UTC))
    assert [index.closed for index in plan.indices] == [True]
    assert world.store.newer_than(plan, point) == ()
    damaged = list(world.location.glob("indices/*/meta-*.dat"))
    for file in damaged:
        flip_byte(file)
    with pytest.raises(BackupError, match=r"meta-.*\.dat"):
        world.restore(point, world.people)
    assert world.names() == names
    held = settings_of(world.cluster, world.people)
    assert (held["index.verified_before_close"], held["index.blocks.write"]) == ("true", "true")

    for file in damaged:
        flip_byte(file)
    done = world.store.restore(request, now=datetime.now(UTC), stopwatch=Stopwatch(), progress=silent)
    assert (world.count(world.people), world.count(done.indices[0].set_aside)) == (20, 22)
    # Which nodes it is for is said by the cluster; the block belonged to the state that is set aside.
    held = settings_of(world.cluster, world.people)
    assert held["index.routing.allocation.require.box"] == "old"
    assert "index.blocks.write" not in held
    assert f"{world.people}: lies where it did, index.routing.allocation.require.box old" in done.adapted


def test_newer_documents_are_rescued_before_a_restore_and_put_back_after_it(world: World, tmp_path: Path) -> None:
    point = world.backup()
    world.fill(world.people, 20, 2)  # new
    world.cluster.put(world.people, "_doc", "r3", what="test", body={"number": 33}, params={"routing": "other"})
    world.client.index(index=world.people, id="d1", body={"number": 11}, params={"refresh": "true"})
    names, folder = world.names(), tmp_path / "rescue"
    request = RestoreRequest(snapshot=point.id, indices=(world.people, world.packages))
    now = datetime.now(UTC)
    plan = world.store.plan_restore(request, now=now)
    lines: list[str] = []

    bundle = world.store.rescue(plan, point, folder, now=now, stopwatch=Stopwatch(), progress=lines.append)

    assert (bundle.units, bundle.items) == ((world.people,), 4)
    assert world.names() == names
    assert any("copies of 1 indices" in line for line in lines)  # nothing was written to the other one
    with pytest.raises(RefusedError, match="is not empty"):
        world.store.rescue(plan, point, folder, now=now, stopwatch=Stopwatch(), progress=silent)
    world.restore(point, world.people)
    assert world.count(world.people) == 20

    back = world.store.bring_back(folder, overwrite=False, progress=silent)
    assert [(each.written, each.kept) for each in back] == [(3, 1)]
    assert world.client.get(index=world.people, id="d1")["_source"]["number"] == 1
    back = world.store.bring_back(folder, overwrite=True, progress=silent)
    assert [(each.written, each.kept) for each in back] == [(4, 0)]
    assert world.client.get(index=world.people, id="d1")["_source"]["number"] == 11
    assert world.client.get(index=world.people, id="r3", params={"routing": "other"})["_source"]["number"] == 33
    assert world.count(world.people) == 23

    (file,) = folder.glob("*.ndjson")
    flip_byte(file)
    with pytest.raises(VerificationError, match=f"{file.name} of the bundle"):
        world.store.bring_back(folder, overwrite=True, progress=silent)
    flip_byte(file)
    world.cluster.delete(world.people, what="test")
    with pytest.raises(RefusedError, match=f"there is no index {world.people}"):
        world.store.bring_back(folder, overwrite=True, progress=silent)
    assert world.people not in world.names()
    with pytest.raises(ConfigurationError, match="holds no rescued documents"):
        world.store.bring_back(tmp_path, overwrite=True, progress=silent)
