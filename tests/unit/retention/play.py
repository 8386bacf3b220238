"""Plays histories day by day with an expiry each day, beside the same world in which nothing ever expires."""

import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from aivo_backup.policy import expiry
from aivo_backup.policy.environment import BackupKind
from aivo_backup.policy.expiry import ExpiryPlan, SetState
from tests.unit.retention.histories import BEGINNING, Author, History
from tests.unit.retention.oracle import Promise, broken_promises, outlived, replayable

PROMISES = Promise()

# What is lost stays lost, so not every day has to be looked at.
_LOOKED_AT_EVERY_DAYS = 3

PlanExpiry = Callable[..., ExpiryPlan]


def states(history: History) -> list[SetState]:
    """What the adapter would tell the policy."""
    able = replayable(history)
    return [
        SetState(
            label=entry.label,
            kind=BackupKind.INCREMENTAL if entry.references else BackupKind.FULL,
            ended=entry.ended + timedelta(seconds=1),
            depends_on=entry.references,
            damaged=entry.damaged,
            verified=entry.verified,
            recovers=entry in able,
            wal=("15-1", entry.first, entry.last),
        )
        for entry in history.sets
    ]


def expired(history: History, plan: ExpiryPlan) -> History:
    """What pgBackRest leaves: its rule for WAL in our words (tests compare it with the program's own doing).

    Of the newest ``retention-archive`` fulls it keeps all WAL from the oldest one's start on, of sets before that only
    what makes them consistent. Names are compared as text, timelines and all.
    """
    gone = frozenset(plan.goes)
    left = [entry for entry in history.sets if entry.label not in gone]
    fulls = [entry for entry in left if not entry.references]
    if not fulls:
        return history
    start = fulls[-min(plan.archive_fulls, len(fulls))].first
    wal = frozenset(
        name
        for name in history.wal
        if name < start and not any(entry.first <= name <= entry.last for entry in left if entry.first < start)
    )
    return history.without(gone, wal)


@dataclass
class Play:
    """One history with a daily expiry."""

    author: Author
    promise: Promise = PROMISES
    plan: PlanExpiry = expiry.plan_expiry
    wal: set[str] = field(default_factory=set[str])

    def after(self) -> History:
        """The world with expiries."""
        return self.author.history().without(frozenset(self.author.gone), frozenset(self.wal))

    def decide(self) -> ExpiryPlan:
        """What an expiry now would do."""
        return self.plan(
            states(self.after()),
            now=self.author.now,
            window=self.promise.window,
            fulls_kept=self.promise.fulls,
            verified_kept=self.promise.verified,
        )

    def day(self) -> Iterator[str]:
        """One day more, then the expiry; answers what is wrong with it."""
        self.author.day()
        self.author.verify()
        held = self.after()
        left = expired(held, self.decide())
        self.author.gone |= {entry.label for entry in held.sets} - {entry.label for entry in left.sets}
        self.wal |= held.wal - left.wal
        if (self.author.now - BEGINNING).days % _LOOKED_AT_EVERY_DAYS:
            return
        before, after = self.author.history(), self.after()
        yield from broken_promises(before, after, self.promise)
        yield from outlived(before, after, self.promise)


def findings(play: Play, days: int) -> Iterator[str]:
    """Everything that is wrong in so many days."""
    for _ in range(days):
        yield from play.day()


def author_of(seed: int, *, unlucky: float = 0.1, last_day: int = 10_000, promise: Promise = PROMISES) -> Author:
    """A history that is the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    return Author(dice, unlucky=unlucky, last_day=last_day, reach=promise.window)


def mutants_findings(plan: PlanExpiry, seeds: range, days: int) -> str:
    """The first thing that is wrong in any of some histories; empty when nothing is."""
    for seed in seeds:
        author = author_of(seed, unlucky=0.9 if seed % 3 else 0.1, last_day=days // 2 if seed % 2 else days)
        found = next(findings(Play(author, plan=plan), days), "")
        if found:
            return found
    return ""


def mutated(module: ModuleType, old: str, new: str) -> Any:
    """The module with one piece of its source replaced."""
    source = importlib.util.find_spec(module.__name__)
    assert source is not None
    assert source.origin is not None
    text = Path(source.origin).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {module.__name__}"
    mutant = ModuleType(f"{module.__name__}_mutant")
    sys.modules[mutant.__name__] = mutant  # dataclasses look their module up
    try:
        exec(compile(text.replace(old, new), source.origin, "exec"), mutant.__dict__)  # noqa: S102 - our own source
    finally:
        del sys.modules[mutant.__name__]
    return mutant
