"""Deletes snapshots through the API, which alone knows which files another snapshot still uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aivo_backup.catalog.records import Fact
from aivo_backup.policy.environment import BackupKind, OpenSearchSettings
from aivo_backup.policy.pruning import Because, Condition, Decided, PointState, decide
from aivo_backup.stores.opensearch.names import snapshot_time
from aivo_backup.stores.opensearch.snapshots import Snapshot, Snapshots
from aivo_backup.stores.opensearch.states import SnapshotOutcome
from aivo_backup.stores.port import Progress, VerifiedSince

_CONDITIONS = {SnapshotOutcome.COMPLETE: Condition.WHOLE, SnapshotOutcome.RUNNING: Condition.RUNNING}


@dataclass(frozen=True, kw_only=True)
class SnapshotExpiry:
    """A decided expiry, ready to be carried out.

    Attributes:
        unreadable: snapshots that the repository names and cannot describe; they stay, for a person to look at.
    """

    snapshots: Snapshots
    decided: Decided
    unreadable: tuple[str, ...]

    @property
    def goes(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.stores.port.PlannedExpiry`."""
        return self.decided.goes

    @property
    def kept(self) -> Mapping[str, Because]:
        """See :class:`~aivo_backup.stores.port.PlannedExpiry`."""
        return self.decided.kept

    @property
    def facts(self) -> Mapping[str, Fact]:
        """Which snapshots cannot be judged."""
        return {"unreadable": ", ".join(self.unreadable)} if self.unreadable else {}

    def carry_out(self, *, gone: Callable[[str], None], progress: Progress) -> None:
        """Deletes the snapshots, oldest first.

        Raises:
            ClusterError, UnreachableError, AccessDeniedError: OpenSearch.
        """
        if self.unreadable:
            progress(f"left for a person to look at, since they cannot be read: {', '.join(self.unreadable)}")
        for name in self.goes:
            self.snapshots.delete(name)
            gone(name)
            progress(f"snapshot {name} is gone")


def plan_expiry(
    snapshots: Snapshots, settings: OpenSearchSettings, *, now: datetime, verified: VerifiedSince
) -> SnapshotExpiry:
    """Decides which snapshots go: also those that somebody took by hand, and what partial and failed ones left.

    Raises:
        ClusterError, UnreachableError, AccessDeniedError: OpenSearch.
    """
    names = snapshots.names()
    found = snapshots.all()
    described = {snapshot.name for snapshot in found}
    proven = verified(min((_taken(snapshot) for snapshot in found), default=now))
    retention = {
        BackupKind.FULL: timedelta(days=settings.retention_days),
        BackupKind.INCREMENTAL: timedelta(hours=settings.increment_retention_hours),
    }
    decided = decide(
        (_state(snapshot, verified=snapshot.name in proven) for snapshot in found),
        now=now,
        kept_for=retention.__getitem__,
        verified_kept=settings.verified_points_kept,
    )
    return SnapshotExpiry(snapshots=snapshots, decided=decided, unreadable=tuple(sorted(set(names) - described)))


def _state(snapshot: Snapshot, *, verified: bool) -> PointState:
    return PointState(
        id=snapshot.name,
        kind=snapshot.kind,
        taken=_taken(snapshot),
        condition=_CONDITIONS.get(snapshot.outcome, Condition.BROKEN),
        verified=verified,
    )


def _taken(snapshot: Snapshot) -> datetime:
    # One that failed before it began has no time of its own, and would look as old as computers are.
    return max(snapshot.started, snapshot_time(snapshot.name) or snapshot.started)
