"""The options that say where a recovery of PostgreSQL stops, read."""

from datetime import datetime

from aivo_backup.errors import UsageError
from aivo_backup.stores.postgres.targets import Target, TargetKind


def target_of(time: datetime | None, lsn: str | None, xid: str | None, name: str | None, label: str) -> Target:
    """The target that the options name; the newest archived state when they name none.

    Raises:
        UsageError: they name more than one, or a malformed one.
    """
    given = {
        kind: value
        for kind, value in ((TargetKind.LSN, lsn), (TargetKind.XID, xid), (TargetKind.NAME, name))
        if value is not None
    }
    if len(given) + (time is not None) > 1:
        raise UsageError("only one target can be given", mend="choose one of --target-time, -lsn, -xid and -name")
    if time is not None:
        return Target(kind=TargetKind.TIME, time=time, label=label)
    for kind, value in given.items():
        return Target(kind=kind, value=value, label=label)
    return Target(kind=TargetKind.SET if label else TargetKind.LATEST, label=label)
