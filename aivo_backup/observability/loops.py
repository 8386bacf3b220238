"""One loop per source, each in a thread of its own: a store that hangs for minutes delays nobody else."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aivo_backup.errors import BackupError
from aivo_backup.observability.metrics import Board, Gather
from aivo_backup.stores.port import Clock

Tell = Callable[[str, BackupError], None]
"""Called with the source's name and what it failed with."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something that is looked at over and over.

    Attributes:
        gather: may write too, as a heartbeat does.
        every_seconds: the pause between two looks.
        changes: looking changes something in the store, so it is not done just to see.
    """

    name: str
    gather: Gather
    every_seconds: float
    changes: bool = False


class Loops:
    """The loops of all sources."""

    def __init__(self, board: Board, sources: Sequence[Source], *, clock: Clock, tell: Tell) -> None:
        self._board = board
        self._clock = clock
        self._tell = tell
        self._ended = threading.Event()
        self._names = {source.name for source in sources}
        self._threads = [
            threading.Thread(target=self._run, args=(source,), name=source.name, daemon=True) for source in sources
        ]

    def start(self) -> None:
        """Starts every loop."""
        for thread in self._threads:
            thread.start()

    def alive(self) -> bool:
        """Whether no loop has died. One that waits for a store is alive: starting again would not bring it back."""
        return all(thread.is_alive() for thread in self._threads)

    def ready(self) -> bool:
        """Whether every source was asked at least once, whatever it answered."""
        return self._names <= self._board.seen()

    def end(self) -> None:
        """Ends the pauses; a look that goes on is left to itself."""
        self._ended.set()

    def wait(self) -> None:
        """Until :meth:`end` is called."""
        self._ended.wait()

    def _run(self, source: Source) -> None:
        while not self._ended.is_set():
            failure = self._board.look(source.name, source.gather, self._clock())
            if failure is not None:
                self._tell(source.name, failure)
            self._ended.wait(source.every_seconds)
