"""One table or schema of any moment, put into production beside the live one, then swapped with it or merged into it.

The moment's copy is ours and is written to: what is wanted is moved there into a schema of the new name, and pg_dump
writes that schema, so nothing in the dump has to be renamed afterwards. pg_dump and psql are of the database's own
version; the import is one transaction, and so is the swap or the merge.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg import sql

from aivo_backup.errors import BackupError, RefusedError, UsageError
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.archive import Login, connect
from aivo_backup.stores.postgres.private_copy import PrivateCopy
from aivo_backup.stores.postgres.tables import Connection, tables

_TAIL = 500
_CHUNK = 1 << 20

_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema$)' ORDER BY 1, 2
"""
_OUTGOING = "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'"
_COUNT = "SELECT count(*) FROM {}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is extracted: tables (``schema.name``), or a whole schema.

    Raises:
        UsageError: at construction, when neither or both are named.
    """

    tables: tuple[str, ...] = ()
    schema: str = ""

    def __post_init__(self) -> None:
        if bool(self.tables) == bool(self.schema):
            raise UsageError("say what to extract", mend="give either --table (once or more) or --schema")
        if len({self._split(table)[0] for table in self.tables}) > 1:
            raise UsageError("the tables are of several schemas", mend="extract those of each schema on their own")

    @property
    def source(self) -> str:
        """The schema that it is in."""
        return self.schema or self._split(self.tables[0])[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The tables' names without their schema; empty when all are wanted."""
        return tuple(self._split(table)[1] for table in self.tables)

    def __str__(self) -> str:
        return f"schema {self.schema}" if self.schema else ", ".join(f"{self.source}.{name}" for name in self.names)

    @staticmethod
    def _split(table: str) -> tuple[str, str]:
        schema, _, name = table.rpartition(".")
        return schema or "public", name


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What came into production. ``rows`` is by table, as ``schema.name`` there."""

    schema: str
    rows: dict[str, int]


def free_or_extracted(production: Connection, schema: str, wanted: Wanted) -> bool:
    """Whether an earlier extraction of the same tables is in ``schema``.

    Raises:
        RefusedError: production has such a schema, and something else is in it.
    """
    if production.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
        return False
    held = {table.name for table in tables(production).values() if table.schema == schema}
    if not held or (wanted.names and not set(wanted.names) <= held):
        raise RefusedError(
            f"production has a schema {schema}, and {wanted} is not in it", mend="choose another name with --into"
        )
    return True


def extract(
    copy: PrivateCopy, login: Login, wanted: Wanted, *, into: str, bin_path: Path, progress: Progress
) -> Extracted:
    """Puts what is wanted into production's new schema ``into``.

    Outgoing foreign keys of single tables stay behind: the live tables that they name are of another moment. The swap
    brings the live table's own back.

    Raises:
        UsageError: the moment holds no such table or schema; alike ones are named.
        BackupError: the dump or the import failed; nothing is left in production.
    """
    with copy.server.connect() as ours:
        _move_aside(ours, wanted, into)
        found = [unit for unit in tables(ours) if unit.startswith(f"{into}.")]
        progress(f"{wanted}: {len(found)} tables, into {into} of production")
        _pipe(copy, login, into, bin_path)
        rows = {unit: _count(ours, *unit.split(".", 1)) for unit in found}
    with connect(login) as production:
        held = {unit: _count(production, *unit.split(".", 1)) for unit in found}
    if held != rows:
        raise BackupError(f"{into} holds other rows than were extracted", mend=f"drop schema {into} and try again")
    return Extracted(schema=into, rows=rows)


def _move_aside(ours: Connection, wanted: Wanted, into: str) -> None:
    kinds = {(str(row[0]), str(row[1])): str(row[2]) for row in ours.execute(_RELATIONS).fetchall()}
    known = list(kinds)
    schemas = sorted({schema for schema, _ in known})
    if wanted.source not in schemas:
        raise UsageError(f"there was no schema {wanted.source} with a table then", mend=f"known: {', '.join(schemas)}")
    if wanted.schema:
        ours.execute(
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(wanted.schema), sql.Identifier(into))
        )
        return
    names = {name for schema, name in known if schema == wanted.source}
    unknown = [name for name in wanted.names if name not in names]
    if unknown:
        alike = [f"{schema}.{name}" for schema, name in known if name == unknown[0]]
        raise UsageError(
            f"there was no table {wanted.source}.{unknown[0]} then",
            mend=f"known: {', '.join(alike or sorted(f'{wanted.source}.{name}' for name in names)[:10])}",
        )
    parted = [name for name in wanted.names if kinds[wanted.source, name] == "p"]
    if parted:
        raise UsageError(
            f"{wanted.source}.{parted[0]} is partitioned", mend=f"extract its schema: --schema {wanted.source}"
        )
    ours.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(into)))
    for name in wanted.names:
        table = sql.Identifier(wanted.source, name)
        for (constraint,) in ours.execute(_OUTGOING, (table.as_string(ours),)).fetchall():
            ours.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(str(constraint))))
        ours.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table, sql.Identifier(into)))


def _pipe(copy: PrivateCopy, login: Login, into: str, bin_path: Path) -> None:
    """pg_dump into psql, without a file between them. Committed only when pg_dump ended well: half a dump ends like a
    whole one. The password is in psql's environment."""
    # A quoted pattern is the very name, and no other that looks like it.
    dump = copy.server.program(
        "pg_dump", f"--dbname={copy.server.database}", f'--schema="{into}"', "--no-publications",
        "--no-subscriptions", "--no-password",
    )  # fmt: skip
    load = [
        str(bin_path / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *login.arguments(),
        "--output=/dev/null",
    ]  # fmt: skip
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as dump_said,
        tempfile.TemporaryFile() as load_said,
        subprocess.Popen(dump, stdin=subprocess.DEVNULL, stdout=pipe, stderr=dump_said) as dumping,
        subprocess.Popen(
            load, env={**os.environ, **login.environment()}, stdin=pipe, stdout=subprocess.DEVNULL, stderr=load_said
        ) as loading,
    ):
        try:
            _relay(dumping, loading)
        except BrokenPipeError:
            dumping.terminate()  # psql met an error and went; what it said is told below
        loaded, dumped = loading.wait(), dumping.wait()
        if loaded != 0:
            raise BackupError(f"import into {into}: {_said(load_said)}", mend="nothing was imported")
        if dumped != 0:
            raise BackupError(f"pg_dump of {into}: {_said(dump_said)}", mend="nothing was imported")


def _relay(dumping: "subprocess.Popen[bytes]", loading: "subprocess.Popen[bytes]") -> None:
    assert dumping.stdout is not None  # noqa: S101 - both are pipes
    assert loading.stdin is not None  # noqa: S101
    with loading.stdin as into:
        into.write(b"BEGIN;\n")
        shutil.copyfileobj(dumping.stdout, into, _CHUNK)
        if dumping.wait() == 0:
            into.write(b"COMMIT;\n")


def _said(file: IO[bytes]) -> str:
    file.seek(0)
    return " ".join(file.read().decode(errors="replace").split())[-_TAIL:] or "no message"


def _count(connection: Connection, schema: str, name: str) -> int:
    row = connection.execute(sql.SQL(_COUNT).format(sql.Identifier(schema, name))).fetchone()
    return int(str(row[0])) if row else 0
