"""Every run, test and reconciliation is filed however it ends, and nothing is green that was not seen."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import Lease
from aivo_backup.catalog.records import Check, RecoveryPoint, Registration, Restore, RunStatus
from aivo_backup.errors import BackupError, UnreachableError, VerificationError
from aivo_backup.jobs.backup import BackupResult, run_backup
from aivo_backup.jobs.register import register
from aivo_backup.jobs.verify import verify
from aivo_backup.policy.environment import BackupKind, Component
from aivo_backup.stores.port import (
    HeldPoint,
    PartialBackupError,
    Progress,
    Stopwatch,
    TakenBackup,
    TestedRestore,
    silent,
)
from tests.unit.conftest import SetClock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@dataclass
class ToldStore:
    """A store that does what the test says."""

    clock: SetClock
    failure: BackupError | None = None
    held: tuple[HeldPoint, ...] = ()
    checks: tuple[Check, ...] = (Check(name="content", passed=True, detail="3 of 3"),)
    heartbeat: datetime | None = None
    meanwhile: Callable[[], object] = lambda: None

    @property
    def component(self) -> Component:
        return Component.POSTGRES

    def backup(self, kind: BackupKind, *, now: datetime, progress: Progress) -> TakenBackup:
        progress(f"taking {kind}")
        self.meanwhile()
        self.clock.forward(30)
        if self.failure:
            raise self.failure
        return TakenBackup(point=f"{now:%Y%m%d-%H%M%S}F", recoverable_at=now, size_bytes=10, bytes_transferred=4)

    def held_points(self) -> tuple[HeldPoint, ...]:
        return self.held

    def restore_test(
        self, point: RecoveryPoint, *, scratch: Path, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> TestedRestore:
        progress(f"restoring {point.id} at {now}")
        (scratch / "data").write_text("restored")
        with stopwatch.phase("fetch"):
            if self.failure:
                raise self.failure
        return TestedRestore(checks=self.checks, newest_heartbeat=self.heartbeat)


@pytest.fixture
def store(clock: SetClock) -> ToldStore:
    return ToldStore(clock, heartbeat=clock() - timedelta(seconds=40))


@pytest.fixture
def lease(s3: "S3Client", clock: SetClock) -> Lease:
    return Lease(
        s3=s3, bucket="aivo-backup-postgres", component=Component.POSTGRES, kms_key="alias/aws/s3", clock=clock
    )


def take(
    store: ToldStore, catalog: Catalog, lease: Lease, *, sleep: Callable[[float], None] = lambda seconds: None
) -> BackupResult:
    return run_backup(
        store,
        BackupKind.FULL,
        catalog=catalog,
        lease=lease,
        job="nightly",
        clock=store.clock,
        progress=silent,
        sleep=sleep,
    )


def test_a_succeeded_run_leaves_a_run_and_a_point_that_name_each_other(
    store: ToldStore, catalog: Catalog, lease: Lease
) -> None:
    result = take(store, catalog, lease)
    assert catalog.runs() == [result.run]
    assert catalog.points() == [result.point]
    assert (result.run.recovery_point, result.run.status) == ("20261122-010000F", RunStatus.SUCCEEDED)
    assert result.point is not None
    assert result.point.run_id == result.run.id
    assert (result.run.finished - result.run.started).total_seconds() == 30


@pytest.mark.parametrize(
    ("failure", "status"),
    [(BackupError("broken"), RunStatus.FAILED), (PartialBackupError("3 of 4 shards"), RunStatus.PARTIAL)],
)
def test_a_failed_run_is_filed_leaves_no_point_and_still_raises(
    store: ToldStore, catalog: Catalog, lease: Lease, failure: BackupError, status: RunStatus
) -> None:
    store.failure = failure
    with pytest.raises(type(failure)):
        take(store, catalog, lease)
    assert [(run.status, run.error, run.recovery_point) for run in catalog.runs()] == [(status, str(failure), None)]
    assert catalog.points() == []


def test_a_run_held_back_by_the_lease_is_superseded_and_touches_nothing(
    store: ToldStore, catalog: Catalog, lease: Lease
) -> None:
    inner: list[BackupResult] = []
    second = replace(store, meanwhile=lambda: pytest.fail("the second run must not reach the store"))
    store.meanwhile = lambda: inner.append(take(second, catalog, lease))
    outer = take(store, catalog, lease)
    assert (outer.run.status, inner[0].run.status, inner[0].point) == (
        RunStatus.SUCCEEDED,
        RunStatus.SUPERSEDED,
        None,
    )


def test_a_run_that_was_killed_is_a_failed_run_and_its_retry_succeeds(
    store: ToldStore, catalog: Catalog, lease: Lease, tmp_path: Path
) -> None:
    at_work = tmp_path / "at work"
    child = os.fork()
    if child == 0:
        store.meanwhile = lambda: (at_work.touch(), time.sleep(60))
        take(store, catalog, lease)
        os._exit(0)
    while not at_work.exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store.clock.forward(60)
    # AWS is in this process, so the killed one's lease died with it; here it is held by a run that is never heard of.
    held = lease.held("killed")
    held.__enter__()
    result = take(store, catalog, lease, sleep=store.clock.forward)
    killed, retry = catalog.runs()
    assert (killed.status, killed.recovery_point, killed.late) == (RunStatus.FAILED, None, True)
    assert "was ended before" in killed.error
    assert (retry, retry.status) == (result.run, RunStatus.SUCCEEDED)


def point_of(store: ToldStore, catalog: Catalog, lease: Lease) -> RecoveryPoint:
    point = take(store, catalog, lease).point
    assert point is not None
    return point


def test_a_restore_test_files_loss_phases_and_checks(
    store: ToldStore, catalog: Catalog, lease: Lease, tmp_path: Path
) -> None:
    point = point_of(store, catalog, lease)
    store.heartbeat = store.clock() - timedelta(seconds=40)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    record = verify_now(store, point, catalog, scratch)
    assert (record.passed, record.loss_seconds, [phase.name for phase in record.phases]) == (True, 40, ["fetch"])
    assert catalog.restores() == [record]
    assert record.job == "restore-test-postgres"
    assert list(scratch.iterdir()) == [], "the scratch folder must be gone"


def verify_now(store: ToldStore, point: RecoveryPoint, catalog: Catalog, scratch: Path) -> Restore:
    return verify(
        store,
        point,
        catalog=catalog,
        clock=store.clock,
        progress=silent,
        scratch_parent=scratch,
        max_loss_seconds=3600,
        job="restore-test-postgres",
    )


def stale(store: ToldStore) -> None:
    store.heartbeat = store.clock() - timedelta(hours=2)


def empty(store: ToldStore) -> None:
    store.heartbeat = None


def page_damaged(store: ToldStore) -> None:
    store.checks = (Check(name="pages", passed=False, detail="base/5/1"),)


def unrestorable(store: ToldStore) -> None:
    store.failure = VerificationError("pg_data.zst is damaged")


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (stale, "7200 s lost"),
        (empty, "holds no heartbeat"),
        (page_damaged, "base/5/1"),
        (unrestorable, "pg_data.zst"),
    ],
)
def test_a_mutated_copy_never_passes(
    store: ToldStore,
    catalog: Catalog,
    lease: Lease,
    tmp_path: Path,
    mutate: Callable[[ToldStore], None],
    expected: str,
) -> None:
    point = point_of(store, catalog, lease)
    mutate(store)
    record = verify_now(store, point, catalog, tmp_path)
    assert not record.passed
    assert expected in " ".join([record.error, *(check.detail for check in record.checks if not check.passed)])
    assert catalog.restores() == [record]


def test_a_test_without_any_check_does_not_pass(
    store: ToldStore, catalog: Catalog, lease: Lease, tmp_path: Path
) -> None:
    record = verify_now(store, point_of(store, catalog, lease), catalog, tmp_path)
    assert not replace(record, checks=()).passed


def test_a_test_that_could_not_be_held_is_filed_as_failed_and_raised(
    store: ToldStore, catalog: Catalog, lease: Lease, tmp_path: Path
) -> None:
    point = point_of(store, catalog, lease)
    store.failure = UnreachableError("AWS does not answer")
    with pytest.raises(UnreachableError):
        verify_now(store, point, catalog, tmp_path)
    assert [(record.passed, record.error) for record in catalog.restores()] == [(False, "AWS does not answer")]


def held(name: str, moment: datetime) -> HeldPoint:
    return HeldPoint(point=name, kind=BackupKind.FULL, started=moment, recoverable_at=moment, size_bytes=1)


def reconcile(store: ToldStore, catalog: Catalog, moment: datetime) -> Registration:
    return register(
        store,
        scheduled_for=moment,
        catalog=catalog,
        clock=store.clock,
        kept_for=lambda kind: timedelta(days=14) if kind is BackupKind.FULL else timedelta(hours=48),
    )


def test_registration_records_the_unknown_names_the_missing_and_is_idempotent(
    store: ToldStore, catalog: Catalog, lease: Lease, clock: SetClock
) -> None:
    known = point_of(store, catalog, lease)
    store.held = (held("20261122-000000F", clock.now - timedelta(hours=1)),)
    first = reconcile(store, catalog, clock())
    assert (first.recorded, first.missing) == (("20261122-000000F",), (known.id,))
    assert {point.id for point in catalog.points()} == {known.id, "20261122-000000F"}
    store.held = ()
    assert reconcile(store, catalog, first.scheduled_for) == first


def test_a_point_whose_retention_is_over_is_not_missed(
    store: ToldStore, catalog: Catalog, lease: Lease, clock: SetClock
) -> None:
    lost = point_of(store, catalog, lease)
    clock.now = lost.recoverable_at + timedelta(days=14, seconds=-1)
    assert reconcile(store, catalog, clock()).missing == (lost.id,)
    clock.forward(1)
    assert reconcile(store, catalog, clock()).missing == ()
