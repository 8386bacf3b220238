"""What is common to a store in the joint history of both regions, and PostgreSQL's part of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from aivo_backup.policy import expiry, pruning
from tests.infra.plans import Plan
from tests.infra.regions import Fate, Region, Shelf, View, views
from tests.unit.retention.histories import BEGINNING, STANZA, Author, Lucky
from tests.unit.retention.oracle import Promise, broken_promises, outlived
from tests.unit.retention.play import PlanExpiry, Play, author_of, expired
from tests.unit.retention.points import Decide
from tests.unit.retention.repository import data_files, left_of

# Past midnight, when the day's jobs are done and have been copied.
LOOK_AFTER = timedelta(minutes=10)
LOOKED_AT_EVERY_DAYS = 3
_INFO = (f"backup/{STANZA}/backup.info", f"archive/{STANZA}/archive.info")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The runbook's, written out a second time on purpose; or others."""

    window_days: int = 14
    fulls: int = 7
    minio_days: int = 30
    opensearch_days: int = 30
    increment_hours: int = 48
    verified: int = 2
    locked_days: Mapping[str, int] = field(
        default_factory=lambda: {"compliance": 2557, "audit": 1096, "dr-documents": 1827, "vault": 2557}
    )

    def noncurrent_days(self, use: str) -> int:
        return {"postgres": self.window_days, "minio": self.minio_days, "opensearch": self.opensearch_days}[use]


@dataclass(frozen=True, kw_only=True)
class Luck:
    """What goes wrong.

    Attributes:
        smooth: nothing at all, and nobody takes a backup by hand.
        unlucky: the share of runs that fail, and of those that leave something broken.
        last_day: no backup succeeds from then on; ``unproven_from``: nor does any restore test.
        stalls: when the copying stands still: from which day on, and for how many.
    """

    seed: int = 1
    smooth: bool = False
    unlucky: float = 0.1
    last_day: int = 10_000
    unproven_from: int = 10_000
    stalls: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What decides about expiry: the policy, or a mutant of it."""

    sets: PlanExpiry = expiry.plan_expiry
    points: Decide = pruning.decide


@dataclass(frozen=True, kw_only=True)
class Look:
    """What has to be true at one moment: of all that was written until ``seen``, given what a region shows."""

    at: datetime
    judge: Callable[[View, datetime, Region], Iterator[str]]


class Store:
    """One component's bucket, and what is looked at in it."""

    def __init__(self, shelf: Shelf, noncurrent_days: int) -> None:
        self.shelf = shelf
        self.noncurrent_days = noncurrent_days
        self.looks: list[Look] = []

    def day(self) -> Iterator[str]:
        """One day more; answers what is wrong with its expiry."""
        raise NotImplementedError

    @property
    def now(self) -> datetime:
        """When the last day that was played is over."""
        raise NotImplementedError

    def findings(self, plan: Plan) -> Iterator[str]:
        """Everything that is wrong in either region under a plan's rules."""
        shown = {region: self.shelf.fates(plan, region) for region in Region}
        moments = [look.at for look in self.looks]
        for region, fates in shown.items():
            for look, view in zip(self.looks, views(fates, moments), strict=True):
                for finding in look.judge(view, self.shelf.seen(region, look.at), region):
                    yield f"{region.name}, {look.at}: {finding}"
            yield from (f"{region.name}: {finding}" for finding in self._outlives(fates))
        home, second = (views(shown[region], moments) for region in Region)
        for moment, here, there in zip(moments, home, second, strict=True):
            if self.shelf.seen(Region.SECOND, moment) >= moment - LOOK_AFTER and here.current != there.current:
                yield f"{moment}: the regions differ in {sorted(here.current ^ there.current)[:3]}"

    def _outlives(self, fates: list[Fate]) -> Iterator[str]:
        for fate in fates:
            key, superseded = fate.written.key, fate.superseded
            if superseded is None:
                continue
            # A day for S3's midnight; what arrives late goes when it is there.
            latest = max(superseded + timedelta(days=self.noncurrent_days + 1), fate.arrived)
            if fate.gone is None or fate.gone > latest:
                yield f"{key} outlives its retention: superseded {superseded}, gone {fate.gone}"


class Postgres(Store):
    """Sets, WAL and the two info files, of which one is written once and read for years."""

    def __init__(self, shelf: Shelf, numbers: Numbers, luck: Luck, decisions: Decisions) -> None:
        super().__init__(shelf, numbers.window_days)
        self.promise = Promise(
            window=timedelta(days=numbers.window_days), fulls=numbers.fulls, verified=numbers.verified
        )
        author = author_of(luck.seed, unlucky=luck.unlucky, last_day=luck.last_day, promise=self.promise)
        if luck.smooth:
            author = Author(Lucky())
        self.play = Play(author, promise=self.promise, plan=decisions.sets)
        self._ended: dict[str, datetime] = {}
        for key in _INFO:
            shelf.put(key, author.now)

    @property
    def now(self) -> datetime:
        return self.play.author.now

    def day(self) -> Iterator[str]:
        author = self.play.author
        known = self.play.author.history()
        author.day()
        author.verify()
        now, history = author.now, author.history()
        for path in data_files(replace(history, sets=(), wal=history.wal - known.wal)):
            self._ended[path] = now
            self.shelf.put(path, now)
        for entry in history.sets[len(known.sets) :]:
            for path in data_files(replace(history, sets=(entry,), wal=frozenset())):
                self.shelf.put(path, entry.ended)
        # The lease keeps an expiry off a run; then it is the next day's.
        idle = all(entry.ended <= now for entry in history.sets)
        if idle:
            self.shelf.put(_INFO[0], now)
            self._expire()
        if (now - BEGINNING).days % LOOKED_AT_EVERY_DAYS == 0:
            self._look(idle=idle)
        yield from ()

    def _expire(self) -> None:
        held = self.play.after()
        left = expired(held, self.play.decide())
        self.play.author.gone |= {entry.label for entry in held.sets} - {entry.label for entry in left.sets}
        self.play.wal |= held.wal - left.wal
        for path in sorted(set(data_files(held)) - set(data_files(left))):
            self.shelf.delete(path, self.play.author.now)

    def _look(self, *, idle: bool) -> None:
        history, written = self.play.author.history(), dict(self._ended)

        def judge(view: View, seen: datetime, region: Region) -> Iterator[str]:
            paths = data_files(replace(history, sets=()))
            arrived = left_of(history, [path for path in paths if written[path] <= seen]).wal
            sets = tuple(entry for entry in history.sets if entry.ended <= seen)
            before = replace(history, sets=sets, wal=arrived)
            after = left_of(before, view.current)
            yield from broken_promises(before, after, self.promise)
            yield from (f"{key} is lost" for key in _INFO if key not in view.current)
            if idle and region is Region.HOME:
                yield from outlived(before, after, self.promise)

        self.looks.append(Look(at=self.play.author.now + LOOK_AFTER, judge=judge))
