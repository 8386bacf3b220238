"""Backs up and tests real indices on the sandbox's OpenSearch, and damages real snapshot files."""

import json
import re
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aivo_backup.catalog.records import Fact, RecoveryPoint
from aivo_backup.errors import (
    AccessDeniedError,
    BackupError,
    ConfigurationError,
    RefusedError,
    UnreachableError,
    VerificationError,
)
from aivo_backup.policy.environment import BackupKind
from aivo_backup.policy.names import SECRET_OPENSEARCH_EXPIRER
from aivo_backup.stores.opensearch import OpenSearchStore, PartialSnapshotError, connect
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.port import silent
from sandbox.data.snapshot_files import data_files, flip_byte
from sandbox.state import Sandbox
from tests.sandbox.opensearch_world import DOCUMENTS, World, as_point, check, failed, login, made


@pytest.fixture
def world(sandbox: Sandbox) -> Generator[World]:
    with made(sandbox) as one:
        yield one


@pytest.fixture(scope="module")
def backed_up(sandbox: Sandbox) -> Generator[tuple[World, RecoveryPoint]]:
    """One point for the tests that change nothing."""
    with made(sandbox) as one:
        yield one, one.backup()


def test_a_backup_is_restored_equal_and_nothing_of_the_test_stays(world: World, tmp_path: Path) -> None:
    heartbeat = datetime.now(UTC)
    world.beat(heartbeat)
    # OpenSearch refuses a second write index: the copy must not come with the alias.
    world.client.indices.put_alias(index=world.people, name=f"{world.prefix}-alias", body={"is_write_index": True})
    point = world.backup()
    before = world.names()

    tested = world.tested(point, tmp_path)

    assert failed(tested) == {}
    assert {item.name for item in tested.checks} == {"snapshot", "shards", "documents", "samples", "heartbeat"}
    assert tested.newest_heartbeat == heartbeat
    assert point.facts[f"documents.{world.packages}"] == DOCUMENTS
    assert point.facts[f"documents.{world.people}"] == 20
    assert len(json.loads(str(point.facts[f"samples.{world.packages}"]))) == world.settings.sampled_documents
    assert check(tested, "documents").detail.startswith(f"{DOCUMENTS + 21} documents in 3 indices")
    assert world.names() == before
    assert list(world.cluster.get("_snapshot", f"{world.settings.repository}-*", what="test")) == []


def test_a_run_in_the_same_second_gets_a_name_of_its_own_and_copies_only_what_is_new(world: World) -> None:
    now = datetime(2026, 1, 31, 4, 0, 0, tzinfo=UTC)
    first = world.store.backup(BackupKind.FULL, now=now, progress=silent)
    world.fill(world.people, 20, 5)
    lines: list[str] = []
    second = world.store.backup(BackupKind.INCREMENTAL, now=now, progress=lines.append)

    assert (first.point, second.point) == ("snapshot_20260131_040000", "snapshot_20260131_040000_2")
    assert 0 < second.bytes_transferred < first.bytes_transferred / 4
    assert second.size_bytes > first.size_bytes
    assert any("shards" in line for line in lines)
    held = world.store.held_points()
    assert [(point.point, point.kind) for point in held] == [
        (first.point, BackupKind.FULL),
        (second.point, BackupKind.INCREMENTAL),
    ]
    assert held[0].recoverable_at == first.recoverable_at
    assert held[0].facts["snapshot_uuid"] == first.facts["snapshot_uuid"]
    assert held[0].facts["total_documents"] == DOCUMENTS + 21


def test_writes_during_the_snapshot_fail_no_check(world: World, tmp_path: Path) -> None:
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            world.fill(world.packages, DOCUMENTS + written, 10)
            world.fill(world.packages, written % DOCUMENTS, 5)  # newer versions of old documents
            world.client.delete(index=world.packages, id=f"d{DOCUMENTS + written}")
            written += 10

    writer = threading.Thread(target=write)
    writer.start()
    try:
        points = [world.backup() for _ in range(2)]
    finally:
        stop.set()
        writer.join()
    assert written > 0
    for point in points:
        assert failed(world.tested(point, tmp_path)) == {}


