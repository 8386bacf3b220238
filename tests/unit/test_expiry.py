"""Every expiry is filed however it ends, and what it removed is told from what was lost."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import TERM, Lease
from aivo_backup.catalog.records import Check, Expiry, Fact, Purpose, RecoveryPoint, Registration, Restore, RunStatus
from aivo_backup.catalog.spool import Spool
from aivo_backup.catalog.standing import Standing, standings
from aivo_backup.errors import BackupError, ConfigurationError, RefusedError, UnreachableError
from aivo_backup.jobs.expire import ExpiryResult, plan_expiry, run_expiry
from aivo_backup.policy.environment import BackupKind, Component
from aivo_backup.policy.pruning import Because
from aivo_backup.stores.port import PlannedExpiry, Progress, VerifiedSince, silent
from tests.unit.conftest import EVIDENCE, SetClock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@dataclass(kw_only=True)
class ToldStore:
    """A store that does what the test says."""

    goes: tuple[str, ...] = ("a", "b")
    kept: Mapping[str, Because] = field(default_factory=lambda: {"c": Because.NEWEST})
    facts: Mapping[str, Fact] = field(default_factory=lambda: {"retention_archive": 3})
    refusal: BackupError | None = None
    failure: BackupError | None = None
    meanwhile: Callable[[], object] = lambda: None
    asked: frozenset[str] = frozenset()

    @property
    def component(self) -> Component:
        return Component.POSTGRES

    def plan_expiry(self, *, now: datetime, verified: VerifiedSince) -> PlannedExpiry:
        self.asked = verified(now - timedelta(days=40))
        if self.refusal:
            raise self.refusal
        return self

    def carry_out(self, *, gone: Callable[[str], None], progress: Progress) -> None:
        for name in self.goes:
            gone(name)
            progress(f"{name} is gone")
            self.meanwhile()
            if self.failure:
                raise self.failure


class KilledError(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def lease(s3: "S3Client", clock: SetClock) -> Lease:
    return lease_of(s3, clock)


def forget(*_: object) -> None:
    """Frees nothing."""


def lease_of(s3: "S3Client", clock: SetClock) -> Lease:
    return Lease(
        s3=s3, bucket="aivo-backup-postgres", component=Component.POSTGRES, kms_key="alias/aws/s3", clock=clock
    )


def expire(store: ToldStore, catalog: Catalog, lease: Lease, clock: SetClock, *, patience: float = 0) -> ExpiryResult:
    return run_expiry(
        store,
        catalog=catalog,
        lease=lease,
        job="postgresql-expire",
        clock=clock,
        progress=silent,
        patience=timedelta(seconds=patience),
        sleep=clock.forward,
    )


def test_a_run_is_filed_with_what_went_and_what_was_decided(catalog: Catalog, lease: Lease, clock: SetClock) -> None:
    result = expire(ToldStore(), catalog, lease, clock)
    assert catalog.expiries(Component.POSTGRES) == [result.expiry]
    assert (result.expiry.removed, result.expiry.kept, result.expiry.status) == (("a", "b"), 1, RunStatus.SUCCEEDED)
    assert result.expiry.facts == {"retention_archive": 3}
    assert result.expiry.job == "postgresql-expire"


def test_a_failure_half_way_is_filed_with_what_was_gone_by_then(
    catalog: Catalog, lease: Lease, clock: SetClock, spool: Spool
) -> None:
    with pytest.raises(BackupError, match="broke"):
        expire(ToldStore(failure=BackupError("broke")), catalog, lease, clock)
    (filed,) = catalog.expiries()
    assert (filed.removed, filed.status, filed.error) == (("a",), RunStatus.FAILED, "broke")
    assert list(spool.waiting()) == []


def test_a_refusal_is_filed_and_nothing_is_carried_out(catalog: Catalog, lease: Lease, clock: SetClock) -> None:
    store = ToldStore(refusal=RefusedError("differs"), meanwhile=lambda: pytest.fail("it must not begin"))
    with pytest.raises(RefusedError):
        expire(store, catalog, lease, clock)
    (filed,) = catalog.expiries()
    assert (filed.removed, filed.status) == ((), RunStatus.FAILED)


def test_a_dry_run_files_nothing_and_needs_no_lease(catalog: Catalog, lease: Lease, clock: SetClock) -> None:
    with lease.held("a backup"):
        assert plan_expiry(ToldStore(), catalog=catalog, clock=clock).goes == ("a", "b")
    assert catalog.expiries() == []


def test_it_waits_for_a_backup_and_gives_up_as_superseded(catalog: Catalog, lease: Lease, clock: SetClock) -> None:
    store = ToldStore(meanwhile=lambda: pytest.fail("the lease is held"))
    with lease.held("a backup"):
        result = expire(store, catalog, lease, clock, patience=30)
    assert (result.expiry.status, result.plan) == (RunStatus.SUPERSEDED, None)
    assert "a backup" in result.expiry.error
    assert (result.expiry.finished - result.expiry.started).total_seconds() == 30


def test_a_backup_that_ends_in_time_is_waited_for(
    catalog: Catalog, lease: Lease, clock: SetClock, s3: "S3Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a backup that died: its lease runs out.
    with suppress(KilledError), lease_of(s3, clock).held("dead"):
        # What is killed frees nothing.
        monkeypatch.setattr(Lease, "_free", forget)
        raise KilledError
    monkeypatch.undo()
    result = expire(ToldStore(), catalog, lease, clock, patience=600)
    assert result.expiry.status is RunStatus.SUCCEEDED
    assert clock() >= result.expiry.started + TERM


@pytest.mark.parametrize("purpose", [Purpose.TEST, Purpose.RECOVERY])
def test_verified_is_what_passed_its_newest_test(
    catalog: Catalog, lease: Lease, clock: SetClock, purpose: Purpose
) -> None:
    def restore(point: str, hours: int, *, passed: bool) -> Restore:
        at = clock() - timedelta(hours=hours)
        check = Check(name="content", passed=passed, detail="")
        return Restore(
            id=f"{point}-{hours}",
            component=Component.POSTGRES,
            purpose=purpose,
            recovery_point=point,
            started=at,
            finished=at,
            target_time=at,
            checks=(check,),
        )

    for each in (restore("x", 9, passed=False), restore("x", 8, passed=True), restore("y", 7, passed=True),
                 restore("y", 6, passed=False), restore("old", 24 * 41, passed=True)):  # fmt: skip
        catalog.append(each)
    store = ToldStore()
    plan_expiry(store, catalog=catalog, clock=clock)
    # In a recovery an operator may bring back a part only: it proves nothing of the whole.
    assert store.asked == (frozenset({"x"}) if purpose is Purpose.TEST else frozenset())


def test_without_a_spool_nothing_is_removed(s3: "S3Client", lease: Lease, clock: SetClock, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    catalog = Catalog(s3=s3, evidence=EVIDENCE, kms_key="alias/aws/s3", spool=Spool(tmp_path / "file" / "spool"))
    store = ToldStore(meanwhile=lambda: pytest.fail("without evidence"))
    with pytest.raises(ConfigurationError, match="spool"):
        expire(store, catalog, lease, clock)
    (filed,) = catalog.expiries()
    assert (filed.status, filed.removed) == (RunStatus.FAILED, ())


def test_a_record_that_could_not_be_filed_waits_in_the_spool_with_what_was_removed(
    catalog: Catalog, lease: Lease, clock: SetClock, s3: "S3Client", spool: Spool
) -> None:
    store = ToldStore(meanwhile=lambda: s3.delete_bucket(Bucket=EVIDENCE.bucket))
    store.goes = ("a",)
    with pytest.raises(UnreachableError):
        expire(store, catalog, lease, clock)
    ((_, _, body),) = spool.waiting()
    assert (body["removed"], body["status"]) == (["a"], "succeeded")


def test_a_run_that_is_killed_leaves_its_record_to_the_next(
    catalog: Catalog, clock: SetClock, spool: Spool, tmp_path: Path
) -> None:
    record = Expiry(
        id="postgres-expiry-1",
        component=Component.POSTGRES,
        job="postgresql-expire",
        started=clock(),
        finished=clock(),
        status=RunStatus.FAILED,
        removed=("a", "b"),
        error="the run was ended before it could tell what it had removed",
        version="test",
    )
    ready = tmp_path / "ready"
    child = os.fork()
    if child == 0:
        with catalog.announced(record):
            ready.touch()
            time.sleep(60)
        os._exit(0)
    while not ready.exists():
        time.sleep(0.01)
    assert catalog.deliver_spooled() == 0, "it is still at work"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert catalog.deliver_spooled() == 1
    assert catalog.expiries() == [replace(record, late=True)]
    assert list(spool.waiting()) == []


def test_a_spooled_record_is_whole_or_not_there(spool: Spool, tmp_path: Path) -> None:
    kept = spool.put("records/expiry/x.json", {"a": 1})
    assert json.loads(kept.read_text()) == {"key": "records/expiry/x.json", "body": {"a": 1}}
    spool.drop("records/expiry/x.json")
    spool.drop("records/expiry/x.json")
    assert not list((tmp_path / "spool").iterdir())


class TestStandings:
    """valid, obsolete or lost, from the records alone."""

    moment = datetime.fromisoformat("2026-11-20T00:00:00Z")

    def point(self) -> RecoveryPoint:
        return RecoveryPoint(
            id="p",
            component=Component.MINIO,
            kind=BackupKind.FULL,
            run_id="r",
            started=self.moment,
            recoverable_at=self.moment,
            size_bytes=1,
        )

    def expiry(self, hours: float, *removed: str) -> Expiry:
        at = self.moment + timedelta(hours=hours)
        return Expiry(
            id=f"e{hours}",
            component=Component.MINIO,
            job="minio-prune",
            started=at,
            finished=at,
            status=RunStatus.SUCCEEDED,
            removed=removed,
            version="test",
        )

    def registration(self, hours: float, *, found: bool = False, missing: bool = False) -> Registration:
        at = self.moment + timedelta(hours=hours)
        return Registration(
            id=f"g{hours}",
            component=Component.MINIO,
            scheduled_for=at,
            finished=at + timedelta(minutes=1),
            found=("p",) if found else (),
            recorded=(),
            missing=("p",) if missing else (),
        )

    def cases(self) -> Iterator[tuple[list[Expiry], list[Registration], Standing]]:
        yield [], [], Standing.VALID
        yield [], [self.registration(1, found=True)], Standing.VALID
        yield [self.expiry(2, "other")], [self.registration(1, found=True)], Standing.VALID
        yield [self.expiry(2, "p")], [self.registration(1, found=True)], Standing.OBSOLETE
        yield [self.expiry(2, "p")], [self.registration(3)], Standing.OBSOLETE
        # It said that it would remove it, was killed, and the point is still there.
        yield [self.expiry(2, "p")], [self.registration(3, found=True)], Standing.VALID
        yield [], [self.registration(1, found=True), self.registration(3, missing=True)], Standing.LOST
        # Gone after its days, and nobody said so.
        yield [], [self.registration(3)], Standing.OBSOLETE
        # A reconciliation from before the point says nothing of it.
        yield [], [self.registration(-1)], Standing.VALID

    def test_each_case(self) -> None:
        for expiries, registrations, state in self.cases():
            found = standings([self.point()], expiries, registrations)
            assert found == {(Component.MINIO, "p"): state}, (expiries, registrations)

    def test_another_components_records_say_nothing(self) -> None:
        elsewhere = replace(self.expiry(2, "p"), component=Component.POSTGRES)
        assert standings([self.point()], [elsewhere], []) == {(Component.MINIO, "p"): Standing.VALID}
