"""PostgreSQL with checksums and WAL archiving, in a container of its own.

The server runs under bubblewrap with its volume, sockets and configuration at the very paths that they have in the
cluster: pgBackRest compares the data directory that PostgreSQL reports with the one it is configured for, and
`archive_command` must be the cluster's, word for word. ``.sandbox/postgres/`` is mounted so::

    volume/   /var/lib/postgresql/data     the data directory is its pgdata
    run/      /var/run/postgresql          Unix sockets (trusted: the folder is its owner's alone)
    etc/      /etc/aivo-postgres           postgresql.conf and pg_hba.conf, outside the data, so that a restored copy
                                           starts with plain defaults
    pgbackrest-host.conf                   /etc/pgbackrest/host.conf, for archive_command and restore_command
    secrets/pgbackrest-host (of .sandbox)  /etc/pgbackrest/tls
"""

import json
import os
import shutil
from pathlib import Path
from signal import SIGINT

import psycopg

from aivo_backup.errors import BackupError
from aivo_backup.policy import database_pod
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.pgbackrest import Certificates, host_configuration
from aivo_backup.stores.process import run
from sandbox.servers.base import Server

_CERTIFICATES = "/etc/pgbackrest/tls"
_CONFIG = "/etc/aivo-postgres"
# What a program of Debian needs of the machine to run: read only, and nothing of the user's.
_SYSTEM = ("/usr", "/etc/ssl", "/etc/ld.so.cache", "/etc/hosts", "/etc/nsswitch.conf")
_LINKS = ("bin", "sbin", "lib", "lib64")


