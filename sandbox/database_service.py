"""Stops and starts the sandbox's PostgreSQL for a restore in place: what a StatefulSet is in the cluster."""

from pathlib import Path

from aivo_backup.stores.postgres.server import complaint
from aivo_backup.stores.postgres.service import DatabaseService
from sandbox.servers.postgres import Postgres
from sandbox.state import Sandbox

_STOP_SECONDS = 120.0


class SandboxDatabase:
    """The sandbox's server, as a :class:`DatabaseService`."""

    def __init__(self, server: Postgres) -> None:
        self._server = server

    def running(self) -> bool:
        """See :class:`DatabaseService`."""
        return self._server.running()

    def stop(self) -> None:
        """See :class:`DatabaseService`."""
        # Longer than a plain `down` waits: the last WAL must be archived first.
        self._server.sandbox.processes.stop(self._server.name, timeout_seconds=_STOP_SECONDS)

    def start(self) -> None:
        """See :class:`DatabaseService`."""
        self._server.launch()

    def complaint(self) -> str:
        """See :class:`DatabaseService`."""
        return complaint(self._server.log)


def place() -> tuple[Path, DatabaseService]:
    """The data directory as this machine sees it, and its server.

    Raises:
        ConfigurationError: there is no sandbox.
    """
    server = Postgres(Sandbox.load())
    return server.home / "volume" / "pgdata", SandboxDatabase(server)
