"""The journal of a recovery: what was begun, what is done, what was noted; written before and after every step.

One JSON file per recovery, replaced as a whole and flushed to the disk, so that a process that is killed at any moment
leaves the state before or after a write, never half of one. A lock file beside them keeps two recoveries of one
machine apart and ends with its process; the stores' leases keep machines apart (:mod:`.executor`).
"""

import fcntl
import json
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from aivo_backup.catalog.records import Check, Fact
from aivo_backup.errors import BackupError, ConfigurationError, RefusedError, UsageError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.recovery.plan import Scenario


class StepState(StrEnum):
    """Where a step stands. ``BEGUN`` in a journal that nobody works on: the process died in it."""

    PENDING = "pending"
    BEGUN = "begun"
    FAILED = "failed"
    DONE = "done"


class Ending(StrEnum):
    """How a recovery ended; ``OPEN``: it did not yet."""

    OPEN = "open"
    DONE = "done"
    ABANDONED = "abandoned"


@dataclass(frozen=True, kw_only=True)
class StepEntry:
    """One step in the journal.

    Attributes:
        seconds: time spent in it by all attempts that ended, in seconds.
        attempts: how often it was begun.
        notes: what it noted for a later attempt and for later steps.
        checks: what it looked at, for the record: a recovery that is resumed was checked by its earlier attempts too.
    """

    name: str
    state: StepState = StepState.PENDING
    attempts: int = 0
    seconds: float = 0.0
    notes: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    checks: tuple[Check, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Entries:
    """What a journal file holds. ``request`` is the scenario's request in its JSON form, as text."""

    id: str
    scenario: Scenario
    environment: str
    request: str
    started: datetime
    ending: Ending = Ending.OPEN
    predicted_seconds: float
    steps: tuple[StepEntry, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Of all steps, in their order."""
        return tuple(check for step in self.steps for check in step.checks)


class Journal:
    """One recovery's journal. Every change is on the disk when its method returns."""

    def __init__(self, file: Path, entries: Entries) -> None:
        self._file = file
        self._entries = entries
        self._lock = threading.Lock()  # stores that are restored side by side all take notes

    @property
    def entries(self) -> Entries:
        """What it holds now."""
        return self._entries

    @property
    def file(self) -> Path:
        """Where it is."""
        return self._file

    def step(self, name: str) -> StepEntry:
        """The entry of a step.

        Raises:
            ConfigurationError: the journal knows no such step: it was written by another version.
        """
        for entry in self._entries.steps:
            if entry.name == name:
                return entry
        raise ConfigurationError(
            f"the journal {self._file} knows no step {name}",
            mend="finish this recovery with the version that began it, or give it up with --abandon",
        )

    def begin(self, name: str) -> None:
        """Notes that a step begins; called before it changes anything."""
        entry = self.step(name)
        self._put(replace(entry, state=StepState.BEGUN, attempts=entry.attempts + 1, error=""))

    def note(self, name: str, notes: Mapping[str, Fact]) -> None:
        """Adds to a step's notes."""
        with self._lock:
            entry = self.step(name)
            self._put(replace(entry, notes={**entry.notes, **notes}))

    def check(self, name: str, checks: Sequence[Check]) -> None:
        """Adds to a step's checks; one of an earlier attempt under the same name was made again."""
        with self._lock:
            entry = self.step(name)
            anew = {check.name for check in checks}
            earlier = (check for check in entry.checks if check.name not in anew)
            self._put(replace(entry, checks=(*earlier, *checks)))

    def finish(self, name: str, *, seconds: float, error: str = "") -> None:
        """Notes that a step ended, well or with ``error``."""
        entry = self.step(name)
        state = StepState.FAILED if error else StepState.DONE
        self._put(replace(entry, state=state, seconds=round(entry.seconds + seconds, 3), error=error))

    def reopen(self, name: str) -> None:
        """Has a step done once more when the recovery goes on; its notes stay."""
        self._put(replace(self.step(name), state=StepState.PENDING))

    def has(self, name: str) -> bool:
        """Whether the recovery has such a step."""
        return any(entry.name == name for entry in self._entries.steps)

    def close(self, ending: Ending) -> None:
        """Notes how the recovery ended."""
        self._write(replace(self._entries, ending=ending))

    def _put(self, changed: StepEntry) -> None:
        steps = tuple(changed if entry.name == changed.name else entry for entry in self._entries.steps)
        self._write(replace(self._entries, steps=steps))

    def _write(self, entries: Entries) -> None:
        write_durably(self._file, json.dumps(to_json(entries), indent=1))
        self._entries = entries


class Journals:
    """The journals of one machine's recoveries, in a folder that outlives the run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Generator[None]:
        """Holds the machine's one place for a recovery.

        Raises:
            RefusedError: another process recovers here.
            ConfigurationError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder}: {error.strerror}", mend="mount a writable folder there; the journal needs it"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RefusedError(
                    "another recovery runs on this machine", mend=f"wait for it; its journal is in {self._folder}"
                ) from error
            yield

    def create(self, entries: Entries) -> Journal:
        """Begins a journal.

        Raises:
            RefusedError: one is open: its applications may be stopped and its stores half restored.
        """
        for journal in self.open_ones():
            other = journal.entries
            raise RefusedError(
                f"the {other.scenario} recovery {other.id} was begun and has not ended",
                mend=f"`aivo-backup recover {other.scenario} --resume`, or --abandon to give it up",
            )
        journal = Journal(self._folder / f"{entries.id}.json", entries)
        write_durably(journal.file, json.dumps(to_json(entries), indent=1))
        return journal

    def open_ones(self) -> list[Journal]:
        """Recoveries that have not ended, oldest first.

        Raises:
            ConfigurationError: a journal cannot be read.
        """
        journals = [self._read(file) for file in sorted(self._folder.glob("*.json"))]
        return [journal for journal in journals if journal.entries.ending is Ending.OPEN]

    def open_one(self, scenario: Scenario) -> Journal:
        """The open recovery of a scenario.

        Raises:
            UsageError: there is none.
        """
        for journal in self.open_ones():
            if journal.entries.scenario is scenario:
                return journal
        raise UsageError(
            f"no {scenario} recovery is open on this machine",
            mend=f"begin one with `aivo-backup recover {scenario} --execute`",
        )

    def _read(self, file: Path) -> Journal:
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the journal {file} cannot be read: {error}", mend="look at it by hand, and move it away"
            ) from error
        return Journal(file, from_json(Entries, content, where=str(file)))


def new_entries(
    *,
    scenario: Scenario,
    environment: str,
    request: object,
    started: datetime,
    predicted_seconds: float,
    steps: Sequence[str],
) -> Entries:
    """The entries of a recovery that begins now; its id tells scenario and time."""
    return Entries(
        id=f"{scenario.value}-{started:%Y%m%dT%H%M%SZ}",
        scenario=scenario,
        environment=environment,
        request=json.dumps(to_json(request), sort_keys=True),
        started=started,
        predicted_seconds=round(predicted_seconds, 1),
        steps=tuple(StepEntry(name=name) for name in steps),
    )


def write_durably(file: Path, text: str) -> None:
    """Replaces a file as a whole; when this returns, it survives the process and the machine's power.

    Raises:
        BackupError: the disk is full or cannot be written; the old content is still there.
    """
    unfinished = file.with_suffix(".tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BackupError(
            f"the journal {file} cannot be written: {error.strerror}", mend="make room, then give --resume"
        ) from error