class Postgres(Server):
    """The production database's stand-in."""

    name = "postgres"
    ports = ("postgres",)

    @property
    def address(self) -> str:
        return f"localhost:{self.sandbox.ports.postgres}"

    @property
    def settings(self) -> PostgresSettings:
        """Where PostgreSQL and its sidecar answer on this machine; all paths are the cluster's."""
        ports = self.sandbox.ports
        return PostgresSettings(
            host="localhost", port=ports.postgres, sidecar_host="localhost", sidecar_port=ports.pgbackrest
        )

    @property
    def home(self) -> Path:
        """``.sandbox/postgres``."""
        return self.sandbox.postgres_home

    def configure(self) -> None:
        """Makes its folders and writes its configuration; makes no data."""
        for folder in ("volume", "run", "etc", "log"):
            (self.home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_configuration()

    def prepare(self) -> None:
        self.configure()
        data = self.home / "volume" / "pgdata"
        if (data / "PG_VERSION").is_file():
            _drop_stale_pid_file(data / "postmaster.pid")
            return
        unfinished = self.home / "volume" / "pgdata.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._initialise(unfinished)
        unfinished.replace(data)

    def container(self, *command: str, information_fd: int | None = None) -> list[str]:
        """The argv that runs a command as PostgreSQL's container would (same files, same user, same paths).

        Args:
            information_fd: bubblewrap writes there, as JSON, the process id of the command.
        """
        argv = [str(self.sandbox.tools.bwrap), "--unshare-user", "--uid", "1000", "--gid", "1000"]
        if information_fd is not None:
            argv += ["--info-fd", str(information_fd)]
        for path in filter(os.path.exists, _SYSTEM):
            argv += ["--ro-bind", path, path]
        for link in _LINKS:
            argv += ["--symlink", f"usr/{link}", f"/{link}"]
        argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - the container's own
        for source, target in (
            (self.home / "volume", str(Path(self.settings.data_path).parent)),
            (self.home / "run", self.settings.socket_path),
            (self.home / "log", "/var/log/pgbackrest"),
            (self.home / "etc", _CONFIG),
            (self.sandbox.secrets / "pgbackrest-host", _CERTIFICATES),
            (self.home / "pgbackrest-host.conf", self.settings.host_config),
            (self.home / "passwd", "/etc/passwd"),
            (self.sandbox.certificates, "/etc/aivo-certificates"),
        ):
            argv += ["--bind" if source.name in ("volume", "run", "log") else "--ro-bind", str(source), target]
        return [*argv, "--setenv", "LC_ALL", "C.UTF-8", "--", *command]

    def launch(self) -> None:
        postgres = str(self.sandbox.tools.postgres_bin / "postgres")
        reader, writer = os.pipe()
        argv = self.container(
            postgres, "-D", self.settings.data_path, f"--config-file={_CONFIG}/postgresql.conf", information_fd=writer
        )
        try:
            outer = self.sandbox.processes.start(
                self.name, argv, log=self.log, stop_signal=SIGINT, cwd=self.home, keep_open=(writer,)
            )
        finally:
            os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as information:
            content = information.read()
        try:
            inner = int(json.loads(content)["child-pid"])
        except (ValueError, KeyError) as error:
            raise BackupError(
                f"postgres: bubblewrap (process {outer.pid}) cannot start it", mend=f"see {self.log}"
            ) from error
        # The server itself is what is to be asked to end; bubblewrap only waits for it and ends with it.
        self.sandbox.processes.register(self.name, inner, log=self.log, stop_signal=SIGINT)

    def ailment(self) -> str:
        try:
            with psycopg.connect(
                host="localhost",
                hostaddr="127.0.0.1",
                port=self.sandbox.ports.postgres,
                user=self.sandbox.secret("postgres", "username"),
                password=self.sandbox.secret("postgres", "password"),
                dbname="postgres",
                sslmode="verify-full",
                sslrootcert=str(self.sandbox.ca_file),
                connect_timeout=5,
            ) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            return " ".join(str(error).split())
        return ""

    def _initialise(self, unfinished: Path) -> None:
        password = self.home / "etc" / "initial-password"
        password.touch(mode=0o600)
        password.write_text(self.sandbox.secret("postgres", "password") + "\n", encoding="utf-8")
        inside = str(Path(self.settings.data_path).parent / unfinished.name)
        initdb = str(self.sandbox.tools.postgres_bin / "initdb")
        argv = self.container(
            initdb, "-D", inside, "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8",
            f"--username={self.sandbox.secret('postgres', 'username')}", "--auth-local=trust",
            "--auth-host=scram-sha-256", f"--pwfile={_CONFIG}/initial-password",
        )  # fmt: skip
        done = run(argv, timeout_seconds=120.0)
        password.unlink()
        if done.exit_code != 0:
            raise BackupError(f"postgres: initdb failed: {done.tail()}", mend="run `aivo-backup sandbox reset`")

    def _write_configuration(self) -> None:
        etc = self.home / "etc"
        settings = {
            **parameters(self.settings),
            "listen_addresses": "127.0.0.1",
            "port": str(self.sandbox.ports.postgres),
            "hba_file": f"{_CONFIG}/pg_hba.conf",
            "ssl_cert_file": "/etc/aivo-certificates/server.crt",
            "ssl_key_file": "/etc/aivo-certificates/server.key",
            **database_pod.parameters(self.settings),
        }
        lines = "".join(f"{key} = '{value}'\n" for key, value in settings.items())
        (etc / "postgresql.conf").write_text(lines, encoding="utf-8")
        (etc / "pg_hba.conf").write_text(
            "local   all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8"
        )
        # The image's users: PostgreSQL wants a name for its UID, and the machine may have none.
        (self.home / "passwd").write_text(
            "root:x:0:0::/root:/usr/sbin/nologin\npostgres:x:1000:1000::/var/lib/postgresql:/usr/sbin/nologin\n",
            encoding="utf-8",
        )
        certificates = Certificates(
            ca=f"{_CERTIFICATES}/ca.crt", certificate=f"{_CERTIFICATES}/tls.crt", key=f"{_CERTIFICATES}/tls.key"
        )
        configuration = host_configuration(self.settings, certificates)
        (self.home / "pgbackrest-host.conf").write_text(configuration.text(), encoding="utf-8")


def parameters(settings: PostgresSettings) -> dict[str, str]:
    """What the sandbox's database is told wherever it runs; where it listens and how it archives is added there."""
    return {
        "unix_socket_directories": settings.socket_path,
        "unix_socket_permissions": "0700",
        "ssl": "on",
        "wal_level": "replica",
        "shared_buffers": "128MB",
        "max_wal_size": "512MB",
        "log_line_prefix": "%m [%p] ",
        "cluster_name": "aivo-sandbox",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


def _drop_stale_pid_file(file: Path) -> None:
    """After a crash the file may name an id that is another program's by now, and PostgreSQL would not start."""
    try:
        pid = file.read_text(encoding="utf-8").split("\n", 1)[0].strip()
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "postgres":
            return  # perhaps ours: PostgreSQL looks closer, and refuses to start twice
    except OSError:
        pass
    file.unlink(missing_ok=True)
