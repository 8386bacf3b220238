"""An operator's restores of PostgreSQL on real servers: to a time, in place, to staging, refused, taken back."""

import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.errors import RefusedError, VerificationError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.postgres.archive import archive_lag
from aivo_backup.stores.postgres.restore import RestoreResult, Staging
from aivo_backup.stores.postgres.targets import Target, TargetKind
from tests.sandbox.cli import closed_port
from tests.sandbox.postgres_lab import Lab

LATEST = Target()


@dataclass(frozen=True, kw_only=True)
class Before:
    """What was there before the accident."""

    point: RecoveryPoint
    good_heartbeat: datetime
    good: datetime
    position: str
    after: datetime


@pytest.fixture(scope="module")
def before(lab: Lab) -> Before:
    lab.note("before the full")
    point, _ = lab.backup(BackupKind.FULL)
    lab.sql("SELECT pg_create_restore_point('named')")
    heartbeat = lab.note("in WAL alone")
    position = str(lab.sql("SELECT pg_current_wal_lsn()::text")[0][0])
    good = lab.now()
    lab.note("after the good moment")
    lab.archive_all()
    return Before(point=point, good_heartbeat=heartbeat, good=good, position=position, after=lab.now())


def at(moment: datetime) -> Target:
    return Target(kind=TargetKind.TIME, time=moment)


def aside(lab: Lab) -> list[Path]:
    return sorted(path for path in lab.data.parent.iterdir() if path.name != lab.data.name)


# To staging: production goes on as it is


@pytest.fixture
def staging(lab: Lab) -> Generator[Staging]:
    folder = lab.home / "staging"
    place = Staging(data=folder / "pgdata", port=closed_port())
    folder.mkdir()
    yield place
    lab.remove_staging(place)


def staged_notes(lab: Lab, result: RestoreResult) -> set[str]:
    with lab.connect(port=result.port, host="localhost") as connection:
        return {str(row[0]) for row in connection.execute("SELECT text FROM notes").fetchall()}


@pytest.mark.parametrize("kind", [TargetKind.TIME, TargetKind.LSN, TargetKind.NAME, TargetKind.SET, TargetKind.LATEST])
def test_staging_holds_what_was_there_at_the_target(
    lab: Lab, before: Before, staging: Staging, kind: TargetKind
) -> None:
    targets = {
        TargetKind.TIME: at(before.good),
        TargetKind.LSN: Target(kind=TargetKind.LSN, value=before.position),
        TargetKind.NAME: Target(kind=TargetKind.NAME, value="named"),
        TargetKind.SET: Target(kind=TargetKind.SET, label=before.point.id),
        TargetKind.LATEST: LATEST,
    }
    at_target = {
        TargetKind.TIME: {"before the full", "in WAL alone"},
        TargetKind.LSN: {"before the full", "in WAL alone"},
        TargetKind.NAME: {"before the full"},
        TargetKind.SET: {"before the full"},
        TargetKind.LATEST: {"before the full", "in WAL alone", "after the good moment"},
    }
    production = lab.notes()
    result, stopwatch = lab.restore(targets[kind], staging)
    assert all(check.passed for check in result.checks), result.checks
    assert at_target[kind] <= staged_notes(lab, result)
    if kind is not TargetKind.LATEST:
        assert staged_notes(lab, result) == at_target[kind]
    if kind is TargetKind.TIME:
        assert result.newest_heartbeat == before.good_heartbeat
        assert result.target_time == before.good
    assert [phase.name for phase in stopwatch.phases] == ["plan", "fetch", "replay", "checks", "start"]
    # It is a server of its own: writable, on a timeline of its own, archiving nothing, without a secret.
    with lab.connect(port=result.port, host="localhost") as connection:
        connection.execute("INSERT INTO notes VALUES ('written in staging')")
        assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
    pid = (Path(result.data) / "postmaster.pid").read_text().splitlines()[0]
    assert b"PGBACKREST_REPO1_CIPHER_PASS" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert lab.notes() == production


def test_an_xid_target_stops_after_that_transaction(lab: Lab, before: Before, staging: Staging) -> None:
    del before
    with lab.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO notes VALUES ('the transaction')")
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    lab.note("after the transaction")
    lab.archive_all()
    assert row is not None
    result, _ = lab.restore(Target(kind=TargetKind.XID, value=str(row[0])), staging)
    assert "the transaction" in staged_notes(lab, result)
    assert "after the transaction" not in staged_notes(lab, result)


def test_a_moment_after_the_last_commit_is_the_end_of_wal(lab: Lab, before: Before, staging: Staging) -> None:
    """PostgreSQL itself stops with an error there, and a cluster left alone for a minute has such a moment."""
    del before
    last = lab.note("the last commit")
    moment = lab.now()
    lab.archive_all()
    result, _ = lab.restore(at(moment), staging)
    assert all(check.passed for check in result.checks)
    assert result.newest_heartbeat == last
    assert "the last commit" in staged_notes(lab, result)


