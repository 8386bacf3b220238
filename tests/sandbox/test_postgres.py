"""PostgreSQL on real servers: archived through a sidecar, backed up, damaged, restored."""

import shutil
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.errors import VerificationError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.port import TestedRestore as Outcome
from tests.sandbox.postgres_lab import Lab


@pytest.fixture
def scratch(lab: Lab) -> Generator[Path]:
    """A folder for restored data; the use case removes it in real life."""
    folder = Path(tempfile.mkdtemp(prefix="s-", dir=lab.home))
    yield folder
    shutil.rmtree(folder)


@dataclass(frozen=True, kw_only=True)
class History:
    """One full, one incremental, and a write that lives in WAL alone, each followed by a heartbeat."""

    full: RecoveryPoint
    incremental: RecoveryPoint
    last_heartbeat: datetime


@pytest.fixture(scope="module")
def history(lab: Lab) -> History:
    lab.note("before the full")
    lab.sql("CREATE TABLE big AS SELECT n, md5(n::text) AS text FROM generate_series(1, 50000) n")
    lab.sql("ALTER TABLE big ADD PRIMARY KEY (n)")
    full, _ = lab.backup(BackupKind.FULL)
    lab.note("before the incremental")
    incremental, _ = lab.backup(BackupKind.INCREMENTAL)
    last = lab.note("in WAL alone")
    lab.archive_all()
    return History(full=full, incremental=incremental, last_heartbeat=last)


def named(tested: Outcome) -> dict[str, Check]:
    return {check.name: check for check in tested.checks}


def failed(tested: Outcome) -> dict[str, str]:
    return {check.name: check.detail for check in tested.checks if not check.passed}


def servers_on(folder: Path) -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command and "postgres" in command.split(" ")[0]:
                found.append(command)
    return found


# Set-up and backup


def test_init_again_changes_nothing(lab: Lab) -> None:
    envelope = lab.s3.head_object(Bucket=lab.bucket, Key="envelope/cipher-pass.json")
    before = lab.store().info()
    lab.stop_sidecar()
    lab.init()
    assert lab.s3.head_object(Bucket=lab.bucket, Key="envelope/cipher-pass.json")["VersionId"] == envelope["VersionId"]
    assert lab.store().info().system_id == before.system_id


def test_no_secret_in_any_file_nor_in_postgres(lab: Lab, history: History) -> None:
    del history  # the jobs have run, and left their configurations and logs
    secrets = {name: value.encode() for name, value in lab.access.secrets().items() if len(value) >= 8}
    assert {"PGBACKREST_REPO1_CIPHER_PASS", "PGBACKREST_REPO1_S3_KEY_SECRET"} <= set(secrets)
    for folder in ("etc", "state", "sidecar-state"):
        for file in filter(Path.is_file, (lab.home / folder).rglob("*")):
            leaked = [name for name, value in secrets.items() if value in file.read_bytes()]
            assert not leaked, f"{leaked} in {file}"
    for log in ("postgresql.log", "sidecar.log"):
        assert not any(value in (lab.home / log).read_bytes() for value in secrets.values())
    pid = (lab.data / "postmaster.pid").read_text().splitlines()[0]
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert not any(value in environment for value in secrets.values())
    assert b"AWS_" not in (lab.home / "etc" / "host.conf").read_bytes()
    assert b"s3" not in (lab.home / "etc" / "host.conf").read_bytes()


def test_a_backup_says_what_it_took(lab: Lab, history: History) -> None:
    full, incremental = history.full, history.incremental
    assert full.id.endswith("F")
    assert incremental.id.startswith(full.id)
    assert incremental.depends_on == (full.id,)
    assert not full.depends_on
    assert full.started - timedelta(seconds=1) <= full.recoverable_at
    assert incremental.facts["system_id"] == lab.store().info().system_id
    assert full.facts["timeline"] == 1
    assert int(full.facts["repository_bytes"]) > int(incremental.facts["repository_bytes"]) > 0
    assert full.size_bytes > 20_000_000


def test_the_repository_tells_the_same_points(lab: Lab, history: History) -> None:
    held = {point.point: point for point in lab.store().held_points()}
    for point in (history.full, history.incremental):
        assert held[point.id].facts == point.facts
        assert held[point.id].recoverable_at == point.recoverable_at
        assert held[point.id].depends_on == point.depends_on
        inventory = held[point.id].inventory
        assert inventory is not None
        assert point.inventory is not None
        assert inventory.version_id == point.inventory.version_id


def test_a_set_without_inventory_gets_one_with_the_next_backup(lab: Lab, history: History) -> None:
    # As after a run that was killed between pgBackRest's end and its inventory.
    lab.runners().client().run("backup", "--type=incr")
    orphan = lab.store().held_points()[-1]
    assert orphan.inventory is None
    lab.backup(BackupKind.INCREMENTAL)
    held = {point.point: point for point in lab.store().held_points()}
    assert held[orphan.point].inventory is not None
    assert history.full.id in held


# The restore test


def test_restore_brings_back_what_is_in_wal_alone(lab: Lab, history: History, scratch: Path) -> None:
    settings = replace(
        lab.settings,
        sentinel_queries={
            "rows": "SELECT count(*) = 50000 FROM big",
            "wal": "SELECT EXISTS (SELECT FROM notes WHERE text = 'in WAL alone')",
        },
    )
    for point in (history.full, history.incremental):
        tested, stopwatch = lab.restore_test(point, scratch / point.kind.value, settings)
        assert not failed(tested)
        assert {"system_id", "wal_replayed", "amcheck", "page_checksums", "inventory"} <= set(named(tested))
        assert {"sentinel.rows", "sentinel.wal"} <= set(named(tested))
        assert tested.newest_heartbeat == history.last_heartbeat
        assert [phase.name for phase in stopwatch.phases] == [
            "fetch",
            "replay",
            "checks",
            "page_checksums",
            "inventory",
        ]
        assert not servers_on(scratch)