@pytest.mark.parametrize(
    ("fact", "value", "name", "named"),
    [
        ("documents.{packages}", DOCUMENTS + 1, "documents", "{packages}"),
        ("documents.{packages}", DOCUMENTS - 1, "documents", "{packages}"),
        ("documents.{prefix}-vanished", 5, "documents", "{prefix}-vanished"),
        ("operations.{packages}", DOCUMENTS + 1, "documents", "an older state"),
        ("samples.{people}", '{"d1": "0123456789abcdef"}', "samples", "{people}/d1: another content"),
        ("samples.{people}", '{"d99": "0123456789abcdef"}', "samples", "{people}/d99: missing"),
        ("heartbeat", "2999-01-01T00:00:00.000000Z", "heartbeat", "2999"),
        ("snapshot_uuid", "of-another-run", "snapshot", "of-another-run"),
    ],
)
def test_a_fact_that_the_restored_data_does_not_bear_out_fails_its_check(
    backed_up: tuple[World, RecoveryPoint], tmp_path: Path, fact: str, value: Fact, name: str, named: str
) -> None:
    world, point = backed_up
    words = {"packages": world.packages, "people": world.people, "prefix": world.prefix}
    wrong = replace(point, facts={**point.facts, fact.format(**words): value})

    problems = failed(world.tested(wrong, tmp_path))

    assert list(problems) == [name]
    assert named.format(**words) in problems[name]


def test_a_point_that_registration_found_is_judged_by_the_sums_it_carries(
    backed_up: tuple[World, RecoveryPoint], tmp_path: Path
) -> None:
    world, point = backed_up
    found = world.store.held_points()[0]
    registered = replace(point, facts=found.facts, run_id="")
    assert failed(world.tested(registered, tmp_path)) == {}

    fewer = replace(registered, facts={**found.facts, "total_documents": DOCUMENTS})
    assert list(failed(world.tested(fewer, tmp_path))) == ["documents"]

    foreign = replace(registered, facts={})
    assert "carries no counts" in failed(world.tested(foreign, tmp_path))["documents"]


def test_a_byte_flipped_in_a_segment_fails_the_check_by_index_shard_and_file(world: World, tmp_path: Path) -> None:
    point = world.backup()
    before = world.names()
    assert failed(world.tested(point, tmp_path)) == {}
    damaged = data_files(world.location, str(point.facts["snapshot_uuid"]))[0]
    flip_byte(damaged)

    problems = failed(world.tested(point, tmp_path))

    assert problems["shards"].startswith(f"{world.packages}[")
    assert "checksum failed" in problems["shards"]
    assert ".cfs" in problems["shards"] or ".fdt" in problems["shards"]
    assert f"{world.packages}: not restored" in problems["documents"]
    assert world.people not in str(problems)
    assert world.names() == before
    flip_byte(damaged)
    assert failed(world.tested(point, tmp_path)) == {}


@pytest.mark.parametrize(
    "what",
    [
        "table of contents",
        "table of contents, a name",
        "snapshot",
        "index",
        "shard",
        "data, lost",
        "shard, lost",
        "snapshot, lost",
    ],
)
def test_damage_to_any_other_file_that_a_restore_reads_is_named(world: World, tmp_path: Path, what: str) -> None:
    point = world.backup()
    uid = str(point.facts["snapshot_uuid"])
    shard = next(world.location.glob(f"indices/*/0/snap-{uid}.dat"))
    files = {
        "table of contents": (next(world.location.glob("index-*")), "index-N"),
        "snapshot": (world.location / f"snap-{uid}.dat", f"snap-{uid}.dat"),
        "index": (file := next(world.location.glob("indices/*/meta-*.dat")), file.name),
        "shard": (shard, shard.name),
        "data": (file := data_files(world.location, uid)[0], file.name),
    }
    file, said = files[what.partition(",")[0]]
    if what.endswith("lost"):
        file.unlink()
    elif said == "index-N":
        # It has no checksum: what OpenSearch sees depends on the byte.
        flip_byte(file, file.read_bytes().index(world.people.encode()) if what.endswith("name") else 0)
    else:
        flip_byte(file)
    # OpenSearch does not say which file of a shard it misses; index and shard it does.
    named = {"shard, lost": f"{world.prefix}-.*\\[0\\].*is missing", "snapshot, lost": point.id}.get(what, said)

    # The repository as production has it registered still answers from memory.
    if said == "index-N":
        assert [held.point for held in world.store.held_points()] == [point.id]
    try:
        told = str(failed(world.tested(point, tmp_path)))
    except VerificationError as error:
        told = str(error)
    assert re.search(named, told)


def test_a_damaged_description_hides_no_other_point(world: World) -> None:
    first, second = world.backup(), world.backup()
    flip_byte(world.location / f"snap-{first.facts['snapshot_uuid']}.dat")
    world.store.register()
    assert [held.point for held in world.store.held_points()][-1] == second.id


def test_a_snapshot_without_one_shard_is_partial_and_no_point(world: World) -> None:
    lost = f"{world.prefix}-lost"
    # No node has this attribute, so the primary finds no place.
    world.cluster.put(
        lost,
        what="test",
        body={"settings": {"index.routing.allocation.require.rack": "nowhere"}},
        params={"wait_for_active_shards": "0"},
    )
    # Counting comes first and needs the shard: only the snapshot itself is asked for here.
    with pytest.raises(PartialSnapshotError, match=lost):
        world.store.backup(BackupKind.FULL, now=datetime.now(UTC), progress=silent)
    assert world.store.held_points() == ()


