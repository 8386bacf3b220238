"""A database with its repository on a MinIO, lost and brought back by either side: what ``bench.postgres`` compares."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.pgbackrest import Workspace, archive_command, restore_configuration
from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.port import Stopwatch, silent
from aivo_backup.stores.postgres.access import Credentials, RepositoryAccess
from aivo_backup.stores.postgres.archive import Login, connect
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.postgres.pgbackrest import installed_version, place
from aivo_backup.stores.postgres.restore import InPlace, RestoreRequest
from aivo_backup.stores.postgres.service import PgCtlService
from aivo_backup.stores.postgres.store import PostgresStore
from aivo_backup.stores.postgres.targets import Target
from aivo_backup.stores.process import as_owner, run
from bench._shared import REGION, Server, free_port
from sandbox.state import CHECKOUT

BUCKET = "aivo-backup-postgres"
HANDED = "BENCH_POSTGRES"
"""The variable through which a restore in a process of its own is told what to restore."""
_READY_SECONDS = 1800.0
_LOOK_EVERY_SECONDS = 0.05
# A restore that comes back as production archives to a fresh path, which nobody prepared here.
_NOT_PREPARED = "archiving"


@dataclass(frozen=True, kw_only=True)
class Ours:
    """One restore of ours: seconds until the server took writes, until the command ended, and of each phase."""

    ready: float
    total: float
    phases: Mapping[str, float]
    amounts: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Database:
    """The database, and both ways to bring it back. ``home`` is a short path: sockets lie there."""

    home: Path
    programs: Path
    processes: int
    server: Server
    port: int = field(default_factory=free_port)
    cipher_pass: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def data(self) -> Path:
        """The data directory that is lost and restored."""
        return self.home / "volume" / "pgdata"

    @property
    def settings(self) -> PostgresSettings:
        """What an environment would say. There is no sidecar: the host's configuration is the repository's own."""
        return PostgresSettings(
            host="localhost",
            port=self.port,
            sidecar_host="localhost",
            host_config=str(self.home / "host.conf"),
            data_path=str(self.data),
            socket_path=str(self.home),
            bin_path=str(self.programs),
            process_max=self.processes,
        )

    @property
    def access(self) -> RepositoryAccess:
        """The way into the repository."""
        return RepositoryAccess(
            bucket=BUCKET,
            region=REGION,
            kms_key=self.server.kms_key,
            endpoint_url=self.server.endpoint,
            ca_file=self.server.ca_file,
            credentials=lambda: Credentials(key=self.server.access_key, secret=self.server.secret_key),
            cipher_pass=lambda: self.cipher_pass,
        )

    @property
    def service(self) -> PgCtlService:
        """Stops and starts the server."""
        return PgCtlService(bin_path=self.programs, data=self.data, log=self.home / "postgresql.log")

    @property
    def login(self) -> Login:
        """The superuser over TCP."""
        return Login(host="localhost", port=self.port, database="postgres", user="postgres", password="")

    @property
    def in_place(self) -> InPlace:
        """Where ours restores to."""
        return InPlace(data=self.data, service=self.service, stop=False, connect=lambda: connect(self.login))

    def store(self) -> PostgresStore:
        """Our engine."""
        client = s3_client(self.server.session, endpoint_url=self.server.endpoint, ca_file=self.server.ca_file)
        return PostgresStore(
            settings=self.settings, access=self.access, certificates=self.home, state=self.home / "state", s3=client
        )

    def configure(self) -> None:
        """The configuration of the host, which archives and fetches; a restore of the peer uses the same."""
        workspace = Workspace.under(str(self.home / "pgbackrest"))
        made = restore_configuration(
            self.settings, self.access.repository(), workspace, data_path=str(self.data), version=installed_version()
        )
        host = {"pg1-port": self.port, "pg1-socket-path": str(self.home), "pg1-user": "postgres"}
        whole = {"compress-type": "zst", "log-level-console": "off", "start-fast": True}
        configuration = replace(
            made,
            global_options={**made.global_options, **whole},
            stanza_options={**made.stanza_options, **host},
        )
        place(configuration, Path(self.settings.host_config), workspace)

    def pgbackrest(self, *arguments: str) -> None:
        """Runs plain pgBackRest.

        Raises:
            SystemExit: it failed.
        """
        options = (f"--config={self.settings.host_config}", f"--stanza={self.settings.stanza}")
        self._run("pgbackrest", *options, *arguments, secret=self.access.secrets())

    def load(self, scale: int) -> int:
        """Makes the database, fills it, backs it up, and writes some more WAL; answers its size in bytes."""
        self.data.parent.mkdir()
        cluster = ("--username=postgres", "--auth=trust", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8")
        self._run(str(self.programs / "initdb"), "-D", str(self.data), *cluster, "--no-sync")
        values = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.home),
            "archive_mode": "on",
            "archive_command": archive_command(self.settings),
            "max_wal_size": "4GB",
            "shared_buffers": "256MB",
        }
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in values.items())
        self.service.start()
        self.wait_ready(time.monotonic())
        self.pgbackrest("stanza-create")
        client = ("--host", str(self.home), "--port", str(self.port), "--username=postgres")
        steps = ("--initialize", "--init-steps=dtg", "--quiet", "--unlogged-tables", f"--scale={scale}")
        self._run(str(self.programs / "pgbench"), *client, *steps, "postgres")
        with connect(self.login) as connection:
            connection.execute("ALTER TABLE pgbench_accounts SET LOGGED")
        self.pgbackrest("backup", "--type=full")
        with connect(self.login) as connection:
            connection.execute("CREATE TABLE more AS SELECT i, repeat('x', 200) FROM generate_series(1, 200000) i")
            connection.execute("SELECT pg_switch_wal()")
            row = connection.execute("SELECT pg_database_size('postgres')").fetchone()
        self.service.stop()
        return int(str(row[0])) if row else 0

    def wait_ready(self, begun: float) -> float:
        """Waits until the server takes writes; answers the seconds since ``begun``.

        Raises:
            SystemExit: it does not.
        """
        while True:
            try:
                # Nearly free while nobody listens: looking must not slow down the side that is looked at for longer.
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres") as here:
                    row = here.execute("SELECT pg_is_in_recovery()").fetchone()
                    if row is not None and row[0] is False:
                        return time.monotonic() - begun
            except (OSError, psycopg.OperationalError):
                pass
            if time.monotonic() - begun > _READY_SECONDS:
                raise SystemExit(f"the server does not come up: see {self.home / 'postgresql.log'}")
            time.sleep(_LOOK_EVERY_SECONDS)

    def lose(self) -> None:
        """The volume is empty, and what was written is on disk, so that no side pays for the other's."""
        if self.data.is_dir() and self.service.running():
            self._run(str(self.programs / "pg_ctl"), "stop", "-D", str(self.data), "-m", "immediate", "-w")
        shutil.rmtree(self.data.parent)
        self.data.parent.mkdir()
        os.sync()

    def peer(self) -> float:
        """Plain pgBackRest, then the server's start; answers the seconds until it takes writes."""
        begun = time.monotonic()
        self.data.mkdir(mode=0o700)
        give_to_owner_of(self.home, self.data)
        self.pgbackrest("restore", "--type=default", "--target-timeline=current")
        self.service.start()
        return self.wait_ready(begun)

    def ours(self) -> Ours:
        """Our restore, in a process of its own as the command is.

        Raises:
            SystemExit: it failed.
        """
        begun = time.monotonic()
        handed = {
            "home": str(self.home),
            "programs": str(self.programs),
            "processes": self.processes,
            "server": vars(self.server),
            "port": self.port,
            "cipher_pass": self.cipher_pass,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "bench._database"],
            env={**os.environ, **self.access.secrets(), HANDED: json.dumps(handed)},
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self.wait_ready(begun)
        said, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"our restore ended with {process.returncode}: {said}")
        return Ours(ready=ready, total=time.monotonic() - begun, **json.loads(said))

    def restore(self) -> dict[str, object]:
        """What :meth:`ours` starts: the very calls of the command; answers the seconds of its phases.

        Raises:
            SystemExit: what came back is not what was backed up.
        """
        store, stopwatch, now = self.store(), Stopwatch(), datetime.now(UTC)
        request = RestoreRequest(target=Target(timeline=1), destination=self.in_place)
        with stopwatch.phase("plan"):
            prepared = store.prepare_restore(request, now=now)
        result = store.restore(request, now=now, stopwatch=stopwatch, progress=silent, prepared=prepared)
        wrong = [check for check in result.checks if not check.passed and check.name != _NOT_PREPARED]
        if wrong:
            raise SystemExit(f"{wrong}")
        phases: dict[str, float] = {}
        for phase in stopwatch.phases:
            phases[phase.name] = phases.get(phase.name, 0.0) + phase.seconds
        return {"phases": phases, "amounts": dict(prepared.plan.amounts)}

    def _run(self, program: str, *arguments: str, secret: Mapping[str, str] | None = None) -> None:
        done = run([*as_owner(self.home), program, *arguments], environment=secret or {})
        if done.exit_code != 0:
            raise SystemExit(f"{Path(program).name}: {done.tail()}")


def main() -> None:
    """One restore of ours, told by the environment; prints its phases as JSON."""
    handed = json.loads(os.environ[HANDED])
    database = Database(
        home=Path(handed["home"]),
        programs=Path(handed["programs"]),
        processes=handed["processes"],
        server=Server(**handed["server"]),
        port=handed["port"],
        cipher_pass=handed["cipher_pass"],
    )
    print(json.dumps(database.restore()))


if __name__ == "__main__":
    main()
