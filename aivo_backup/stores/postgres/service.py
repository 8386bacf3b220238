"""Stopping and starting a database's server: an adapter per way of running it."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.postgres.server import complaint, complaint_in
from aivo_backup.stores.process import as_owner, run

_STOP_SECONDS = 300


class DatabaseService(Protocol):
    """How one database is run."""

    def running(self) -> bool:
        """Whether the server runs on the data directory."""
        ...

    def stop(self) -> None:
        """Stops it in order, so that all of its WAL is archived first. Safe when it does not run.

        Raises:
            BackupError: it does not stop.
        """
        ...

    def start(self) -> None:
        """Starts it; returns while it may still recover.

        Raises:
            BackupError: it cannot be started.
        """
        ...

    def complaint(self) -> str:
        """The errors that it logged since its last start, in one line."""
        ...


@dataclass(frozen=True, kw_only=True)
class PgCtlService:
    """A server that ``pg_ctl`` starts, as the owner of the data directory.

    Attributes:
        bin_path: folder with PostgreSQL's programs.
        log: where the server's output goes.
        options: server options, for example ``("--config-file=/etc/postgresql/15/main/postgresql.conf",)``.
    """

    bin_path: Path
    data: Path
    log: Path
    options: tuple[str, ...] = ()

    def running(self) -> bool:
        """See :class:`DatabaseService`."""
        # A folder that is no data directory answers 4.
        return self.data.is_dir() and run(self._argv("status")).exit_code == 0

    def stop(self) -> None:
        """See :class:`DatabaseService`."""
        if not self.running():
            return
        done = run(self._argv("stop", "--mode=fast", "--wait", f"--timeout={_STOP_SECONDS}"))
        if done.exit_code != 0 and self.running():
            raise BackupError(f"PostgreSQL on {self.data} does not stop: {done.tail()}", mend=f"see {self.log}")

    def start(self) -> None:
        """See :class:`DatabaseService`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        give_to_owner_of(self.data, self.log)
        options = ("--options", shlex.join(self.options)) if self.options else ()
        done = run(self._argv("start", "--no-wait", f"--log={self.log}", *options))
        if done.exit_code != 0:
            raise BackupError(f"PostgreSQL on {self.data} does not start: {done.tail()}", mend=f"see {self.log}")

    def complaint(self) -> str:
        """See :class:`DatabaseService`."""
        return complaint(self.log)

    def _argv(self, command: str, *arguments: str) -> list[str]:
        return [*as_owner(self.data), str(self.bin_path / "pg_ctl"), command, f"--pgdata={self.data}", *arguments]


@dataclass(frozen=True, kw_only=True)
class SystemdService:
    """A server that systemd runs, for example Debian's ``postgresql@15-main.service``.

    Attributes:
        unit: the unit's name.
        bin_path: folder with PostgreSQL's programs.
    """

    unit: str
    data: Path
    bin_path: Path

    def running(self) -> bool:
        """See :class:`DatabaseService`.

        Raises:
            RefusedError: a server runs on the data directory and it is not the unit's: stopping the unit would leave
                it running.
        """
        active = run(["systemctl", "is-active", "--quiet", self.unit]).exit_code == 0
        if not active and self._by_hand().running():
            raise RefusedError(
                f"PostgreSQL runs on {self.data} and not as {self.unit}",
                mend="name the unit that runs it with --unit, or use --service pg_ctl",
            )
        return active

    def stop(self) -> None:
        """See :class:`DatabaseService`."""
        self._do("stop")

    def start(self) -> None:
        """See :class:`DatabaseService`."""
        # Units of type `notify` and `forking` wait until the server is ready, which is after its whole recovery.
        self._do("start", "--no-block")

    def complaint(self) -> str:
        """See :class:`DatabaseService`."""
        said = run(["journalctl", "--unit", self.unit, "--lines", "200", "--output", "cat", "--no-pager"])
        return complaint_in(said.stdout.splitlines())

    def _do(self, verb: str, *options: str) -> None:
        done = run(["systemctl", verb, *options, self.unit], timeout_seconds=_STOP_SECONDS)
        if done.exit_code != 0:
            raise BackupError(
                f"systemctl {verb} {self.unit}: {done.tail()}", mend=f"see `journalctl --unit {self.unit}`"
            )

    def _by_hand(self) -> PgCtlService:
        return PgCtlService(bin_path=self.bin_path, data=self.data, log=self.data / "log")