def test_a_failed_recovery_to_staging_leaves_nothing(lab: Lab, before: Before, staging: Staging) -> None:
    del before
    with pytest.raises(VerificationError, match="recovery failed"):
        lab.restore(Target(kind=TargetKind.NAME, value="no-such-name"), staging)
    assert not list(staging.data.parent.iterdir())


# Refusals: nothing changes


def test_refusals_change_nothing(lab: Lab, before: Before) -> None:
    production, listing = lab.notes(), aside(lab)
    place, held = lab.in_place(stop=False), before.point
    window = "outside the recovery window"
    cases: list[tuple[Target, str]] = [
        (at(held.recoverable_at - timedelta(hours=1)), window),
        (at(before.after + timedelta(days=1)), window),
        (Target(kind=TargetKind.LSN, value="0/1"), window),
        (Target(kind=TargetKind.LSN, value="FF/0"), window),
        (Target(kind=TargetKind.SET, label="20200101-000000F"), f"no backup set 20200101-000000F.*{held.id}"),
        (Target(kind=TargetKind.TIME, time=before.good, label="nonsense"), "no backup set nonsense"),
        (LATEST, "PostgreSQL runs on"),
    ]
    for target, message in cases:
        with pytest.raises(RefusedError, match=message):
            lab.restore(target, place)
    assert lab.notes() == production
    assert aside(lab) == listing


def test_missing_wal_before_the_target_is_refused(lab: Lab, before: Before) -> None:
    lab.note("gap")
    gap = lab.archive_all()
    lab.note("behind the gap")
    lab.archive_all()
    key = next(key for key in lab.keys("archive/") if gap in key)
    with lab.vanished(key), pytest.raises(RefusedError, match=f"WAL is missing.*{gap}"):
        lab.plan(LATEST, lab.in_place(stop=True))
    with lab.vanished(key):
        assert lab.plan(at(before.good), lab.in_place(stop=True)).recovery_point


def test_staging_into_a_taken_place_is_refused(lab: Lab, before: Before, staging: Staging) -> None:
    del before
    staging.data.mkdir()
    (staging.data / "keep").write_text("mine")
    with pytest.raises(RefusedError, match="is not empty"):
        lab.restore(LATEST, staging)
    assert (staging.data / "keep").read_text() == "mine"
    (staging.data / "keep").unlink()
    with pytest.raises(RefusedError, match=f"port {lab.settings.port} is taken"):
        lab.restore(LATEST, Staging(data=staging.data, port=lab.settings.port))


def test_another_cluster_is_not_replaced(lab: Lab, before: Before) -> None:
    del before
    other = lab.home / "other" / "pgdata"
    lab.initdb(other)
    listing = sorted(other.parent.iterdir())
    place = lab.in_place(stop=True, data=other)
    with pytest.raises(RefusedError, match="holds another cluster"):
        lab.restore(LATEST, place)
    assert sorted(other.parent.iterdir()) == listing


def test_only_a_cluster_that_came_with_new_storage_is_set_aside(lab: Lab, before: Before) -> None:
    """A database's image initialises what it finds empty; a cluster older than the newest backup is somebody's."""
    del before
    strange, fresh = lab.home / "strange" / "pgdata", lab.home / "fresh" / "pgdata"
    lab.initdb(strange)
    time.sleep(1 - time.time() % 1)  # PostgreSQL and S3 know whole seconds
    lab.note("written after the stranger was made")
    lab.archive_all()
    time.sleep(1 - time.time() % 1)
    lab.initdb(fresh)
    with pytest.raises(RefusedError, match="holds another cluster"):
        lab.plan(LATEST, replace(lab.in_place(stop=True, data=strange), storage_replaced=True))
    with pytest.raises(RefusedError, match="holds another cluster"):
        lab.plan(LATEST, lab.in_place(stop=True, data=fresh))
    plan = lab.plan(LATEST, replace(lab.in_place(stop=True, data=fresh), storage_replaced=True))
    assert plan.set_aside.startswith(f"{fresh}.before-")


def test_newer_writes_in_the_very_segment_of_the_target_are_counted(lab: Lab, before: Before) -> None:
    del before
    lab.archive_all()
    lab.note("kept")
    moment = lab.now()
    position = str(lab.sql("SELECT pg_current_wal_lsn()::text")[0][0])
    lab.note("newer, in the same segment")
    lab.archive_all()
    for target in (at(moment), Target(kind=TargetKind.LSN, value=position)):
        assert lab.plan(target, lab.in_place(stop=True)).newer_wal_segments == 1
    assert lab.plan(LATEST, lab.in_place(stop=True)).newer_wal_segments == 0


