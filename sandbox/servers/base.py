"""What a server of the sandbox is, and how one comes up."""

import time
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path

from aivo_backup.errors import BackupError
from sandbox.state import Sandbox

_POLL_SECONDS = 0.1
_LOG_TAIL_LINES = 20


class Server(ABC):
    """One server process. Subclasses say how to prepare and start it, and how to tell that it works.

    Attributes:
        name: as in `sandbox status`, ``.sandbox/run`` and ``.sandbox/logs``.
        ports: the fields of Ports that it listens on.
        patience_seconds: how long it may take to come up.
    """

    name: str
    ports: tuple[str, ...]
    patience_seconds: float = 180.0

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.sandbox.logs / f"{self.name}.log"

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it answers, for people."""

    @abstractmethod
    def prepare(self) -> None:
        """Writes its configuration and makes its data folder; safe to repeat, and after half of it."""

    @abstractmethod
    def launch(self) -> None:
        """Starts the process and registers it under :attr:`name`."""

    @abstractmethod
    def ailment(self) -> str:
        """What keeps it from working right now, in a few words; empty when it works. Never raises."""

    def running(self) -> bool:
        """Whether its process runs."""
        return self.sandbox.processes.find(self.name) is not None

    def up(self) -> bool:
        """Makes sure that it runs and works. Says whether it had to be started.

        Raises:
            BackupError: it does not come up; the message names the log.
        """
        if self.running() and not self.ailment():
            return False
        self.sandbox.processes.stop(self.name)
        self.prepare()
        self.launch()
        self._wait()
        return True

    def stop(self) -> bool:
        """Stops it; says whether it ran."""
        return self.sandbox.processes.stop(self.name)

    def _wait(self) -> None:
        deadline = time.monotonic() + self.patience_seconds
        while ailment := self.ailment():
            ended = not self.running()
            if ended or time.monotonic() > deadline:
                self.sandbox.processes.stop(self.name)
                why = f"it ended at once: {self._last_words()}" if ended else ailment
                raise BackupError(f"{self.name} does not come up: {why}", mend=f"see {self.log}")
            time.sleep(_POLL_SECONDS)

    def _last_words(self) -> str:
        try:
            with self.log.open(encoding="utf-8", errors="replace") as lines:
                tail = [line.strip() for line in deque(lines, _LOG_TAIL_LINES) if line.strip()]
        except OSError:
            return "no output"
        return tail[-1][:300] if tail else "no output"
