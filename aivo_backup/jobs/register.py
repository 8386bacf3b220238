"""Reconciles the catalog with what a store really holds: records unknown points, names missing ones."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import RecoveryPoint, Registration
from aivo_backup.catalog.standing import removals
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.port import Clock, HeldPoint, Store


def register(
    store: Store,
    *,
    scheduled_for: datetime,
    catalog: Catalog,
    clock: Clock,
    kept_for: Callable[[BackupKind], timedelta],
) -> Registration:
    """Compares, records what the catalog lacks, and files the outcome.

    It is idempotent by ``scheduled_for``: a retry of the same schedule finds the first one's record.

    A point counts as missing when the catalog holds it, the store does not, no expiry says that it removed it, and
    its retention is not over yet.

    Args:
        kept_for: how long points of a kind are kept at the least.

    Raises:
        UnreachableError: the store or the catalog does not answer.
    """
    registration_id = f"{store.component.value}-registration-{scheduled_for.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    for earlier in catalog.registrations(store.component, since=scheduled_for):
        if earlier.id == registration_id:
            return earlier
    held = store.held_points()
    since = _looked_back(held, clock(), kept_for)
    recorded = catalog.points(store.component, since=since)
    expired = removals(catalog.expiries(store.component, since=since))
    known = {point.id for point in recorded}
    unknown = tuple(point for point in held if point.point not in known)
    for point in unknown:
        catalog.append(_as_record(store, point))
    registration = Registration(
        id=registration_id,
        component=store.component,
        scheduled_for=scheduled_for,
        finished=clock(),
        found=tuple(point.point for point in held),
        recorded=tuple(point.point for point in unknown),
        missing=_missing(
            [point for point in recorded if (point.component, point.id) not in expired], held, clock(), kept_for
        ),
    )
    catalog.append(registration)
    return registration


def _looked_back(held: tuple[HeldPoint, ...], now: datetime, kept_for: Callable[[BackupKind], timedelta]) -> datetime:
    """From when on records matter: what is older is neither held nor still to be kept, so nothing can be said of it."""
    oldest = min([now - max(kept_for(kind) for kind in BackupKind), *(point.recoverable_at for point in held)])
    # A day more: what a store tells of its point and what its run recorded may differ by seconds.
    return oldest - timedelta(days=1)


def _missing(
    recorded: list[RecoveryPoint],
    held: tuple[HeldPoint, ...],
    now: datetime,
    kept_for: Callable[[BackupKind], timedelta],
) -> tuple[str, ...]:
    there = {point.point for point in held}
    return tuple(
        point.id for point in recorded if point.id not in there and now - point.recoverable_at < kept_for(point.kind)
    )


def _as_record(store: Store, held: HeldPoint) -> RecoveryPoint:
    return RecoveryPoint(
        id=held.point,
        component=store.component,
        kind=held.kind,
        run_id="",
        started=held.started,
        recoverable_at=held.recoverable_at,
        size_bytes=held.size_bytes,
        inventory=held.inventory,
        facts=held.facts,
        depends_on=held.depends_on,
    )
