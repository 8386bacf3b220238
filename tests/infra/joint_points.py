"""MinIO's and OpenSearch's part of the joint history of both regions."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.infra.joint_stores import LOOK_AFTER, LOOKED_AT_EVERY_DAYS, Decisions, Look, Luck, Numbers, Store
from tests.infra.regions import Region, Shelf, View
from tests.unit.retention.histories import BEGINNING
from tests.unit.retention.points import Point, Points

_SOURCE_KEYS = 8


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a point cannot be restored without: keys that are current, and versions that are there."""

    keys: frozenset[str] = frozenset()
    versions: frozenset[int] = frozenset()

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(keys=self.keys | other.keys, versions=self.versions | other.versions)


class PointStore(Store):
    """A store whose points are pruned by class: what its runs write and its prunings remove is told by subclasses."""

    def __init__(self, shelf: Shelf, days: int, numbers: Numbers, luck: Luck, decisions: Decisions) -> None:
        super().__init__(shelf, days)
        self.dice = random.Random(luck.seed + 1)  # noqa: S311 - no secret
        self.needs: dict[str, Needs] = {}
        self.points = Points(
            self.dice,
            unlucky=0.0 if luck.smooth else luck.unlucky,
            last_day=luck.last_day,
            unproven_from=luck.unproven_from,
            chained=self.chained,
            daily_kept=timedelta(days=days),
            increments_kept=timedelta(hours=numbers.increment_hours),
            verified_kept=numbers.verified,
            choose=decisions.points,
            # As in the runbook; at midnight S3 removes, between two runs.
            daily_hour=3,
            now=BEGINNING + timedelta(hours=3),
        )

    chained = False

    def run(self, point: Point) -> None:
        """Writes what the run wrote that left this point."""
        raise NotImplementedError

    def prune(self, goes: tuple[Point, ...]) -> None:
        """Removes what a pruning removes."""
        raise NotImplementedError

    def promised(self, whole: list[Point], at: datetime) -> list[Point]:
        """The points of which everything has to be there at a moment."""
        return self.points.promised(whole, at)

    @property
    def now(self) -> datetime:
        return self.points.now

    def day(self) -> Iterator[str]:
        points = self.points
        looked_at = (points.now - BEGINNING).days % LOOKED_AT_EVERY_DAYS == 0
        for number in range(4):
            if looked_at and number == 3:
                self._look(points.now + timedelta(hours=3))
            self.change()
            point = points.step()
            if point is not None:
                self.run(point)
        points.verify()
        held = dict(points.points)
        goes = tuple(held[name] for name in points.prune().goes)
        self.prune(goes)
        yield from points.wrong(held)
        if looked_at:
            self._look(points.now)

    def change(self) -> None:
        """What happens at the source between two runs."""
        raise NotImplementedError

    def _look(self, after: datetime) -> None:
        at = after + LOOK_AFTER
        whole = [point for point in [*self.points.gone.values(), *self.points.points.values()] if not point.broken]
        promised = self.promised(sorted(whole, key=lambda point: point.taken), at)

        def judge(view: View, seen: datetime, region: Region) -> Iterator[str]:
            _ = region
            for point in promised:
                needs = self.needs[point.name] | (self.needs[point.base] if point.base else Needs())
                if point.taken > seen:
                    continue
                for key in sorted(needs.keys - view.current):
                    yield f"{key} is lost, which {point.name} needs"
                for version in sorted(needs.versions - view.versions):
                    yield f"version {version} is lost, which {point.name} needs"

        self.looks.append(Look(at=at, judge=judge))


class Minio(PointStore):
    """A mirror of versions, and manifests that name them."""

    chained = True

    def __init__(self, shelf: Shelf, numbers: Numbers, luck: Luck, decisions: Decisions) -> None:
        super().__init__(shelf, numbers.minio_days, numbers, luck, decisions)
        self._source: dict[str, int] = {}
        self._mirror: dict[str, tuple[int, int]] = {}
        self._changes = 0

    def change(self) -> None:
        for key in (f"minio-data/docs/{number}" for number in range(_SOURCE_KEYS)):
            luck = self.dice.random()
            self._changes += 1
            if luck < 0.1:
                self._source[key] = self._changes
            elif luck < 0.15:
                self._source.pop(key, None)

    def run(self, point: Point) -> None:
        now = point.taken
        for key in sorted(self._source.keys() | self._mirror.keys()):
            if point.broken and self.dice.random() < 0.5:
                continue  # the run died before it came to this one
            content = self._source.get(key)
            if content is None:
                if self._mirror.pop(key, None):
                    self.shelf.delete(key, now)
            elif self._mirror.get(key, (0, 0))[0] != content:
                self._mirror[key] = (content, self.shelf.put(key, now))
        folder = f"metadata/minio/{point.name}"
        self.shelf.put(f"{folder}/part-00000.jsonl.gz", now)
        if not point.broken:
            self.shelf.put(f"{folder}/summary.json", now)
        self.needs[point.name] = Needs(
            keys=frozenset({f"{folder}/part-00000.jsonl.gz", f"{folder}/summary.json"}),
            # What of a base an increment does not share, it does not need; its manifest it does.
            versions=frozenset(version for _, version in self._mirror.values()),
        )

    def prune(self, goes: tuple[Point, ...]) -> None:
        for point in goes:
            for name in ("summary.json", "part-00000.jsonl.gz"):
                self.shelf.delete(f"metadata/minio/{point.name}/{name}", self.points.now)

    def promised(self, whole: list[Point], at: datetime) -> list[Point]:
        # Past its class a verified point's manifest stays; what it names is promised for the class's days.
        return [point for point in whole if self.points.young(point, at)]


class OpenSearch(PointStore):
    """A repository of blobs that snapshots share, and a generation that each change of it replaces."""

    def __init__(self, shelf: Shelf, numbers: Numbers, luck: Luck, decisions: Decisions) -> None:
        super().__init__(shelf, numbers.opensearch_days, numbers, luck, decisions)
        self._segments: list[str] = []
        self._blobs: set[str] = set()
        self._generation = 0
        self._made = 0

    def change(self) -> None:
        self._made += 1
        kept = [] if self.dice.random() < 0.05 else self._segments  # a merge makes one of all
        self._segments = [*kept, f"snapshots/indices/a/0/__{self._made}"][-20:]

    def run(self, point: Point) -> None:
        own = f"snapshots/snap-{point.name}.dat"
        uses = {own, *self._segments}
        for key in sorted(uses - self._blobs):
            self.shelf.put(key, point.taken)
        self._blobs |= uses
        self.needs[point.name] = Needs(keys=frozenset(uses))
        self._turn(point.taken)

    def prune(self, goes: tuple[Point, ...]) -> None:
        if not goes:
            return
        used = {key for name in self.points.points for key in self.needs[name].keys}
        for key in sorted(self._blobs - used):
            self.shelf.delete(key, self.points.now)
        self._blobs &= used
        self._turn(self.points.now)

    def _turn(self, now: datetime) -> None:
        self._generation += 1
        self.shelf.put(f"snapshots/index-{self._generation}", now)
        self.shelf.put("snapshots/index.latest", now)
        if self._generation > 1:
            self.shelf.delete(f"snapshots/index-{self._generation - 1}", now)
