"""One restore test: restores a recovery point for real, looks at the data, and files what it found."""

import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Check, Purpose, RecoveryPoint, Restore
from aivo_backup.errors import BackupError, ConfigurationError, UnreachableError
from aivo_backup.jobs.identity import record_id
from aivo_backup.stores.port import Clock, Progress, Stopwatch, Store, TestedRestore


def verify(
    store: Store,
    point: RecoveryPoint,
    *,
    catalog: Catalog,
    clock: Clock,
    progress: Progress,
    scratch_parent: Path | None = None,
    max_loss_seconds: int,
    purpose: Purpose = Purpose.TEST,
    job: str = "",
) -> Restore:
    """Restores ``point`` into isolation, checks it, and files the result, passed or not.

    The loss is what would be gone had the store been lost when the test began: the start of the test less the newest
    heartbeat in the restored data.

    Args:
        scratch_parent: where the scratch folder is made; the system's temporary folder when None.
        job: the CronJob that holds it, where one does.
        max_loss_seconds: the RPO; a larger loss fails the check ``loss``.

    Returns:
        the filed record; ``passed`` tells. A store whose data cannot be restored gives a record that did not pass,
        not an exception.

    Raises:
        UnreachableError, ConfigurationError: the test could not be held at all; a failed record is filed first,
            because a test that was not held proves nothing.
    """
    catalog.deliver_spooled()
    started = clock()
    stopwatch = Stopwatch()
    scratch = Path(tempfile.mkdtemp(prefix="restore-test-", dir=scratch_parent))
    tested, failure = TestedRestore(checks=(), newest_heartbeat=None), None
    try:
        tested = store.restore_test(point, scratch=scratch, now=started, stopwatch=stopwatch, progress=progress)
    except BackupError as error:
        failure = error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    loss = _loss_seconds(started, tested.newest_heartbeat)
    record = Restore(
        id=record_id(store.component, purpose.value, started),
        component=store.component,
        purpose=purpose,
        recovery_point=point.id,
        started=started,
        finished=clock(),
        target_time=started,
        newest_heartbeat=tested.newest_heartbeat,
        loss_seconds=loss,
        phases=stopwatch.phases,
        checks=tested.checks if failure else (*tested.checks, _loss_check(loss, max_loss_seconds)),
        error=str(failure) if failure else "",
        job=job,
        amounts=tested.amounts,
    )
    catalog.append(record)
    if isinstance(failure, UnreachableError | ConfigurationError):
        raise failure
    return record


def _loss_seconds(target: datetime, heartbeat: datetime | None) -> float | None:
    if heartbeat is None:
        return None
    # A heartbeat may be younger than the start of the test: replay went on while it ran. Nothing is lost then.
    return max(0.0, (target - heartbeat).total_seconds())


def _loss_check(loss: float | None, bound: int) -> Check:
    if loss is None:
        return Check(name="loss", passed=False, detail="the restored data holds no heartbeat, so the loss is unknown")
    return Check(name="loss", passed=loss <= bound, detail=f"{loss:.0f} s lost, objective {bound} s")
