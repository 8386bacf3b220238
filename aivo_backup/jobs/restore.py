"""A person's restore, filed like every other: what came back, from which point, with how much loss, in how long."""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import Lease, LeaseHeldError
from aivo_backup.catalog.records import Check, Purpose, Restore
from aivo_backup.errors import BackupError, RefusedError, UsageError
from aivo_backup.jobs.identity import record_id
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import Clock, Progress, Stopwatch, silent


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore brought back.

    Attributes:
        recovery_point: the point that it came from.
        target_time: the moment that was asked for, UTC.
        newest_heartbeat: None when what was restored holds none.
        amounts: how much there was to do, by unit.
    """

    recovery_point: str
    target_time: datetime
    newest_heartbeat: datetime | None
    checks: tuple[Check, ...]
    amounts: Mapping[str, float] = field(default_factory=dict[str, float])


def run_restore(
    component: Component,
    work: Callable[[Stopwatch], Restored],
    *,
    recovery_point: str,
    catalog: Catalog,
    clock: Clock,
    purpose: Purpose = Purpose.RECOVERY,
    lease: Lease | None = None,
    progress: Progress = silent,
) -> Restore:
    """Runs a restore and files it, also when it fails.

    Args:
        work: restores, timing its phases.
        recovery_point: what was asked for, for the record of a restore that fails.
        lease: keeps a second restore into the same store out. Where it cannot be taken, because AWS is away too, the
            restore goes on without it, and says so.

    Returns:
        the filed record.

    Raises:
        UsageError, RefusedError: nothing was changed, and nothing is filed.
        BackupError: it failed; the failed record has been filed.
    """
    started = clock()
    restore_id = record_id(component, purpose.value, started)
    stopwatch = Stopwatch()
    failure: BackupError | None = None
    restored = Restored(recovery_point=recovery_point, target_time=started, newest_heartbeat=None, checks=())
    try:
        with _held(lease, restore_id, progress):
            restored = work(stopwatch)
    except (UsageError, RefusedError):
        raise
    except BackupError as error:
        failure = error
    loss = None
    if restored.newest_heartbeat is not None:
        loss = max(0.0, (restored.target_time - restored.newest_heartbeat).total_seconds())
    record = Restore(
        id=restore_id,
        component=component,
        purpose=purpose,
        recovery_point=restored.recovery_point,
        started=started,
        finished=clock(),
        target_time=restored.target_time,
        newest_heartbeat=restored.newest_heartbeat,
        loss_seconds=loss,
        phases=stopwatch.phases,
        checks=restored.checks,
        amounts=restored.amounts,
        error=str(failure) if failure else "",
    )
    try:
        catalog.append(record)
    except BackupError as error:
        if failure is None:
            raise
        failure.add_note(str(error))
    if failure is not None:
        raise failure
    return record


@contextmanager
def alone(component: Component, lease: Lease, *, clock: Clock, progress: Progress) -> Generator[None]:
    """Keeps restores out for the block, as :func:`run_restore` does, where there is no restore to file.

    Raises:
        RefusedError: a restore is under way.
    """
    with _held(lease, record_id(component, "import", clock()), progress):
        yield


@contextmanager
def _held(lease: Lease | None, holder: str, progress: Progress) -> Generator[None]:
    with ExitStack() as stack:
        if lease is not None:
            try:
                stack.enter_context(lease.held(holder))
            except LeaseHeldError as error:
                raise RefusedError(
                    f"another restore is under way ({error.what})", mend="wait for it to end; nothing was changed"
                ) from error
            except BackupError as error:
                progress(f"goes on without the lease that keeps two restores apart: {error}")
        yield
