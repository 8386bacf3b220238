"""The sandbox's long-running processes: start them, know them again after a crash, end them.

A process is known by its id *and* the moment it started, so a stale file never gets an unrelated process killed.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import BackupError
from aivo_backup.liveness import start_ticks

_POLL_SECONDS = 0.05
# Children of this very process: only their parent can reap them, so they are kept until they end.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that somebody registered.

    Attributes:
        started: clock ticks from boot to the process's start, as the kernel counts them.
        stop_signal: what asks it to end properly.
        log: where its output goes.
    """

    name: str
    pid: int
    started: int
    stop_signal: int
    log: Path

    def alive(self) -> bool:
        """Whether this very process (not a later one with the same id) still runs."""
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
            return False
        return start_ticks(self.pid) == self.started


class Registry:
    """What runs, as one JSON file per process in a folder (``.sandbox/run``)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: int = signal.SIGTERM,
        keep_open: Sequence[int] = (),
    ) -> Process:
        """Starts a program in a session of its own, output appended to ``log``, and registers it.

        ``environment`` is added to this process's own and is the place for secrets; ``keep_open`` are file
        descriptors that the program inherits.

        Raises:
            BackupError: the program could not be started, or ended at once.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    list(argv),
                    env={**os.environ, **(environment or {})},
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=tuple(keep_open),
                )
        except OSError as error:
            raise BackupError(f"{name}: cannot start {argv[0]}: {error.strerror}", mend="run `make setup`") from error
        _children[child.pid] = child
        return self.register(name, child.pid, log=log, stop_signal=stop_signal)

    def register(self, name: str, pid: int, *, log: Path, stop_signal: int = signal.SIGTERM) -> Process:
        """Makes a running process known, so that `sandbox status` shows it and `sandbox down` ends it.

        Raises:
            BackupError: no such process runs.
        """
        started = start_ticks(pid)
        if started is None:
            raise BackupError(f"{name} ended right after its start", mend=f"see {log}")
        self._folder.mkdir(parents=True, exist_ok=True)
        process = Process(name=name, pid=pid, started=started, stop_signal=int(stop_signal), log=log)
        content = {"pid": pid, "started": started, "stop_signal": int(stop_signal), "log": str(log)}
        unfinished = self._file(name).with_suffix(".tmp")
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        unfinished.replace(self._file(name))
        return process

    def find(self, name: str) -> Process | None:
        """The registered process if it runs. What a crash left is removed: its file, and children it left behind."""
        process = self._read(self._file(name))
        if process is not None and process.alive():
            return process
        if process is not None:
            _end_orphans(process.pid)
        self._file(name).unlink(missing_ok=True)
        return None

    def running(self) -> list[Process]:
        """Every registered process that runs, by name."""
        found = (self.find(file.stem) for file in sorted(self._folder.glob("*.json")))
        return [process for process in found if process is not None]

    def stop(self, name: str, *, timeout_seconds: float = 20.0) -> bool:
        """Asks a process to end; after ``timeout_seconds`` orders it to (SIGQUIT), then kills it.

        Returns:
            Whether one was running.

        Raises:
            BackupError: not even SIGKILL ended it.
        """
        process = self.find(name)
        if process is None:
            return False
        # Between asking and killing: to PostgreSQL, SIGQUIT means to end its children, stop, and recover at next start.
        steps = ((process.stop_signal, timeout_seconds), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
        if not any(_end(process, how, patience) for how, patience in steps):
            raise BackupError(f"{name} (process {process.pid}) cannot be ended", mend="look at it with ps")
        self._file(name).unlink(missing_ok=True)
        return True

    def stop_all(self, *, last: Sequence[Sequence[str]] = ()) -> list[str]:
        """Stops every registered process; the members of a group at once, one group after the other.

        Args:
            last: groups of names that are stopped after all others.

        Returns:
            The names of those that ran.
        """
        running = [process.name for process in self.running()]
        named = {name for group in last for name in group}
        stopped: list[str] = []
        with ThreadPoolExecutor(8) as pool:
            for group in ([name for name in running if name not in named], *last):
                present = [name for name in group if name in running]
                stopped += [name for name, ran in zip(present, pool.map(self.stop, present), strict=True) if ran]
        return stopped

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    @staticmethod
    def _read(file: Path) -> Process | None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return Process(
                name=file.stem,
                pid=int(content["pid"]),
                started=int(content["started"]),
                stop_signal=int(content["stop_signal"]),
                log=Path(content["log"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # never written whole: nothing that we could recognise runs


def _end_orphans(leader: int) -> None:
    """Kills what remains of the process group that a dead process led.

    While a group has members its id is given to no new process: so if no process has the id, the members are ours.
    """
    deadline = time.monotonic() + 5.0
    while not Path(f"/proc/{leader}").exists() and time.monotonic() < deadline:
        try:
            os.killpg(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(_POLL_SECONDS)


def _end(process: Process, how: int, timeout_seconds: float) -> bool:
    if process.alive():
        try:
            os.kill(process.pid, how)
        except ProcessLookupError:
            return True
    deadline = time.monotonic() + timeout_seconds
    while process.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
