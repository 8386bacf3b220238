"""A Job that could not file its own failure has it filed, once, and no other Job has."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import BackupRun, Expiry, Purpose, Restore, RunStatus
from aivo_backup.catalog.spool import Spool
from aivo_backup.jobs.unfiled import file_unfiled
from aivo_backup.observability.facts import CatalogFacts
from aivo_backup.policy import metrics as named
from aivo_backup.policy.environment import BackupKind, Component
from aivo_backup.policy.schedules import EXPIRIES
from aivo_backup.stores.in_cluster import BarrenJob, judged
from tests.unit.conftest import EVIDENCE
from tests.unit.evidence.generated import environment

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

CREATED = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
ENVIRONMENT = replace(environment(), expiries=EXPIRIES)
REFUSED = BarrenJob(
    uid="0c5e8f5e-7c1c-4c0e-9f55-1d2f6a3b9e10",
    name="postgresql-backup-full-29",
    cron_job="postgresql-backup-full",
    created=CREATED,
    ended=CREATED + timedelta(seconds=1),
    reason="violates PodSecurity",
)
FAILED = replace(REFUSED, ended=CREATED + timedelta(hours=1), reason="DeadlineExceeded: too long")
LATER = CREATED + timedelta(hours=2)


@pytest.fixture
def catalog(s3: "S3Client", tmp_path: Path) -> Catalog:
    return Catalog(s3=s3, evidence=EVIDENCE, kms_key="alias/aws/s3", spool=Spool(tmp_path / "spool"))


def look(catalog: Catalog, *jobs: BarrenJob, now: datetime = LATER) -> int:
    return file_unfiled(jobs, environment=ENVIRONMENT, catalog=catalog, now=now)


def run(started: datetime, *, job: str = REFUSED.cron_job) -> BackupRun:
    return BackupRun(
        id="its-own",
        component=Component.POSTGRES,
        kind=BackupKind.FULL,
        job=job,
        started=started,
        finished=started,
        status=RunStatus.FAILED,
        version="0",
    )


def test_a_refused_job_is_a_failed_run_with_the_clusters_words_once(catalog: Catalog) -> None:
    assert [look(catalog, REFUSED) for _ in range(2)] == [1, 0]
    # It gives up at its deadline: still the same Job.
    assert look(catalog, FAILED) == 0
    (filed,) = catalog.runs()
    assert (filed.component, filed.kind, filed.job) == (Component.POSTGRES, BackupKind.FULL, REFUSED.cron_job)
    assert (filed.started, filed.finished, filed.status) == (CREATED, REFUSED.ended, RunStatus.FAILED)
    assert REFUSED.name in filed.error
    assert "violates PodSecurity" in filed.error
    other = replace(REFUSED, uid="another")
    assert look(catalog, REFUSED, other) == 1, "two Jobs of one second are two runs"


def test_an_expiry_that_got_no_pod_is_a_failed_expiry(catalog: Catalog) -> None:
    assert look(catalog, replace(REFUSED, cron_job=EXPIRIES[0].name)) == 1
    (filed,) = catalog.expiries()
    assert isinstance(filed, Expiry)
    assert (filed.job, filed.component, filed.status) == (
        EXPIRIES[0].name,
        EXPIRIES[0].component,
        RunStatus.FAILED,
    )


def test_a_job_is_given_a_minute(catalog: Catalog) -> None:
    assert look(catalog, REFUSED, now=REFUSED.ended + timedelta(seconds=59)) == 0
    assert look(catalog, REFUSED, now=REFUSED.ended + timedelta(seconds=60)) == 1


@pytest.mark.parametrize(
    ("record", "filed"),
    [
        (run(CREATED), 0),
        (run(CREATED + timedelta(minutes=30)), 0),
        (run(FAILED.ended + timedelta(seconds=1)), 1),
        (run(CREATED - timedelta(seconds=1)), 1),
        (run(CREATED + timedelta(minutes=30), job="postgresql-backup-incr"), 1),
    ],
)
def test_what_a_job_filed_itself_is_not_filed_again(catalog: Catalog, record: BackupRun, filed: int) -> None:
    catalog.append(record)
    assert look(catalog, FAILED) == filed


def test_a_job_that_no_schedule_knows_is_nobodys_run(catalog: Catalog) -> None:
    assert look(catalog, replace(REFUSED, cron_job="somebody-elses")) == 0


def test_a_restore_test_that_got_no_pod_is_a_failed_one_and_says_nothing_of_any_point(catalog: Catalog) -> None:
    refused = replace(REFUSED, cron_job="restore-test-postgres", name="restore-test-postgres-20261122010000")
    assert [look(catalog, refused) for _ in range(2)] == [1, 0]
    (filed,) = catalog.restores()
    assert (filed.component, filed.purpose, filed.job) == (Component.POSTGRES, Purpose.TEST, refused.cron_job)
    assert (filed.started, filed.finished, filed.passed) == (CREATED, REFUSED.ended, False)
    assert filed.recovery_point == ""
    assert refused.name in filed.error
    # The agent tells it at once: RestoreTestFailed fires, and does not wait a day as RestoreTestMissing does.
    passed = [it for it in CatalogFacts(catalog, ENVIRONMENT)(LATER) if it.metric is named.TEST_PASSED]
    assert [(it.labels["component"], it.value) for it in passed] == [("postgres", 0.0)]


@pytest.mark.parametrize(("job", "filed"), [("restore-test-postgres", 0), ("", 1)])
def test_a_restore_test_that_filed_its_failure_is_not_filed_again(catalog: Catalog, job: str, filed: int) -> None:
    started = CREATED + timedelta(minutes=1)
    held = Restore(
        id="its-own",
        component=Component.POSTGRES,
        purpose=Purpose.TEST,
        recovery_point="one",
        started=started,
        finished=started,
        target_time=started,
        error="it failed",
        job=job,
    )
    catalog.append(held)
    assert look(catalog, replace(FAILED, cron_job="restore-test-postgres")) == filed


def test_a_killed_run_that_tells_itself_later_is_told_once(catalog: Catalog) -> None:
    """The agent files the Job's failure at once; what the run announced on its volume comes with the next run."""
    started = CREATED + timedelta(minutes=2)
    own = run(started)
    facts = CatalogFacts(catalog, ENVIRONMENT)

    def failed() -> float:
        return next(
            it.value
            for it in facts(LATER)
            if it.metric is named.JOBS
            and (it.labels["job_name"], it.labels["status"]) == (REFUSED.cron_job, named.FAILED)
        )

    with suppress(KeyboardInterrupt), catalog.announced(own):
        raise KeyboardInterrupt
    assert look(catalog, FAILED) == 1
    assert [it.id for it in catalog.runs()] != [own.id]
    assert failed() == 1
    assert catalog.deliver_spooled() == 1
    assert [(it.id, it.late) for it in catalog.runs()] == [(own.id, True)]
    assert failed() == 1
    assert look(catalog, FAILED) == 0
    # Another Job's stand-in stays, and so does a second attempt of this one, which is a run of its own.
    assert (
        look(catalog, replace(REFUSED, uid="another", created=LATER, ended=LATER), now=LATER + timedelta(hours=1)) == 1
    )
    catalog.append(replace(own, id="second", started=started + timedelta(minutes=5)))
    assert len(catalog.runs()) == 3