def test_what_a_killed_restore_test_left_is_neither_backed_up_nor_kept(world: World, tmp_path: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=2)
    stale = f"verify-{yesterday:%Y%m%d-%H%M%S}-abcdef-{world.prefix}-x"
    fresh = f"verify-{datetime.now(UTC):%Y%m%d-%H%M%S}-abcdef-{world.prefix}-x"
    lookalike = f"verify-{world.prefix}-of-a-user"
    for name in (stale, fresh, lookalike):
        world.fill(name, 0, 1)
    wide = replace(world.settings, index_patterns=(f"{world.prefix}-*", "verify-*"))
    store = OpenSearchStore(client=world.client, settings=wide)
    point = as_point(store.backup(BackupKind.FULL, now=datetime.now(UTC), progress=silent), BackupKind.FULL, yesterday)

    assert f"documents.{lookalike}" in point.facts
    assert not {f"documents.{stale}", f"documents.{fresh}"} & set(point.facts)
    world.tested(point, tmp_path)
    assert stale not in world.names()
    assert {fresh, lookalike} <= world.names()


def test_registering_mends_what_differs_and_repeating_it_changes_nothing(world: World) -> None:
    assert world.store.register() is False
    name, settings = world.settings.repository, {"location": str(world.location), "max_restore_bytes_per_sec": "1mb"}
    world.cluster.put("_snapshot", name, what="test", body={"type": "fs", "settings": settings})
    assert world.store.register() is True
    held = world.cluster.get("_snapshot", name, what="test")[name]["settings"]
    assert held["max_restore_bytes_per_sec"] == held["max_snapshot_bytes_per_sec"] == "200000000b"
    flat = world.cluster.get("_cluster", "settings", what="test", params={"flat_settings": "true"})
    assert flat["persistent"]["indices.recovery.max_bytes_per_sec"] == "200000000b"
    assert world.store.register() is False


def test_a_verification_cluster_reads_the_repository_and_cannot_write_to_it(world: World, tmp_path: Path) -> None:
    # One cluster plays both parts under two names: what a second one would have registered.
    settings = replace(world.settings, repository=f"{world.prefix}-second")
    store = OpenSearchStore(client=world.client, settings=settings, verification_client=world.client)
    point = world.backup()
    with pytest.raises(ConfigurationError, match=r"not registered.*aivo-backup init"):
        store.held_points()
    store.register()
    held = world.cluster.get("_snapshot", settings.repository, what="test")[settings.repository]
    assert held["settings"]["readonly"] == "true"
    assert failed(world.tested(point, tmp_path)) == {}
    with pytest.raises(BackupError, match="readonly"):
        store.backup(BackupKind.FULL, now=datetime.now(UTC), progress=silent)
    world.cluster.delete("_snapshot", settings.repository, what="test")


def test_what_cannot_work_is_said_in_one_line(world: World, sandbox: Sandbox, tmp_path: Path) -> None:
    nobody = OpenSearchStore(
        client=connect(sandbox.opensearch_url, str(sandbox.ca_file), "nobody", "wrong"), settings=world.settings
    )
    away = OpenSearchStore(client=connect("https://localhost:9", str(sandbox.ca_file), "", ""), settings=world.settings)
    untrusted = OpenSearchStore(client=connect(sandbox.opensearch_url, "", "", ""), settings=world.settings)
    elsewhere = OpenSearchStore(
        client=world.client, settings=replace(world.settings, fs_location=str(tmp_path), repository="elsewhere")
    )
    nothing = OpenSearchStore(client=world.client, settings=replace(world.settings, index_patterns=("no-such-*",)))
    now = datetime.now(UTC)
    cases: list[tuple[type[BackupError], str, Callable[[], object]]] = [
        (AccessDeniedError, "refuses the login", nobody.held_points),
        (UnreachableError, "does not answer", away.held_points),
        (UnreachableError, "not trusted", untrusted.held_points),
        (ConfigurationError, "path.repo", elsewhere.register),
        (BackupError, "no index matches no-such", lambda: nothing.backup(BackupKind.FULL, now=now, progress=silent)),
    ]
    for kind, match, call in cases:
        with pytest.raises(kind, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_point_that_is_gone_or_too_large_is_not_tested_green(world: World, sandbox: Sandbox, tmp_path: Path) -> None:
    point = world.backup()
    with pytest.raises(RefusedError, match="GB free"):
        world.tested(replace(point, size_bytes=10**17), tmp_path)
    expirer = Cluster(login(sandbox, SECRET_OPENSEARCH_EXPIRER))
    expirer.delete("_snapshot", world.settings.repository, point.id, what="test")
    with pytest.raises(VerificationError, match=f"no snapshot {point.id}"):
        world.tested(point, tmp_path)
