"""A PostgreSQL server of our own on restored data: reachable by a Unix socket alone, archiving nothing."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGQUIT

import psycopg

from aivo_backup.errors import BackupError, ConfigurationError, VerificationError
from aivo_backup.policy.pgbackrest import DATABASE_USER
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.process import as_owner, run

_SOCKET_PATH_BYTES = 107
_PORT = 5432
_POLL_SECONDS = 0.1
_STOP_SECONDS = 60.0
_LOG_TAIL_LINES = 12
# PostgreSQL's words to whoever connects to a database whose locale its C library does not know.
_NO_LOCALE = "database locale is incompatible with operating system"

# What pg_control demands of a server that replays its WAL: not less than what the original ran with.
_DEMANDED = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


@dataclass(frozen=True, kw_only=True)
class ControlFile:
    """What ``pg_controldata`` says that matters here. ``state`` is its word, for example ``in production``."""

    system_id: str
    state: str
    segment_bytes: int
    checksums: bool
    demanded: Mapping[str, str]


def read_control_file(bin_path: Path, data: Path) -> ControlFile:
    """Reads ``global/pg_control`` of a data directory.

    Raises:
        ConfigurationError: it is no data directory of this PostgreSQL version.
    """
    done = run([*as_owner(data), str(bin_path / "pg_controldata"), "-D", str(data)], environment={"LC_ALL": "C"})
    values: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(":")
        values[name.strip()] = value.strip()
    damaged = "CRC" in f"{done.stdout}{done.stderr}"  # it warns, and prints what it makes of the rubbish
    if done.exit_code != 0 or damaged or "Database system identifier" not in values:
        raise ConfigurationError(f"{data} is not a readable data directory: {done.tail()}", mend="check the path")
    return ControlFile(
        system_id=values["Database system identifier"],
        state=values["Database cluster state"],
        segment_bytes=int(values["Bytes per WAL segment"]),
        checksums=values["Data page checksum version"] != "0",
        demanded={setting: values[name] for name, setting in _DEMANDED.items()},
    )


def socket_fits(folder: Path, port: int) -> bool:
    """Whether the path of a socket in ``folder`` is short enough for the kernel."""
    return len(str(folder / f".s.PGSQL.{port}").encode()) <= _SOCKET_PATH_BYTES


def socket_folder(preferred: Path) -> Path:
    """A folder for a socket: ``preferred``, or a short temporary one where the socket's path would be too long."""
    if socket_fits(preferred, _PORT):
        preferred.mkdir(mode=0o700, parents=True, exist_ok=True)
        return preferred
    return Path(tempfile.mkdtemp(prefix="aivo-pg-"))


