"""PostgreSQL: pgbench's tables under live writes, and reference tables of Debian's ISO codes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from aivo_backup.errors import BackupError, ConfigurationError, UnreachableError
from aivo_backup.stores.process import run
from sandbox.processes import Process, Registry

ISO_CODES = Path("/usr/share/iso-codes/json")
WRITER = "writer"
_A_DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """One table of the schema ``reference``: its file, the list in it, and column by key (the first is the key)."""

    table: str
    file: str
    columns: Mapping[str, str]


_REFERENCES = (
    _Reference(
        table="countries",
        file="3166-1",
        columns={
            "alpha_2": "code",
            "alpha_3": "code3",
            "numeric": "number",
            "name": "name",
            "official_name": "official_name",
        },
    ),
    _Reference(
        table="subdivisions",
        file="3166-2",
        columns={"code": "code", "name": "name", "type": "kind", "parent": "parent"},
    ),
    _Reference(
        table="languages",
        file="639-3",
        columns={"alpha_3": "code", "name": "name", "scope": "scope", "type": "kind"},
    ),
    _Reference(
        table="currencies",
        file="4217",
        columns={"alpha_3": "code", "numeric": "number", "name": "name"},
    ),
)


@dataclass(frozen=True, kw_only=True)
class PostgresData:
    """Rows by table, schema included (``public.pgbench_accounts``)."""

    rows: Mapping[str, int]

    @property
    def total(self) -> int:
        """Rows of all tables."""
        return sum(self.rows.values())


def load_postgres(dsn: str, *, postgres_bin: Path, scale: int = 20, iso_codes: Path = ISO_CODES) -> PostgresData:
    """Makes pgbench's tables (100,000 accounts per unit of scale) and the schema ``reference`` anew.

    Args:
        dsn: connection string or URI of a database; its password never enters argv.
        postgres_bin: folder of pgbench.

    Raises:
        ConfigurationError: the ISO codes or pgbench are missing.
        UnreachableError: the database does not answer.
        BackupError: it refuses.
    """
    references = [(reference, _entries(iso_codes / f"iso_{reference.file}.json")) for reference in _REFERENCES]
    login = _login(dsn)
    _connect(dsn).close()
    argv = [str(postgres_bin / "pgbench"), "--initialize", "--quiet", f"--scale={scale}"]
    done = run(argv, environment=login, timeout_seconds=600)
    if done.exit_code != 0:
        raise BackupError(f"pgbench cannot make its tables: {done.tail()}", mend="see PostgreSQL's log")
    rows = {f"public.pgbench_{table}": count * scale for table, count in _PGBENCH_ROWS.items()}
    try:
        with _connect(dsn) as connection:
            connection.execute("DROP SCHEMA IF EXISTS reference CASCADE")
            connection.execute("CREATE SCHEMA reference")
            for reference, entries in references:
                rows[f"reference.{reference.table}"] = _load(connection, reference, entries)
    except psycopg.Error as error:
        raise BackupError(f"PostgreSQL refuses the reference tables: {error}", mend="see PostgreSQL's log") from error
    return PostgresData(rows=rows)


def start_writer(
    processes: Registry, dsn: str, *, postgres_bin: Path, log: Path, transactions_per_second: int = 50
) -> Process:
    """Starts pgbench's own transactions at a steady rate, as ``writer`` in the registry, for at most a day.

    A writer that runs already is stopped first. It ends by itself when the database goes away.

    Raises:
        BackupError: it could not be started.
    """
    stop_writer(processes)
    argv = [str(postgres_bin / "pgbench"), "--no-vacuum", "--client=2", "--jobs=1"]
    argv += [f"--rate={transactions_per_second}", f"--time={_A_DAY_SECONDS}"]
    return processes.start(WRITER, argv, log=log, environment=_login(dsn))


def stop_writer(processes: Registry) -> bool:
    """Stops the writer; says whether one was running."""
    return processes.stop(WRITER)


_PGBENCH_ROWS = {"accounts": 100_000, "branches": 1, "tellers": 10}

_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "connect_timeout": "PGCONNECT_TIMEOUT",
}


def _login(dsn: str) -> dict[str, str]:
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        raise ConfigurationError(f"the connection string is malformed: {error}", mend="write host=… port=…") from error
    return {_VARIABLES[key]: str(value) for key, value in parts.items() if key in _VARIABLES and value is not None}


def _connect(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(dsn, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise UnreachableError(f"PostgreSQL does not answer: {error}", mend="run `aivo-backup sandbox up`") from error


def _entries(file: Path) -> list[Mapping[str, Any]]:
    try:
        content: Mapping[str, list[Mapping[str, Any]]] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read ({error})", mend="run: apt-get install iso-codes") from error
    # The list's key is the standard's number, which is the file's name too.
    return content[file.stem.removeprefix("iso_")]


def _load(
    connection: psycopg.Connection[tuple[Any, ...]], reference: _Reference, entries: Iterable[Mapping[str, Any]]
) -> int:
    table = sql.Identifier("reference", reference.table)
    names = list(reference.columns.values())
    columns = sql.SQL(", ").join(
        sql.SQL("{} text{}").format(sql.Identifier(name), sql.SQL(" PRIMARY KEY" if position == 0 else ""))
        for position, name in enumerate(names)
    )
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
    count = 0
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(table, sql.SQL(", ").join(map(sql.Identifier, names)))
    with connection.cursor().copy(into) as copy:
        for entry in entries:
            copy.write_row([entry.get(key) for key in reference.columns])
            count += 1
    return count
