"""What can be restored now, from the records of the time that matters and none before it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import RecoveryPoint, Registration
from aivo_backup.catalog.standing import Standing, standings
from aivo_backup.policy.environment import BackupKind, Component, Environment
from aivo_backup.policy.retention import kept_for

# A reconciliation names a point as missing while it should be there, and is itself a day old or a few.
_LOST_STAYS_IN_SIGHT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Stood:
    """A recorded point and its state."""

    point: RecoveryPoint
    standing: Standing


def not_obsolete(catalog: Catalog, environment: Environment, component: Component, *, now: datetime) -> list[Stood]:
    """The points that are valid or lost, oldest first.

    A point that is older than any retention is there only if the newest reconciliation has found it, for example
    because it is one of the last verified ones: it is looked up by name. Without a reconciliation, all are read.

    Raises:
        UnreachableError, AccessDeniedError: the catalog.
    """
    looked = catalog.newest(Registration, lambda entry: entry.component is component)
    since: datetime | None = None
    found: frozenset[str] = frozenset()
    if looked is not None:
        # What was recorded after the reconciliation, none can have found.
        since = min(
            now - max(kept_for(environment, component, kind) for kind in BackupKind) - _LOST_STAYS_IN_SIGHT,
            looked.scheduled_for - _LOST_STAYS_IN_SIGHT,
        )
        found = frozenset(looked.found)
    points = catalog.points(component, since=since)
    older = catalog.points_named(component, found - {point.id for point in points})
    # A removal before the reconciliation says nothing about a point that it found.
    removed = catalog.expiries(component, since=since)
    states = standings([*older, *points], removed, [looked] if looked else [])
    stood = [Stood(point=point, standing=states[point.component, point.id]) for point in (*older, *points)]
    return [each for each in stood if each.standing is not Standing.OBSOLETE]
