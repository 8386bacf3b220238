"""Months of MinIO points and OpenSearch snapshots, generated, with a daily pruning; and what must be true of it."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from aivo_backup.policy.environment import BackupKind
from aivo_backup.policy.pruning import Condition, Decided, PointState, decide

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=6)
# The runbook's numbers, written out a second time on purpose.
DAILY, INCREMENTS, VERIFIED = timedelta(days=30), timedelta(hours=48), 2

Decide = Callable[..., Decided]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point. ``broken``: its run left something that restores nothing, or not all."""

    name: str
    taken: datetime
    daily: bool
    base: str = ""
    broken: bool = False
    verified: bool = False


@dataclass
class Points:
    """The points of one store, step by step.

    Attributes:
        unlucky: the share of runs that leave something broken, and as many again leave nothing.
        unproven_from: no restore test passes from that day on; ``last_day``: nor does any run succeed.
        chained: increments need the daily point before them, as MinIO's do.
        daily_hour: when the daily run is; the others follow every six hours.
        daily_kept: how long daily points are kept; ``increments_kept``: those in between; ``verified_kept``: so many
            verified ones, however old.
    """

    dice: random.Random
    unlucky: float = 0.1
    last_day: int = 10_000
    unproven_from: int = 10_000
    chained: bool = True
    daily_hour: int = 0
    daily_kept: timedelta = DAILY
    increments_kept: timedelta = INCREMENTS
    verified_kept: int = VERIFIED
    choose: Decide = decide
    now: datetime = BEGINNING
    points: dict[str, Point] = field(default_factory=dict[str, Point])
    gone: dict[str, Point] = field(default_factory=dict[str, Point])

    @property
    def day(self) -> int:
        return (self.now - BEGINNING).days

    def step(self) -> Point | None:
        """One run, and what it left."""
        self.now += STEP
        if self.dice.random() < self.unlucky:
            return None
        last = next((point for point in reversed(self.points.values()) if not point.broken), None)
        daily = self.now.hour == self.daily_hour or (self.chained and last is None)
        point = Point(
            name=f"{self.now:%Y%m%d_%H%M%S}",
            taken=self.now,
            daily=daily,
            base="" if daily or last is None or not self.chained else last.base or last.name,
            broken=self.day >= self.last_day or self.dice.random() < self.unlucky,
        )
        self.points[point.name] = point
        return point

    def verify(self) -> None:
        """A restore test of the newest point."""
        newest = next((point for point in reversed(self.points.values()) if not point.broken), None)
        if newest is not None and self.day < self.unproven_from and self.dice.random() < 0.7:
            self.points[newest.name] = replace(newest, verified=True)

    def prune(self) -> Decided:
        """What the job does."""
        decided = self.choose(
            [
                PointState(
                    id=point.name,
                    kind=BackupKind.FULL if point.daily else BackupKind.INCREMENTAL,
                    taken=point.taken,
                    depends_on=(point.base,) if point.base else (),
                    condition=Condition.BROKEN if point.broken else Condition.WHOLE,
                    verified=point.verified,
                )
                for point in self.points.values()
            ],
            now=self.now,
            kept_for={BackupKind.FULL: self.daily_kept, BackupKind.INCREMENTAL: self.increments_kept}.__getitem__,
            verified_kept=self.verified_kept,
        )
        for name in decided.goes:
            self.gone[name] = self.points.pop(name)
        return decided

    def whole_day(self) -> Iterator[str]:
        """Four runs, a restore test, a pruning; answers what is wrong with it."""
        for _ in range(4):
            self.step()
        self.verify()
        held = dict(self.points)
        self.prune()
        yield from self.wrong(held)

    def wrong(self, held: dict[str, Point]) -> Iterator[str]:
        """What a pruning of ``held`` took although it was promised, and what it left although nothing needs it."""
        whole = [point for point in held.values() if not point.broken]
        promised = self.promised(whole)
        for point in promised:
            for name in (point.name, point.base):
                if name and name not in self.points:
                    yield f"{name} is lost, which {point.name} needs"
        for point in held.values():
            alone = point.broken and not any(other.taken > point.taken for other in whole)
            if alone and self.young(point) and point.name not in self.points:
                yield f"{point.name} is lost, and nothing newer is whole"
        needed = {name for point in promised for name in (point.name, point.base)}
        for point in self.points.values():
            remains = point.broken and not any(other.taken > point.taken for other in whole)
            if point.name not in needed and not (remains and self.young(point)):
                yield f"{point.name} outlives its retention"

    def promised(self, whole: list[Point], at: datetime | None = None) -> list[Point]:
        """Which of these whole points, the oldest first, are promised at a moment (None: now)."""
        verified = [point for point in whole if point.verified]
        return [point for point in whole if self.young(point, at)] + whole[-1:] + verified[-self.verified_kept :]

    def young(self, point: Point, at: datetime | None = None) -> bool:
        """Whether it is within the days or hours of its class at a moment (None: now)."""
        return (at or self.now) - point.taken < (self.daily_kept if point.daily else self.increments_kept)
