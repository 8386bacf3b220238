"""Files the failure of Jobs that could not do it themselves: no pod was let in, no image was found, a node was lost."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from aivo_backup import __version__
from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import BackupRun, Expiry, RunStatus
from aivo_backup.policy.environment import Environment, ExpiryRun, ScheduledRun
from aivo_backup.stores.in_cluster import BarrenJob

_GRACE = timedelta(seconds=60)
"""How long a Job that came to nothing is left alone: its pod may still be filing its own record, or a webhook that was
away for a moment may let the next try in."""
_FROM_HERE = "-job-"
"""Marks the ids of what is filed here: another Job's record is no record of this one, whenever it began."""


def file_unfiled(jobs: Iterable[BarrenJob], *, environment: Environment, catalog: Catalog, now: datetime) -> int:
    """Files a failed run for each Job that left no record of its own. Safe to repeat: a Job has one record.

    A run that was killed may be told twice: by this record, which is there at once, and by its own announcement, which
    the next run on the same volume delivers.

    Returns:
        how many were filed.

    Raises:
        BackupError: the catalog cannot be read, or did not take one; the next look files what is left.
    """
    ripe = [job for job in jobs if now - job.ended >= _GRACE]
    if not ripe:
        return 0
    since = min(job.created for job in ripe)
    runs, expiries = catalog.runs(since=since), catalog.expiries(since=since)
    found = unfiled(ripe, environment=environment, records=[*runs, *expiries])
    for record in found:
        catalog.append(record)
    return len(found)


def unfiled(
    jobs: Iterable[BarrenJob], *, environment: Environment, records: Sequence[BackupRun | Expiry]
) -> list[BackupRun | Expiry]:
    """The records that are missing: of the scheduled backups and expiries among the Jobs.

    Args:
        records: every run and expiry since the oldest of the Jobs.
    """
    scheduled = {run.name: run for run in (*environment.backups, *environment.expiries)}
    found: list[BackupRun | Expiry] = []
    for job in jobs:
        run = scheduled.get(job.cron_job)
        if run is None:
            continue
        record = _record(job, run)
        if not any(it.id == record.id or _is_of(it, job) for it in records):
            found.append(record)
    return found


def _is_of(record: BackupRun | Expiry, job: BarrenJob) -> bool:
    """Its CronJob forbids two at once: what began in a Job's time is the Job's."""
    own = _FROM_HERE not in record.id
    return own and record.job == job.cron_job and job.created <= record.started <= job.ended


def _record(job: BarrenJob, run: ScheduledRun | ExpiryRun) -> BackupRun | Expiry:
    error = f"Job {job.name} left no record: {job.reason}"
    # The Job's own UID: who files it again finds it filed.
    tail = f"{job.created.astimezone(UTC):%Y%m%dT%H%M%SZ}{_FROM_HERE}{job.uid}"
    if isinstance(run, ScheduledRun):
        return BackupRun(
            id=f"{run.component.value}-{run.kind.value}-{tail}",
            component=run.component,
            kind=run.kind,
            job=run.name,
            started=job.created,
            finished=job.ended,
            status=RunStatus.FAILED,
            error=error,
            version=__version__,
        )
    return Expiry(
        id=f"{run.component.value}-expiry-{tail}",
        component=run.component,
        job=run.name,
        started=job.created,
        finished=job.ended,
        status=RunStatus.FAILED,
        error=error,
        version=__version__,
    )
