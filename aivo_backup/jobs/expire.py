"""One expiry: under the component's lease, and recorded however it ends."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aivo_backup import __version__
from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import Lease, LeaseHeldError
from aivo_backup.catalog.records import Expiry, RunStatus
from aivo_backup.errors import BackupError
from aivo_backup.evidence.judgement import PROVING
from aivo_backup.jobs.filing import file_failure, reason
from aivo_backup.jobs.identity import record_id
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import Clock, Expirable, PlannedExpiry, Progress, VerifiedSince

_PAUSE_SECONDS = 5.0
_INTERRUPTED = "the run was ended before it could tell what it had removed"


@dataclass(frozen=True, kw_only=True)
class ExpiryResult:
    """A run that ended well, and what it had decided; no plan when another run held the lease."""

    expiry: Expiry
    plan: PlannedExpiry | None


def verified_points(catalog: Catalog, component: Component) -> VerifiedSince:
    """Looks up which points have passed their newest restore test or drill."""

    def since(moment: datetime) -> frozenset[str]:
        newest = {
            restore.recovery_point: restore.passed
            for restore in catalog.restores(component, since=moment)
            if restore.purpose in PROVING
        }
        return frozenset(point for point, passed in newest.items() if passed)

    return since


def plan_expiry(store: Expirable, *, catalog: Catalog, clock: Clock) -> PlannedExpiry:
    """What an expiry now would remove; changes nothing and files nothing.

    Raises:
        RefusedError: the store would remove something else than what was decided.
        UnreachableError: the store or the catalog does not answer.
    """
    return store.plan_expiry(now=clock(), verified=verified_points(catalog, store.component))


def run_expiry(
    store: Expirable,
    *,
    catalog: Catalog,
    lease: Lease,
    job: str,
    clock: Clock,
    progress: Progress,
    patience: timedelta,
    sleep: Callable[[float], None],
) -> ExpiryResult:
    """Removes what retention no longer keeps, and files what was removed.

    Before the first removal the record is put down as that of a run that was ended half way, so that even one that is
    killed leaves its evidence.

    Args:
        job: the name of the schedule that started it; ``manual`` when a person did.
        patience: how long to wait for a backup that holds the lease; after that the run is filed as superseded.

    Raises:
        RefusedError: the store would remove something else than what was decided; nothing was removed.
        BackupError: it failed. The failed run has been filed first (or spooled).
        KeyboardInterrupt: it was ended from outside; likewise.
    """
    catalog.deliver_spooled()
    started = clock()
    run = Expiry(
        id=record_id(store.component, "expiry", started),
        component=store.component,
        job=job,
        started=started,
        finished=started,
        status=RunStatus.SUCCEEDED,
        version=__version__,
    )
    removed: list[str] = []
    with ExitStack() as announcement:
        while True:
            try:
                with lease.held(run.id):
                    plan = plan_expiry(store, catalog=catalog, clock=clock)
                    run = replace(run, kept=len(plan.kept), facts=plan.facts)
                    cut_short = replace(run, status=RunStatus.FAILED, removed=plan.goes, error=_INTERRUPTED)
                    announcement.enter_context(catalog.announced(cut_short))
                    plan.carry_out(gone=removed.append, progress=progress)
            except LeaseHeldError as error:
                if clock() - started < patience:
                    sleep(_PAUSE_SECONDS)
                    continue
                run = replace(run, finished=clock(), status=RunStatus.SUPERSEDED, error=str(error))
                catalog.append(run)
                return ExpiryResult(expiry=run, plan=None)
            except (BackupError, KeyboardInterrupt) as error:
                told = reason(error)
                run = replace(run, finished=clock(), status=RunStatus.FAILED, removed=tuple(removed), error=told)
                file_failure(catalog, run, error)
                raise
            run = replace(run, finished=clock(), removed=tuple(removed))
            catalog.append(run)
            return ExpiryResult(expiry=run, plan=plan)
