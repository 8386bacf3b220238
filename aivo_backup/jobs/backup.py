"""One backup run: under the component's lease, and recorded however it ends."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from aivo_backup import __version__
from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import Lease, LeaseHeldError
from aivo_backup.catalog.records import BackupRun, RecoveryPoint, RunStatus
from aivo_backup.errors import BackupError
from aivo_backup.jobs.filing import file_failure, reason
from aivo_backup.jobs.identity import record_id
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.port import Clock, PartialBackupError, Progress, Store, TakenBackup

_INTERRUPTED = "the run was ended before it could tell how it went"


@dataclass(frozen=True, kw_only=True)
class BackupResult:
    """A run that succeeded and the point it left, or a run that another one superseded (no point)."""

    run: BackupRun
    point: RecoveryPoint | None


def run_backup(
    store: Store,
    kind: BackupKind,
    *,
    catalog: Catalog,
    lease: Lease,
    job: str,
    clock: Clock,
    progress: Progress,
    sleep: Callable[[float], None],
) -> BackupResult:
    """Backs up one store and files the run and its recovery point.

    The run is put down as one that was ended half way before it begins: even one that is killed leaves its evidence,
    which the next run delivers.

    Args:
        job: the name of the schedule that started it; ``manual`` when a person did.
        sleep: waits so many seconds, for the lease of a run that died to run out: its retry is the next run.

    Returns:
        the run and the point. A run that the lease held back is filed as superseded.

    Raises:
        BackupError: the backup failed. The failed run has been filed first (or spooled).
        KeyboardInterrupt: it was ended from outside; likewise.
        UnreachableError: the backup is there, and the catalog could not be told; the record is in the spool.
    """
    catalog.deliver_spooled()
    started = clock()
    run_id = record_id(store.component, kind.value, started)

    def ended(status: RunStatus, taken: TakenBackup | None = None, error: str = "") -> BackupRun:
        return BackupRun(
            id=run_id,
            component=store.component,
            kind=kind,
            job=job,
            started=started,
            finished=clock(),
            status=status,
            recovery_point=taken.point if taken else None,
            bytes_transferred=taken.bytes_transferred if taken else 0,
            error=error,
            version=__version__,
        )

    with ExitStack() as announcement:
        try:
            with lease.held(run_id, sleep=sleep):
                announcement.enter_context(catalog.announced(ended(RunStatus.FAILED, error=_INTERRUPTED)))
                taken = store.backup(kind, now=started, progress=progress)
        except LeaseHeldError as error:
            run = ended(RunStatus.SUPERSEDED, error=str(error))
            catalog.append(run)
            return BackupResult(run=run, point=None)
        except (BackupError, KeyboardInterrupt) as error:
            status = RunStatus.PARTIAL if isinstance(error, PartialBackupError) else RunStatus.FAILED
            file_failure(catalog, ended(status, error=reason(error)), error)
            raise
        point = recovery_point(store, kind, run_id, started, taken)
        run = ended(RunStatus.SUCCEEDED, taken)
        # The point first: a run that says it succeeded must never name a point that the catalog lacks.
        catalog.append(point)
        catalog.append(run)
        return BackupResult(run=run, point=point)


def recovery_point(store: Store, kind: BackupKind, run_id: str, started: datetime, taken: TakenBackup) -> RecoveryPoint:
    """The record of what a run left."""
    return RecoveryPoint(
        id=taken.point,
        component=store.component,
        kind=kind,
        run_id=run_id,
        started=started,
        recoverable_at=taken.recoverable_at,
        size_bytes=taken.size_bytes,
        inventory=taken.inventory,
        facts=taken.facts,
        depends_on=taken.depends_on,
    )