def test_sentinels_that_are_false_or_broken_fail(lab: Lab, history: History, scratch: Path) -> None:
    settings = replace(
        lab.settings,
        sentinel_queries={
            "false": "SELECT count(*) = 0 FROM big",
            "broken": "SELECT FROM nowhere",
            "writes": "INSERT INTO notes VALUES ('x') RETURNING true",
            "not_boolean": "SELECT 1",
        },
    )
    tested, _ = lab.restore_test(history.full, scratch / "s", settings)
    assert set(failed(tested)) == {f"sentinel.{name}" for name in settings.sentinel_queries}


def test_a_scratch_folder_with_a_long_path(lab: Lab, history: History, scratch: Path) -> None:
    deep = scratch / ("d" * 120)
    deep.mkdir()
    tested, _ = lab.restore_test(history.full, deep / "scratch")
    assert not failed(tested)
    assert not list(Path(tempfile.gettempdir()).glob("aivo-pg-*"))


def data_bundle(lab: Lab, label: str) -> str:
    return next(key for key in lab.keys(f"backup/aivo-postgres/{label}/bundle/"))


def test_a_flipped_byte_in_a_bundle_is_named(lab: Lab, history: History, scratch: Path) -> None:
    bundle = data_bundle(lab, history.full.id)
    with lab.flipped(bundle), pytest.raises(VerificationError, match="is damaged") as caught:
        lab.restore_test(history.full, scratch / "s")
    assert bundle in str(caught.value)
    assert not servers_on(scratch)


def test_a_flipped_byte_in_the_full_fails_the_incremental(lab: Lab, history: History, scratch: Path) -> None:
    bundle = data_bundle(lab, history.full.id)
    with lab.flipped(bundle), pytest.raises(VerificationError) as caught:
        lab.restore_test(history.incremental, scratch / "s")
    assert bundle in str(caught.value)


def test_a_flipped_manifest_is_noticed_although_pgbackrest_reads_its_copy(
    lab: Lab, history: History, scratch: Path
) -> None:
    manifest = f"backup/aivo-postgres/{history.full.id}/backup.manifest"
    with lab.flipped(manifest):
        tested, _ = lab.restore_test(history.full, scratch / "s")
    assert failed(tested) == {"inventory": f"{manifest} has other content at rest"}


def test_a_vanished_manifest_is_noticed(lab: Lab, history: History, scratch: Path) -> None:
    manifest = f"backup/aivo-postgres/{history.full.id}/backup.manifest"
    with lab.vanished(manifest):
        tested, _ = lab.restore_test(history.full, scratch / "s")
    assert failed(tested) == {"inventory": f"{manifest} is gone"}


def test_a_vanished_bundle_is_named(lab: Lab, history: History, scratch: Path) -> None:
    bundle = data_bundle(lab, history.full.id)
    with lab.vanished(bundle), pytest.raises(VerificationError) as caught:
        lab.restore_test(history.full, scratch / "s")
    assert f"{bundle} is gone" in str(caught.value)


def last_wal(lab: Lab) -> str:
    newest = lab.store().newest_archived()
    assert newest is not None
    return newest.key


def test_a_missing_wal_segment_is_named(lab: Lab, history: History, scratch: Path) -> None:
    lab.note("one segment more")
    gap = lab.archive_all()
    lab.note("and another")
    lab.archive_all()
    key = next(key for key in lab.keys("archive/") if gap in key)
    with lab.vanished(key):
        tested, _ = lab.restore_test(history.incremental, scratch / "s")
    assert failed(tested) == {"wal_replayed": f"missing in the repository: {gap}"}


def test_wal_that_makes_the_set_consistent_is_missing(lab: Lab, history: History, scratch: Path) -> None:
    segment = str(history.full.facts["wal.stop"])
    key = next(key for key in lab.keys("archive/") if segment in key and not key.endswith(".backup"))
    with lab.vanished(key), pytest.raises(VerificationError, match=segment):
        lab.restore_test(history.full, scratch / "s")
    assert not servers_on(scratch)


def test_a_flipped_byte_in_wal_is_named(lab: Lab, history: History, scratch: Path) -> None:
    lab.note("will not be read")
    lab.archive_all()
    key = last_wal(lab)
    with lab.flipped(key):
        tested, _ = lab.restore_test(history.incremental, scratch / "s")
    assert set(failed(tested)) == {"wal_replayed"}
    assert key in failed(tested)["wal_replayed"]


def test_an_empty_object_and_a_point_that_is_gone(lab: Lab, history: History, scratch: Path) -> None:
    bundle = data_bundle(lab, history.full.id)
    version = lab.s3.put_object(Bucket=lab.bucket, Key=bundle, Body=b"")["VersionId"]
    try:
        with pytest.raises(VerificationError, match="0 bytes instead of"):
            lab.restore_test(history.full, scratch / "s")
    finally:
        lab.s3.delete_object(Bucket=lab.bucket, Key=bundle, VersionId=version)
    with pytest.raises(VerificationError, match="no longer holds"):
        lab.restore_test(replace(history.full, id="20200101-000000F"), scratch / "t")


def test_another_clusters_point_fails(lab: Lab, history: History, scratch: Path) -> None:
    foreign = replace(history.full, facts={**history.full.facts, "system_id": "1"})
    tested, _ = lab.restore_test(foreign, scratch / "s")
    assert set(failed(tested)) == {"system_id"}
