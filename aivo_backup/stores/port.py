"""What a store must be able to do, so that one use case serves all three.

Restores by an operator are not in the port: what can be asked for (a time, an index, a key) differs by store.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from aivo_backup.catalog.records import Artefact, Check, Fact, Phase, RecoveryPoint
from aivo_backup.errors import BackupError
from aivo_backup.policy.environment import BackupKind, Component
from aivo_backup.policy.pruning import Because

Clock = Callable[[], datetime]
"""Answers the present moment in UTC."""

Progress = Callable[[str], None]
"""Takes one line of progress."""


def silent(_line: str) -> None:
    """A :data:`Progress` that shows nothing."""


class PartialBackupError(BackupError):
    """The store kept something, but not all of it; it is never a recovery point."""


class Stopwatch:
    """Times the phases of a restore with the monotonic clock; a phase that raises is kept too."""

    def __init__(self) -> None:
        self._phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Times the block under ``name``."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._phases.append(Phase(name=name, seconds=round(time.monotonic() - begun, 3)))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What was timed so far, in order."""
        return tuple(self._phases)


@dataclass(frozen=True, kw_only=True)
class TakenBackup:
    """What a run that succeeded left in the store.

    Attributes:
        point: the store's own name for it.
        recoverable_at: the newest moment that it alone brings back, UTC.
        size_bytes: size of the data that the point stands for.
        bytes_transferred: what this run moved.
    """

    point: str
    recoverable_at: datetime
    size_bytes: int
    bytes_transferred: int
    inventory: Artefact | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeldPoint:
    """A restorable point as the store itself tells it, for reconciliation with the catalog."""

    point: str
    kind: BackupKind
    started: datetime
    recoverable_at: datetime
    size_bytes: int
    inventory: Artefact | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TestedRestore:
    """What a restore test found. ``newest_heartbeat`` is None when the restored data holds none; ``amounts`` is how
    much there was to do, by unit."""

    checks: tuple[Check, ...]
    newest_heartbeat: datetime | None
    amounts: Mapping[str, float] = field(default_factory=dict[str, float])


EXAMPLES_BOUND = 20
"""The most example names that a :class:`Difference` carries."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How production differs from a recovery point in one unit. All zero means that they are equal.

    Attributes:
        unit: a table (``schema.name``), a bucket or an index, as production names it.
        gone: production lacks the unit itself, with however many rows, objects or documents, also none.
        lost: how many rows, objects or documents the point holds and production lacks.
        newer: how many production holds and the point lacks: a restore in place would lose them.
        changed: how many both hold with different content.
        examples: names (key values, object keys, document ids) of the first of them, at most
            :data:`EXAMPLES_BOUND`; lost ones first, then changed ones, then newer ones.
    """

    unit: str
    gone: bool = False
    lost: int = 0
    newer: int = 0
    changed: int = 0
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.lost, self.newer, self.changed) < 0 or len(self.examples) > EXAMPLES_BOUND:
            raise ValueError(f"not a difference: {self!r}")

    @property
    def equal(self) -> bool:
        """Nothing differs."""
        return not (self.gone or self.lost or self.newer or self.changed)


class Differs(StrEnum):
    """How one row, object or document differs, in the words of :class:`Difference`."""

    LOST = "lost"
    NEWER = "newer"
    CHANGED = "changed"


Differing = Callable[[str, Differs, str], None]
"""Takes everything that differs, also beyond a :class:`Difference`'s examples: unit, how, and the name."""


def unlisted(_unit: str, _how: Differs, _name: str) -> None:
    """A :data:`Differing` for which the numbers and the examples are enough."""


@dataclass(frozen=True, kw_only=True)
class RescueBundle:
    """What was written to production after a recovery point, exported before a restore would lose it.

    Attributes:
        folder: where the bundle is on this machine, made for it and holding nothing else.
        units: the tables, buckets or indices that it holds something of.
        items: rows, objects or documents in it.
        bytes: size of its files.
    """

    folder: Path
    units: tuple[str, ...]
    items: int
    bytes: int


class Store(Protocol):
    """A store that can be backed up, listed and restore-tested.

    Every method raises :class:`~aivo_backup.errors.UnreachableError` when the store or AWS does not answer, and
    other :class:`~aivo_backup.errors.BackupError` as said.
    """

    @property
    def component(self) -> Component:
        """Which store it is."""
        ...

    def backup(self, kind: BackupKind, *, now: datetime, progress: Progress) -> TakenBackup:
        """Takes one backup. ``now`` names the point where the store lets us name it.

        Raises:
            RefusedError: a guard stopped it (for example a source that shrank too much).
            PartialBackupError: the store took some of it only.
            BackupError: it failed; nothing that it left counts as a point.
        """
        ...

    def held_points(self) -> tuple[HeldPoint, ...]:
        """Every point that the store really holds, oldest first."""
        ...

    def restore_test(
        self, point: RecoveryPoint, *, scratch: Path, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> TestedRestore:
        """Restores ``point`` into isolation for real, looks at it, and removes what it restored.

        PostgreSQL replays WAL past the point up to the newest that the repository holds.

        Args:
            point: what the catalog says; its facts are what must be found again.
            scratch: an empty folder for restored data; the caller removes it.
            now: start of the test, UTC; chooses the rotating share.
            stopwatch: takes one phase per step.

        Raises:
            VerificationError: the restore itself failed on the point's data; the message names the file.
        """
        ...


VerifiedSince = Callable[[datetime], frozenset[str]]
"""Answers which points, not older than a moment, have passed their newest restore test."""


class PlannedExpiry(Protocol):
    """What would go and what stays, decided and ready to be carried out."""

    @property
    def goes(self) -> tuple[str, ...]:
        """Names of the points, and of what broken runs left, that go; oldest first."""
        ...

    @property
    def kept(self) -> Mapping[str, Because]:
        """What stays, and why; oldest first."""
        ...

    @property
    def facts(self) -> Mapping[str, Fact]:
        """What else the decision came to, for the record."""
        ...

    def carry_out(self, *, gone: Callable[[str], None], progress: Progress) -> None:
        """Removes what goes.

        Args:
            gone: told each name as soon as it is gone, so that a run that fails half way is recorded truthfully.

        Raises:
            BackupError: it failed.
        """
        ...


class Expirable(Protocol):
    """A store whose points can expire. Errors are those of :class:`Store`."""

    @property
    def component(self) -> Component:
        """Which store it is."""
        ...

    def plan_expiry(self, *, now: datetime, verified: VerifiedSince) -> PlannedExpiry:
        """Decides what goes; changes nothing.

        Raises:
            RefusedError: the store would remove something else than what was decided.
        """
        ...
