"""Records that stand in for those of Jobs that could not file their own: no pod was let in, or it was killed.

Such a failure is filed as soon as the cluster tells it. A run that was killed has announced itself on its volume too,
and the next run on that volume delivers this, hours later. Records are written once, so it is the readers that tell the
two as the one run that they are.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from aivo_backup.catalog.records import BackupRun, Expiry, Restore

_MARK = "-job-"

R = TypeVar("R", BackupRun, Expiry, Restore)


def stand_in_id(what: str, created: datetime, uid: str) -> str:
    """The id of a Job's stand-in. It has the Job's own UID: who files it again finds it filed.

    Args:
        what: for example ``postgres-full``.
        created: when the Job was made.
    """
    return f"{what}-{created.astimezone(UTC):%Y%m%dT%H%M%SZ}{_MARK}{uid}"


def is_stand_in(record: BackupRun | Expiry | Restore) -> bool:
    """Whether it stands in for another: such a record is that of one Job, and of no other whenever that began."""
    return _MARK in record.id


def is_of_job(record: BackupRun | Expiry | Restore, name: str, since: datetime, until: datetime) -> bool:
    """Whether a record is what a Job filed itself.

    Args:
        name: of the Job's CronJob, which forbids two at once: what began in a Job's time is the Job's.
        since: when the Job was made; ``until``: when it ended.
    """
    return not is_stand_in(record) and record.job == name and since <= record.started <= until


def told_once(records: Iterable[R]) -> list[R]:
    """The records without stand-ins of Jobs whose own record has come after all, in the order given."""
    known = list(records)
    own: dict[str, list[R]] = defaultdict(list)
    for record in known:
        own[record.job].append(record)
    return [
        record
        for record in known
        if not (
            is_stand_in(record)
            and any(is_of_job(it, record.job, record.started, record.finished) for it in own[record.job])
        )
    ]
