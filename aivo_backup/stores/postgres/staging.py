"""Restores beside production: own directory, own port, archiving nothing."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aivo_backup.errors import BackupError
from aivo_backup.stores.port import Progress, Stopwatch
from aivo_backup.stores.postgres.exclusion import alone_in
from aivo_backup.stores.postgres.own_replay import OwnReplay, fetch_and_replay
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.postgres.recovered import result
from aivo_backup.stores.postgres.recovery_conf import append_settings
from aivo_backup.stores.postgres.restore import Prepared, Restorer, RestoreResult, Staging, staging_companions
from aivo_backup.stores.postgres.server import socket_fits, wait_for
from aivo_backup.stores.postgres.service import PgCtlService
from aivo_backup.stores.postgres.targets import Target
from aivo_backup.stores.process import run

_START_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class RestoreToStaging:
    """Carries out one prepared restore."""

    restorer: Restorer
    place: Staging
    target: Target
    prepared: Prepared
    stopwatch: Stopwatch
    progress: Progress

    def run(self, *, now: datetime) -> RestoreResult:
        """Restores, recovers on a private socket, and starts the server on its port.

        Raises:
            VerificationError: the repository's data is damaged, or recovery failed; nothing is left behind.
            BackupError: something else failed.
        """
        data = self.place.data
        folder, tablespaces = staging_companions(data)
        service = PgCtlService(bin_path=Path(self.restorer.settings.bin_path), data=data, log=folder / "postgresql.log")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone_in(folder):
            try:
                return self._restore(folder, tablespaces, service, now=now)
            except BaseException:
                service.stop()
                for leftover in (data, folder, tablespaces):
                    shutil.rmtree(leftover, ignore_errors=True)
                raise

    def _restore(self, folder: Path, tablespaces: Path, service: PgCtlService, *, now: datetime) -> RestoreResult:
        data = self.place.data
        replay = OwnReplay(
            restorer=self.restorer,
            data=data,
            folder=folder,
            target=self.target,
            prepared=self.prepared,
            progress=self.progress,
        )
        server, seen = fetch_and_replay(replay, tablespaces=tablespaces, stopwatch=self.stopwatch)
        server.stop()
        with self.stopwatch.phase("start"):
            self._adapt(folder)
            service.start()
            self._wait_until_ready(service)
            self.progress(f"staging server on port {self.place.port} and socket folder {folder}")
        return result(self.prepared, self.target, seen, now=now, data=data, port=self.place.port, set_aside="")

    def _wait_until_ready(self, service: PgCtlService) -> None:
        program = str(Path(self.restorer.settings.bin_path) / "pg_isready")
        argv = [program, "--host=localhost", f"--port={self.place.port}", "--quiet"]
        wait_for(
            lambda: run(argv).exit_code == 0,
            timeout_seconds=_START_SECONDS,
            failure=BackupError(
                f"the staging server on port {self.place.port} does not start", mend=f"see {service.log}"
            ),
        )

    def _adapt(self, folder: Path) -> None:
        data = self.place.data
        for name, content in (("postgresql.conf", ""), ("pg_hba.conf", "local all all trust\n"), ("pg_ident.conf", "")):
            # Where a distribution keeps these outside the data directory, the backup has none of them.
            if not (data / name).exists():
                (data / name).write_text(content, encoding="utf-8")
        append_settings(
            data,
            {
                "port": str(self.place.port),
                "listen_addresses": "localhost",
                "unix_socket_directories": str(folder) if socket_fits(folder, self.place.port) else "",
                "archive_mode": "off",
                "archive_command": "",
                "restore_command": "",
                "primary_conninfo": "",
                "cluster_name": "aivo-staging",
                "ssl": "off",
                "hba_file": str(data / "pg_hba.conf"),
                "ident_file": str(data / "pg_ident.conf"),
                "logging_collector": "off",
            },
        )
        give_to_owner_of(data.parent, folder)
        give_to_owner_of(folder, *(data / name for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")))
