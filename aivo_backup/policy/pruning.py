"""Which MinIO points and OpenSearch snapshots stay, and why. Pure.

Every point has a class: daily ones are kept for days, the increments in between for hours. Four things keep a point
beyond its class, because age alone has cost others their last good backup: it is the newest; it is among the last few
that a restore test has passed; another point cannot be restored without it; a run is still writing it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from aivo_backup.policy.environment import BackupKind


class Condition(Enum):
    """What a point is good for. What is neither whole nor running restores nothing, or not all."""

    WHOLE = "whole"
    RUNNING = "running"
    BROKEN = "broken"


class Because(StrEnum):
    """Why a point stays."""

    RUNNING = "a run is writing it"
    NEWEST = "the newest"
    RETENTION = "within its retention"
    VERIFIED = "one of the newest verified points"
    NEEDED = "another point needs it"
    ALONE = "nothing newer is whole"
    COUNT = "one of the newest full backups"
    WINDOW = "the recovery window needs it"


@dataclass(frozen=True, kw_only=True)
class PointState:
    """What is known of one point.

    Attributes:
        taken: the moment it stands for, UTC.
        depends_on: points without which it cannot be restored.
        verified: the newest restore test of it passed.
    """

    id: str
    kind: BackupKind
    taken: datetime
    depends_on: tuple[str, ...] = ()
    condition: Condition = Condition.WHOLE
    verified: bool = False


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What stays with its reason, and what goes; both oldest first."""

    kept: Mapping[str, Because]
    goes: tuple[str, ...]


def decide(
    points: Iterable[PointState],
    *,
    now: datetime,
    kept_for: Callable[[BackupKind], timedelta],
    verified_kept: int,
) -> Decided:
    """What a pruning at ``now`` removes.

    A broken point goes as soon as a newer one is whole: until then its remains are the newest that there is.

    Args:
        kept_for: the retention of each class.
        verified_kept: so many verified points stay, however old.
    """
    ordered = sorted(points, key=lambda point: (point.taken, point.id))
    whole = [point for point in ordered if point.condition is Condition.WHOLE]
    newest = whole[-1] if whole else None
    verified = newest_verified(ordered, verified_kept)

    def reason(point: PointState) -> Because | None:
        young = now - point.taken < kept_for(point.kind)
        if point.condition is Condition.RUNNING:
            return Because.RUNNING
        if point.condition is Condition.BROKEN:
            passed_over = newest is not None and newest.taken > point.taken
            return Because.ALONE if young and not passed_over else None
        if young:
            return Because.RETENTION
        if point is newest:
            return Because.NEWEST
        return Because.VERIFIED if point.id in verified else None

    reasons = {point.id: why for point in ordered if (why := reason(point)) is not None}
    kept = with_needed(reasons, {point.id: point.depends_on for point in ordered})
    return Decided(
        kept={point.id: kept[point.id] for point in ordered if point.id in kept},
        goes=tuple(point.id for point in ordered if point.id not in kept),
    )


def newest_verified(ordered: Sequence[PointState], number: int) -> frozenset[str]:
    """The newest ``number`` verified points of a sequence that has the oldest first."""
    verified = [point.id for point in ordered if point.verified and point.condition is Condition.WHOLE]
    return frozenset(verified[-number:]) if number else frozenset()


def with_needed(kept: Mapping[str, Because], depends_on: Mapping[str, Sequence[str]]) -> dict[str, Because]:
    """What is kept, and everything that it needs, at any remove."""
    reasons = dict(kept)
    waiting = list(kept)
    while waiting:
        for needed in depends_on.get(waiting.pop(), ()):
            if needed in depends_on and needed not in reasons:
                reasons[needed] = Because.NEEDED
                waiting.append(needed)
    return reasons
