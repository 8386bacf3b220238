"""Whether a recorded point is still there: told from the records alone. Pure."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from aivo_backup.catalog.records import Expiry, RecoveryPoint, Registration
from aivo_backup.policy.environment import Component

Key = tuple[Component, str]


class Standing(StrEnum):
    """A point's state. ``OBSOLETE``: retention removed it. ``LOST``: it is gone, and should be there."""

    VALID = "valid"
    OBSOLETE = "obsolete"
    LOST = "lost"


def standings(
    points: Iterable[RecoveryPoint], expiries: Iterable[Expiry], registrations: Iterable[Registration]
) -> dict[Key, Standing]:
    """The state of each point, by component and id.

    What an expiry says it removed is obsolete, unless a later reconciliation still found it. What the newest
    reconciliation no longer found is lost if it calls it missing, and else gone in good order.

    Args:
        registrations: the newest of each component is enough.
    """
    removed = removals(expiries)
    newest: dict[Component, Registration] = {}
    for entry in sorted(registrations, key=lambda each: each.scheduled_for):
        newest[entry.component] = entry
    return {
        (point.component, point.id): _standing(
            point, removed.get((point.component, point.id)), newest.get(point.component)
        )
        for point in points
    }


def removals(expiries: Iterable[Expiry]) -> dict[Key, datetime]:
    """When each point was last said to be removed, UTC."""
    ordered = sorted(expiries, key=lambda entry: entry.started)
    return {(entry.component, name): entry.finished for entry in ordered for name in entry.removed}


def _standing(point: RecoveryPoint, removed_at: datetime | None, registration: Registration | None) -> Standing:
    # Reconciliation reads the store first and finishes later; a point that appeared meanwhile is not judged by it.
    looked = registration if registration is not None and registration.finished > point.recoverable_at else None
    if looked is not None and point.id in (*looked.found, *looked.recorded):
        still_there = removed_at is None or removed_at < looked.finished
        return Standing.VALID if still_there else Standing.OBSOLETE
    if removed_at is not None:
        return Standing.OBSOLETE
    if looked is None or looked.scheduled_for < point.recoverable_at:
        return Standing.VALID
    return Standing.LOST if point.id in looked.missing else Standing.OBSOLETE
