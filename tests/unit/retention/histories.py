"""Months of PostgreSQL backups, generated: weekly fulls and daily increments with all that goes wrong.

Time runs in hours, and a WAL segment is closed every six of them. Somebody takes fulls by hand, backups fail or read
damaged pages, segments get lost, and now and then the database is recovered to an earlier moment: it goes on along a
new timeline, and what it had written since is abandoned.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

STANZA = "aivo-postgres"
BEGINNING = datetime(2020, 3, 1, tzinfo=UTC)  # a Sunday
HOURS_A_SEGMENT = 6
DAY = 24
_SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Set:
    """One backup set. ``references``: all sets of its chain before it; ``prior``: the last of them."""

    label: str
    started: datetime
    ended: datetime
    references: tuple[str, ...] = ()
    damaged: bool = False
    verified: bool = False
    first: str
    last: str

    @property
    def prior(self) -> str:
        return self.references[-1] if self.references else ""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A recovery at ``at`` to the state of ``back_to``: from there on a new timeline is written."""

    at: datetime
    back_to: datetime


@dataclass(frozen=True, kw_only=True)
class History:
    """What the repository holds at ``now``, and what was lost of the WAL before."""

    now: datetime
    sets: tuple[Set, ...]
    wal: frozenset[str]
    switch: Switch | None = None
    lost: frozenset[str] = field(default_factory=frozenset[str])

    def without(self, labels: frozenset[str], wal: frozenset[str]) -> "History":
        """The same after an expiry."""
        return replace(self, sets=tuple(entry for entry in self.sets if entry.label not in labels), wal=self.wal - wal)


def number(moment: datetime) -> int:
    """The number of the segment that holds what was written at a moment."""
    return 1 + int((moment - BEGINNING).total_seconds()) // (3600 * HOURS_A_SEGMENT)


def position(moment: datetime) -> str:
    """The WAL position that was written at a moment."""
    seconds = int((moment - BEGINNING).total_seconds())
    at = _SEGMENT_BYTES + seconds * _SEGMENT_BYTES // (3600 * HOURS_A_SEGMENT)
    return f"{at >> 32:X}/{at & 0xFFFFFFFF:X}"


def segment(timeline: int, at: int) -> str:
    return f"{timeline:08X}{at // 256:08X}{at % 256:08X}"


def path(history: History, moment: datetime) -> Callable[[int], str]:
    """Names, by number, of the segments that lead to what the live database held at ``moment``."""
    switch = history.switch
    if switch is None or moment < switch.at:
        return lambda at: segment(1, at)
    left = number(switch.back_to)
    return lambda at: segment(1 if at < left else 2, at)


class Lucky(random.Random):
    """Nothing that may happen does."""

    def random(self) -> float:
        return 0.99


@dataclass
class Author:
    """Writes a history day by day.

    Attributes:
        dice: decides what happens.
        now: the end of the last whole day.
        last_day: no backup succeeds from that day on.
        gone: sets that an expiry took; no backup builds on them any more.
        reach: nobody recovers to a moment further back than this, since none further back is promised.
    """

    dice: random.Random
    now: datetime = BEGINNING
    sets: list[Set] = field(default_factory=list[Set])
    wal: set[str] = field(default_factory=set[str])
    lost: set[str] = field(default_factory=set[str])
    switch: Switch | None = None
    unlucky: float = 0.1
    last_day: int = 10_000
    gone: set[str] = field(default_factory=set[str])
    reach: timedelta = timedelta(days=14)

    def history(self) -> History:
        return History(
            now=self.now,
            sets=tuple(self.sets),
            wal=frozenset(self.wal),
            switch=self.switch,
            lost=frozenset(self.lost),
        )

    def day(self) -> None:
        """One day more: its WAL, the scheduled backup, and what else happens."""
        start = self.now
        idle = not self.sets or self.sets[-1].ended <= start
        if self.switch is None and idle and (start - BEGINNING).days > 5 and self._happens(0.02):
            back = start - timedelta(hours=self.dice.randrange(1, min(5 * DAY, int(self.reach / timedelta(hours=1)))))
            self.switch = Switch(at=start, back_to=back)
            self._archive(range(number(back), number(start)))
        sunday = (start - BEGINNING).days % 7 == 0
        if sunday and not self._happens(self.unlucky):
            self._back_up(start + timedelta(hours=1), full=True)
        if not self._happens(self.unlucky):
            self._back_up(start + timedelta(hours=2), full=False)
        if self._happens(0.08):
            self._back_up(start + timedelta(hours=self.dice.randrange(3, DAY)), full=self._happens(0.7))
        self.now = start + timedelta(days=1)
        self._archive(range(number(start), number(self.now)))

    def verify(self) -> None:
        """A restore test of the day's last set, which mostly passes."""
        newest = self.sets[-1] if self.sets else None
        fresh = newest is not None and self.now - newest.started <= timedelta(days=1)
        if newest is not None and fresh and not newest.damaged and not self._happens(0.4):
            self.sets[-1] = replace(newest, verified=True)

    @property
    def timeline(self) -> int:
        return 1 if self.switch is None else 2

    def _happens(self, probability: float) -> bool:
        return self.dice.random() < probability

    def _archive(self, numbers: range) -> None:
        for at in numbers:
            name = segment(self.timeline, at)
            if self._happens(0.003):
                self.lost.add(name)
            else:
                self.wal.add(name)

    def _back_up(self, at: datetime, *, full: bool) -> None:
        if (at - BEGINNING).days >= self.last_day:
            return
        last = self.sets[-1] if self.sets else None
        base = next((entry for entry in reversed(self.sets) if entry.label not in self.gone), None)
        took = timedelta(hours=self.dice.choice((0, 0, 0, 7)) if full else 0, minutes=10)
        stamp = f"{at:%Y%m%d-%H%M%S}"
        references: tuple[str, ...] = ()
        if full or base is None:
            label = f"{stamp}F"
        else:
            references = (*base.references, base.label)
            label = f"{references[0]}_{stamp}I"
        if last is not None and at <= last.ended:
            return  # pgBackRest's lock: the one before still runs
        self.sets.append(
            Set(
                label=label,
                started=at,
                ended=at + took,
                references=references,
                damaged=self._happens(self.unlucky / 2),
                first=segment(self.timeline, number(at)),
                last=segment(self.timeline, number(at + took)),
            )
        )