@pytest.mark.parametrize(
    ("status", "refusals", "reason"),
    [
        ({}, [], None),
        ({"active": 1}, ["forbidden"], None),
        ({"failed": 1}, ["forbidden"], None),
        ({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}, ["forbidden"], None),
        ({}, ["forbidden"], "forbidden"),
        ({"active": 0}, ["forbidden"], "forbidden"),
        ({"failed": 2, "conditions": ["Failed"]}, [], "BackoffLimitExceeded: twice"),
        ({"conditions": ["Failed"]}, ["no"], "BackoffLimitExceeded: twice; first refusal of a pod: no"),
    ],
)
def test_what_a_job_and_its_events_come_to(status: dict[str, Any], refusals: list[str], reason: str | None) -> None:
    at = "2026-11-22T02:00:00Z"
    failure = {"type": "Failed", "status": "True", "lastTransitionTime": at}
    failure |= {"reason": "BackoffLimitExceeded", "message": "twice"}
    status = status | {
        "conditions": [failure if one == "Failed" else one for one in status.get("conditions", [])] or None
    }
    job = {"metadata": {"uid": "1", "name": "j", "creationTimestamp": "2026-11-22T01:00:00Z"}, "status": status}
    found = judged(job, [{"metadata": {"creationTimestamp": at}, "message": text} for text in refusals])
    assert (found.reason if found else None) == reason
