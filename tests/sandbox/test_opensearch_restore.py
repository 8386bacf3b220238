"""Restores real indices on the sandbox's OpenSearch, the way an operator does."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.errors import BackupError, RefusedError, UsageError, VerificationError
from aivo_backup.stores.opensearch import RestoreMode, RestoreRequest
from aivo_backup.stores.opensearch.cluster import settings_of
from aivo_backup.stores.port import Stopwatch, silent
from sandbox.data.snapshot_files import data_files, flip_byte
from sandbox.state import Sandbox
from tests.sandbox.opensearch_world import DOCUMENTS, SHARDS, World, failed, made


@pytest.fixture
def world(sandbox: Sandbox) -> Generator[World]:
    with made(sandbox) as one:
        yield one


@pytest.fixture(scope="module")
def backed_up(sandbox: Sandbox) -> Generator[tuple[World, RecoveryPoint]]:
    """One point for the tests that change nothing."""
    with made(sandbox) as one:
        yield one, one.backup()


def test_a_deleted_index_comes_back_whole_with_replicas_that_fit(world: World) -> None:
    point = world.backup()
    world.cluster.delete(world.packages, what="test")
    lines: list[str] = []

    request = RestoreRequest(snapshot=point.id, indices=(world.packages,))
    done = world.store.restore(request, now=datetime.now(UTC), stopwatch=Stopwatch(), progress=lines.append)

    assert [(item.target, item.counted.documents, item.set_aside) for item in done.indices] == [
        (world.packages, DOCUMENTS, "")
    ]
    assert done.adapted == (f"{world.packages}: 0 replicas instead of 1",)
    assert world.cluster.get("_cluster", "health", world.packages, what="test")["status"] == "green"
    assert world.client.get(index=world.packages, id="d7")["_source"]["number"] == 7
    assert any(f"{world.packages}[" in line or "2 of 2 shards" in line for line in lines)


def test_in_place_brings_the_old_state_back_and_keeps_the_present_one(world: World) -> None:
    point = world.backup()
    world.fill(world.people, 20, 3)
    world.client.delete(index=world.people, id="d0", params={"refresh": "true"})

    done = world.restore(point, world.people)

    assert world.count(world.people) == done.documents == 20
    kept = done.indices[0].set_aside
    assert kept.startswith("aside-")
    assert kept.endswith(world.people)
    assert world.count(kept) == 22
    world.fill(world.people, 50, 1)  # writes are allowed again
    assert world.count(world.people) == 21


def test_a_rename_restores_a_part_beside_the_live_indices(world: World) -> None:
    point = world.backup()
    world.fill(world.people, 20, 3)

    done = world.restore(
        point,
        f"{world.prefix}-pe*",
        mode=RestoreMode.RENAMED,
        rename_pattern=f"{world.prefix}-(.+)",
        rename_replacement=f"restored-{world.prefix}-$1",
    )

    assert [item.target for item in done.indices] == [f"restored-{world.prefix}-people"]
    assert (world.count(f"restored-{world.prefix}-people"), world.count(world.people)) == (20, 23)
    with pytest.raises(RefusedError, match="exists already"):
        world.restore(point, world.people, mode=RestoreMode.RENAMED, rename_pattern="^", rename_replacement="restored-")


def test_an_alias_moves_to_the_restored_index_and_the_old_one_stays(world: World) -> None:
    alias = f"{world.prefix}-alias"
    world.client.indices.put_alias(
        index=world.people, name=alias, body={"filter": {"range": {"number": {"lt": 10}}}, "is_write_index": True}
    )
    point = world.backup()
    world.client.delete(index=world.people, id="d1", params={"refresh": "true"})

    done = world.restore(point, world.people, mode=RestoreMode.ALIAS_SWAP)

    target = done.indices[0].target
    assert done.indices[0].aliases == (alias,)
    where: dict[str, Any] = world.client.indices.get_alias(name=alias)
    assert list(where) == [target]
    assert where[target]["aliases"][alias]["is_write_index"] is True
    assert world.count(alias) == 10  # the filter moved too
    assert (world.count(target), world.count(world.people)) == (20, 19)
    with pytest.raises(RefusedError, match="no alias"):
        world.restore(point, world.people, mode=RestoreMode.ALIAS_SWAP)


def test_an_index_that_is_down_is_not_replaced_but_its_alias_can_move(world: World, tmp_path: Path) -> None:
    point = world.backup()
    # No node has this attribute: the primary finds no place.
    nowhere = {"index.routing.allocation.require.rack": "nowhere"}
    world.cluster.delete(world.people, what="test")
    world.cluster.put(
        world.people,
        what="test",
        body={"settings": nowhere, "aliases": {f"{world.prefix}-alias": {}}},
        params={"wait_for_active_shards": "0"},
    )
    with pytest.raises(RefusedError, match=f"the old state of {world.people} cannot be kept: it is red"):
        world.restore(point, world.people)
    request = RestoreRequest(snapshot=point.id, indices=(world.people,), mode=RestoreMode.ALIAS_SWAP)
    now = datetime.now(UTC)
    plan = world.store.plan_restore(request, now=now)
    assert (plan.indices[0].uncountable, world.store.newer_than(plan, point)) == ("down", ())
    with pytest.raises(RefusedError, match="is down: what it holds newer cannot be exported"):
        world.store.rescue(plan, point, tmp_path / "x", now=now, stopwatch=Stopwatch(), progress=silent)
    assert not (tmp_path / "x").exists()
    world.restore(point, world.people, mode=RestoreMode.ALIAS_SWAP)
    assert world.count(f"{world.prefix}-alias") == 20


@pytest.mark.parametrize(
    ("kind", "match", "wanted"),
    [
        (UsageError, "there is no snapshot nope: known: snapshot_", {"snapshot": "nope"}),
        (UsageError, "holds no index nix: it holds: .*-packages", {"indices": ("nix",)}),
        (UsageError, "needs a pattern", {"mode": RestoreMode.RENAMED}),
        (
            UsageError,
            "restored-\\$1",
            {"mode": RestoreMode.RENAMED, "rename_pattern": "(", "rename_replacement": "x"},
        ),
        (
            RefusedError,
            "out of two indices",
            {"mode": RestoreMode.RENAMED, "rename_pattern": ".+", "rename_replacement": "x"},
        ),
        (
            RefusedError,
            "leaves .* as it is",
            {"mode": RestoreMode.RENAMED, "rename_pattern": "zzz", "rename_replacement": "x"},
        ),
        (RefusedError, "no alias points to", {"mode": RestoreMode.ALIAS_SWAP}),
    ],
)
def test_a_restore_that_cannot_be_right_is_refused_in_one_line_and_changes_nothing(
    backed_up: tuple[World, RecoveryPoint], kind: type[BackupError], match: str, wanted: Mapping[str, Any]
) -> None:
    world, point = backed_up
    before = {name: world.count(name) for name in world.names()}

    with pytest.raises(kind, match=match) as caught:
        world.store.restore(
            replace(RestoreRequest(snapshot=point.id), **wanted),
            now=datetime.now(UTC),
            stopwatch=Stopwatch(),
            progress=silent,
        )

    assert "\n" not in str(caught.value)
    assert {name: world.count(name) for name in world.names()} == before


def test_a_restore_from_a_damaged_snapshot_fails_by_name_and_the_old_state_is_back(world: World) -> None:
    point = world.backup()
    flip_byte(data_files(world.location, str(point.facts["snapshot_uuid"]))[0])
    # Made anew, for in place OpenSearch would take the undamaged segments that the closed index still has.
    world.cluster.delete(world.packages, what="test")
    world.cluster.delete(world.people, what="test")
    alias = {"alias": {"filter": {"term": {"number": 3}}, "is_write_index": True}}
    settings = {**SHARDS["settings"], "index.routing.allocation.exclude.box": "old"}
    world.cluster.put(world.packages, what="test", body={"settings": settings, "aliases": alias})
    world.fill(world.packages, 0, 5)
    before = world.names()

    with pytest.raises(VerificationError, match=rf"{world.packages}\[\d\] _.*checksum failed") as caught:
        world.restore(point, world.packages, world.people)

    assert str(caught.value).endswith(f"whole and there: {world.people}")
    assert world.names() == {*before, world.people}
    assert world.client.indices.get_alias(index=world.packages)[world.packages]["aliases"] == alias
    held = settings_of(world.cluster, world.packages)
    assert (held["index.number_of_replicas"], held["index.routing.allocation.exclude.box"]) == ("1", "old")
    world.fill(world.packages, 5, 1)
    assert world.count(world.packages) == 6
    with pytest.raises(VerificationError, match="everything is as it was before"):
        world.restore(point, world.packages, mode=RestoreMode.RENAMED, rename_pattern="^", rename_replacement="beside-")
    assert world.names() == {*before, world.people}


@pytest.mark.parametrize("why", ["damage", "other shards"])
def test_a_restore_that_cannot_begin_leaves_the_index_open_and_writable(world: World, why: str) -> None:
    point = world.backup()
    if why == "damage":
        for file in world.location.glob("indices/*/meta-*.dat"):
            flip_byte(file)
        kind, match = VerificationError, r"meta-.*\.dat"
    else:
        world.cluster.delete(world.people, what="test")
        world.cluster.put(world.people, what="test", body=SHARDS)
        world.fill(world.people, 0, 20)
        kind, match = RefusedError, "with .2. shards from a snapshot of .* with .1. shards"
    before = world.names()

    with pytest.raises(kind, match=match):
        world.restore(point, world.people)

    world.fill(world.people, 20, 1)
    assert world.count(world.people) == 21
    assert world.names() == before


def test_a_lost_data_stream_comes_back_and_is_tested_like_an_index(world: World, tmp_path: Path) -> None:
    stream = f"{world.prefix}-events"
    template: dict[str, Any] = {"index_patterns": [f"{stream}*"], "data_stream": {}, "priority": 500}
    world.cluster.put("_index_template", stream, what="test", body=template)
    event = {"@timestamp": "2026-01-31T04:00:00Z", "text": "started"}
    world.cluster.post(stream, "_doc", what="test", body=event, params={"refresh": "true"})
    point = world.backup()
    assert point.facts[f"documents..ds-{stream}-000001"] == 1
    assert failed(world.tested(point, tmp_path)) == {}

    with pytest.raises(RefusedError, match=f"data stream {stream}"):
        world.restore(point, f".ds-{stream}*")
    world.cluster.delete("_data_stream", stream, what="test")
    world.restore(point, f".ds-{stream}*")

    assert world.count(stream) == 1
    world.cluster.post(stream, "_doc", what="test", body=event, params={"refresh": "true"})
    assert world.count(stream) == 2