def test_too_little_room_is_refused(lab: Lab, before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    del before
    usage = shutil.disk_usage(lab.home)

    def full(_: Path) -> object:
        return usage._replace(free=1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(RefusedError, match="1,000,000 bytes free"):
        lab.plan(LATEST, lab.in_place(stop=True))


# In place. From here on the database is on new timelines, one after the other.


def test_a_failed_recovery_puts_the_old_directory_back(lab: Lab, before: Before) -> None:
    del before
    production, listing = lab.notes(), aside(lab)
    system = lab.sql("SELECT system_identifier FROM pg_control_system()")
    with pytest.raises(VerificationError, match="recovery ended before configured recovery target"):
        lab.restore(Target(kind=TargetKind.XID, value="4000000"), lab.in_place(stop=True))
    lab.wait_ready()
    assert lab.notes() == production
    assert aside(lab) == listing
    assert lab.sql("SELECT system_identifier FROM pg_control_system()") == system
    assert lab.sql("SELECT timeline_id FROM pg_control_checkpoint()") == [(1,)]


def test_a_damaged_backup_leaves_the_server_running(lab: Lab, before: Before) -> None:
    bundle = next(key for key in lab.keys(f"backup/aivo-postgres/{before.point.id}/bundle/"))
    pid, listing = (lab.data / "postmaster.pid").read_text(), aside(lab)
    with lab.flipped(bundle), pytest.raises(VerificationError, match=bundle):
        lab.restore(at(before.good), lab.in_place(stop=True))
    assert (lab.data / "postmaster.pid").read_text() == pid
    assert aside(lab) == listing


def test_in_place_to_a_time(lab: Lab, before: Before) -> None:
    lab.sql("DROP TABLE notes")
    plan = lab.plan(at(before.good), lab.in_place(stop=True))
    assert plan.stops_server
    assert plan.set_aside
    result, stopwatch = lab.restore(at(before.good), lab.in_place(stop=True))
    assert all(check.passed for check in result.checks), result.checks
    assert {"target", "archiving"} <= {check.name for check in result.checks}
    assert lab.notes() == {"before the full", "in WAL alone"}
    assert result.newest_heartbeat == before.good_heartbeat
    assert result.target_time == before.good
    assert result.timeline == 2
    assert [phase.name for phase in stopwatch.phases] == ["plan", "fetch", "stop", "replay", "checks"]
    assert Path(result.set_aside, "PG_VERSION").is_file()
    assert aside(lab) == [Path(result.set_aside)]


def test_the_recovered_cluster_goes_on(lab: Lab, before: Before) -> None:
    """On its new timeline it archives, is backed up, restore-tested from old and new points, and recovers again."""
    last = lab.note("on timeline 2")
    incremental, _ = lab.backup(BackupKind.INCREMENTAL)
    assert incremental.facts["timeline"] == 2
    between = lab.now()
    lab.note("later on timeline 2")
    lab.archive_all()
    for number, point in enumerate((before.point, incremental)):
        scratch = lab.home / f"timelines{number}"
        tested, _ = lab.restore_test(point, scratch)
        assert all(check.passed for check in tested.checks), tested.checks
        assert tested.newest_heartbeat
        assert tested.newest_heartbeat > last
    result, _ = lab.restore(at(between), lab.in_place(stop=True))
    assert result.recovery_point == incremental.id
    assert result.timeline == 3
    assert lab.notes() == {"before the full", "in WAL alone", "on timeline 2"}


def test_what_an_abandoned_timeline_wrote_can_still_be_reached(lab: Lab, before: Before, staging: Staging) -> None:
    """The recovery to a time was a mistake: what was written after it is on timeline 1."""
    target = Target(kind=TargetKind.TIME, time=before.after, timeline=1)
    result, _ = lab.restore(target, staging)
    assert {"after the good moment"} <= staged_notes(lab, result)


def test_in_place_where_nothing_is_left(lab: Lab, before: Before) -> None:
    del before
    lab.note("before the loss")
    lab.archive_all()
    lab.service.stop()
    for folder in (lab.data, *aside(lab)):
        lab.remove(folder)
    result, _ = lab.restore(LATEST, lab.in_place(stop=False))
    assert all(check.passed for check in result.checks), result.checks
    assert result.set_aside == ""
    assert "before the loss" in lab.notes()


# What the status command asks


def test_archive_lag_sees_wal_that_only_postgres_claims(lab: Lab, before: Before) -> None:
    del before
    lab.note("lag")
    segment = lab.archive_all()
    with lab.connect() as connection:
        lag = archive_lag(connection, lab.store().newest_archived())
        assert (lag.claimed, lag.held, lag.behind, lag.failed_since) == (segment, segment, 0, None)
        assert lag.held_at is not None
    key = next(key for key in lab.keys("archive/") if segment in key)
    with lab.vanished(key), lab.connect() as connection:
        assert archive_lag(connection, lab.store().newest_archived()).behind == 1