@dataclass(kw_only=True)
class OwnServer:
    """A server on ``data``, with settings of its own: nothing of the original's configuration can stop its start.

    Attributes:
        bin_path: folder with PostgreSQL's programs.
        data: the restored data directory.
        folder: an existing folder for its configuration, log and socket.
        secrets: environment that its restore_command needs.
        database: where queries go.
        durable: the copy is to be kept, so its writes are flushed.
        archives_later: it marks the WAL of its new timeline as to be archived and archives none: the server that
            takes over the files does, the history of the timeline first.
    """

    bin_path: Path
    data: Path
    folder: Path
    secrets: Mapping[str, str]
    database: str
    durable: bool = False
    archives_later: bool = False
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _socket: Path | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "postgresql.log"

    def start(self, control: ControlFile) -> None:
        """Starts it; returns at once, while it recovers.

        Raises:
            ConfigurationError: PostgreSQL is not in ``bin_path``.
        """
        self._socket = socket_folder(self.folder / "s")
        give_to_owner_of(self.data, self._socket)
        hba = self.folder / "pg_hba.conf"
        hba.write_text("local all all trust\n", encoding="utf-8")
        (self.folder / "pg_ident.conf").write_text("", encoding="utf-8")
        config = self.folder / "postgresql.conf"
        config.write_text("", encoding="utf-8")
        # On the command line, because it overrides postgresql.auto.conf, which holds the original's ALTER SYSTEM.
        settings = {
            "config_file": str(config),
            "hba_file": str(hba),
            "ident_file": str(self.folder / "pg_ident.conf"),
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "archive_mode": "on" if self.archives_later else "off",
            "archive_command": "",
            "primary_conninfo": "",
            "hot_standby": "off",
            "ssl": "off",
            "shared_buffers": "128MB",
            "huge_pages": "off",
            "shared_preload_libraries": "",
            "session_preload_libraries": "",
            "local_preload_libraries": "",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_min_messages": "log",
            "log_line_prefix": "%m [%p] ",
            "lc_messages": "C",
            "autovacuum": "off",
            "fsync": "on" if self.durable else "off",
            **control.demanded,
        }
        argv = [*as_owner(self.data), str(self.bin_path / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        try:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    argv,
                    env={"PATH": _path(), "LC_ALL": "C", **self.secrets},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ConfigurationError(f"cannot start {argv[0]}: {error.strerror}", mend="check bin_path") from error

    def wait_until_recovered(self, *, timeout_seconds: float) -> None:
        """Waits until WAL is replayed and the server takes writes.

        Raises:
            VerificationError: recovery ended with an error; the message holds the end of the log.
            ConfigurationError: the database's locale is not on this machine.
            BackupError: it takes longer than ``timeout_seconds``.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._process is None or self._process.poll() is not None:
                raise VerificationError(f"recovery failed: {self.complaint()}")
            try:
                with self.connect() as connection:
                    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
                    if row is not None and row[0] is False:
                        return
            except psycopg.OperationalError as error:
                # Else it is still starting, or replaying with hot_standby off.
                _refuse_missing_locale(str(error))
            if time.monotonic() > deadline:
                raise BackupError(f"recovery takes longer than {timeout_seconds:.0f} s", mend=f"see {self.log}")
            time.sleep(_POLL_SECONDS)

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection as the superuser."""
        return psycopg.connect(
            host=str(self._socket), port=_PORT, user=DATABASE_USER, dbname=self.database, autocommit=True,
            connect_timeout=10,
        )  # fmt: skip

    def program(self, name: str, *arguments: str) -> list[str]:
        """The argv of a client program of PostgreSQL against this server."""
        return [
            str(self.bin_path / name), "--host", str(self._socket), "--port", str(_PORT),
            "--username", DATABASE_USER, *arguments,
        ]  # fmt: skip

    def stop(self) -> None:
        """Stops it cleanly, so that its checksums can be checked; kills it when it does not end. Safe to repeat."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(SIGINT)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(SIGQUIT)  # takes its children with it, as SIGKILL would not
                process.wait()
        if self._socket is not None and self._socket.parent != self.folder:
            shutil.rmtree(self._socket, ignore_errors=True)
        self._socket = None

    def complaint(self) -> str:
        """The errors at the end of its log, in one line."""
        return complaint(self.log)


def complaint(log: Path) -> str:
    """The errors in a PostgreSQL log since its last start, the last ones, in one line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    return complaint_in(lines)


def complaint_in(lines: Sequence[str]) -> str:
    """The errors in lines of a PostgreSQL log since its last start, the last ones, in one line."""
    starts = [number for number, line in enumerate(lines) if "starting PostgreSQL" in line]
    lines = lines[starts[-1] :] if starts else lines
    wrong = [line for line in lines if any(word in line for word in ("FATAL:", "PANIC:", "ERROR:", "HINT:"))]
    return " | ".join((wrong or lines)[-_LOG_TAIL_LINES:])


def wait_for(condition: Callable[[], bool], *, timeout_seconds: float, failure: BackupError) -> None:
    """Waits until ``condition`` holds.

    Raises:
        BackupError: ``failure``, when it does not within ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise failure
        time.sleep(_POLL_SECONDS)


def _refuse_missing_locale(said: str) -> None:
    if _NO_LOCALE not in said:
        return
    named = re.search(r'LC_(?:COLLATE|CTYPE) "([^"]+)"', said)
    raise ConfigurationError(
        f"the database has the locale {named[1] if named else 'of another machine'}, which is not here",
        mend="install it where the restore runs: `localedef`, or in the image `make image LOCALES=…`",
    )


def _path() -> str:
    # restore_command calls pgbackrest by name.
    program = shutil.which("pgbackrest")
    return ":".join(filter(None, (str(Path(program).parent) if program else "", "/usr/bin:/bin")))
