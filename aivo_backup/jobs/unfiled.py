"""Files the failure of Jobs that could not do it themselves: no pod was let in, no image was found, a node was lost."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from aivo_backup import __version__
from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import BackupRun, Expiry, Purpose, Restore, RunStatus
from aivo_backup.catalog.stand_ins import is_of_job, stand_in_id
from aivo_backup.policy.environment import Component, Environment, ExpiryRun, ScheduledRun
from aivo_backup.policy.names import restore_test_job
from aivo_backup.stores.in_cluster import BarrenJob

_GRACE = timedelta(seconds=60)
"""How long a Job that came to nothing is left alone: its pod may still be filing its own record, or a webhook that was
away for a moment may let the next try in."""

Filed = BackupRun | Expiry | Restore


def file_unfiled(jobs: Iterable[BarrenJob], *, environment: Environment, catalog: Catalog, now: datetime) -> int:
    """Files a failed run for each Job that left no record of its own. Safe to repeat: a Job has one record.

    A run that was killed has announced itself on its volume, which the next run there delivers: until then it is told
    by this record, and from then on by its own (:mod:`aivo_backup.catalog.stand_ins`).

    Returns:
        how many were filed.

    Raises:
        BackupError: the catalog cannot be read, or did not take one; the next look files what is left.
    """
    ripe = [job for job in jobs if now - job.ended >= _GRACE]
    if not ripe:
        return 0
    since = min(job.created for job in ripe)
    records = [*catalog.runs(since=since), *catalog.expiries(since=since), *catalog.restores(since=since)]
    found = unfiled(ripe, environment=environment, records=records)
    for record in found:
        catalog.append(record)
    return len(found)


def unfiled(jobs: Iterable[BarrenJob], *, environment: Environment, records: Sequence[Filed]) -> list[Filed]:
    """The records that are missing: of the backups, expiries and restore tests among the Jobs.

    Args:
        records: every run, expiry and restore since the oldest of the Jobs.
    """
    known: dict[str, ScheduledRun | ExpiryRun | Component] = {
        **{run.name: run for run in (*environment.backups, *environment.expiries)},
        # A restore test's Job is made by the function that it outgrows.
        **{restore_test_job(component): component for component in Component},
    }
    found: list[Filed] = []
    for job in jobs:
        what = known.get(job.cron_job)
        if what is None:
            continue
        record = _record(job, what)
        if not any(it.id == record.id or is_of_job(it, job.cron_job, job.created, job.ended) for it in records):
            found.append(record)
    return found


def _record(job: BarrenJob, what: ScheduledRun | ExpiryRun | Component) -> Filed:
    error = f"Job {job.name} left no record: {job.reason}"
    match what:
        case ScheduledRun():
            return BackupRun(
                id=stand_in_id(f"{what.component.value}-{what.kind.value}", job.created, job.uid),
                component=what.component,
                kind=what.kind,
                job=what.name,
                started=job.created,
                finished=job.ended,
                status=RunStatus.FAILED,
                error=error,
                version=__version__,
            )
        case ExpiryRun():
            return Expiry(
                id=stand_in_id(f"{what.component.value}-expiry", job.created, job.uid),
                component=what.component,
                job=what.name,
                started=job.created,
                finished=job.ended,
                status=RunStatus.FAILED,
                error=error,
                version=__version__,
            )
        case Component():
            return Restore(
                id=stand_in_id(f"{what.value}-{Purpose.TEST.value}", job.created, job.uid),
                component=what,
                purpose=Purpose.TEST,
                # It got to none, and says nothing of the one that it would have restored.
                recovery_point="",
                started=job.created,
                finished=job.ended,
                target_time=job.created,
                error=error,
                job=job.cron_job,
            )
