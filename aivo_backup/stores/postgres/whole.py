"""Tables that are gone as a whole, brought back by PostgreSQL's own dump: with definition, rows, and what went along.

A table does not go alone. Views on it went with ``CASCADE``, and so did foreign keys of other tables; a partition was
part of another table; the whole schema may have gone. The copy of the moment knows all of it. What is gone is dumped
from there under its own names, and restored in one transaction, so that all of it is there or nothing. Foreign keys
and the ties of partitions come last, when the rows that they speak of are back (:func:`tie`).
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql

from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.archive import Login, connect
from aivo_backup.stores.postgres.tables import Connection, tables
from aivo_backup.stores.process import run

_ANCESTORS = """
SELECT DISTINCT n.nspname, c.relname
  FROM unnest(%(tables)s::regclass[]) AS t(id), pg_partition_ancestors(t.id) AS a(id)
  JOIN pg_class c ON c.oid = a.id JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_VIEWS = """
WITH RECURSIVE held(id) AS (
  SELECT unnest(%(tables)s::regclass[])::oid
  UNION
  SELECT r.ev_class FROM held
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid = held.id
    JOIN pg_rewrite r ON r.oid = d.objid
)
SELECT n.nspname, c.relname
  FROM held JOIN pg_class c ON c.oid = held.id JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm')
"""
_OF_SCHEMAS, _OF_RELATIONS = "gone-schemas.dump", "gone-tables.dump"

_RELATIONS = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_SCHEMAS = "SELECT nspname FROM pg_namespace"
_PUBLISHED = """
SELECT r.prrelid::regclass::text, p.pubname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = ANY(%(tables)s::regclass[])
"""
_BOUNDS = """
SELECT n.nspname, c.relname, pn.nspname, p.relname, pg_get_expr(c.relpartbound, c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_inherits i ON i.inhrelid = c.oid
  JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
 WHERE c.relispartition AND c.oid = ANY(%(tables)s::regclass[])
"""
_IS_PARTITION = """
SELECT c.relispartition FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE (n.nspname, c.relname) = (%s, %s)
"""
_INDICES = """
SELECT n.nspname, i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace
 WHERE x.indrelid = ANY(%(tables)s::regclass[])
"""
# From and to a table. The copy has them; a table that was dropped took them along. Those of a partition that are its
# parent's come with the parent.
_FOREIGN_KEYS = """
SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND (k.conrelid = ANY(%(tables)s::regclass[]) OR k.confrelid = ANY(%(tables)s::regclass[]))
"""
_HAS_CONSTRAINT = """
SELECT 1 FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE (n.nspname, c.relname, k.conname) = (%s, %s, %s)
"""

# A line of pg_restore's table of contents: `4; 2606 16400 FK CONSTRAINT schema name owner`.
_ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<kind>FK CONSTRAINT|TABLE ATTACH|INDEX ATTACH) (?P<named>.*)$")


@dataclass(frozen=True, order=True)
class Name:
    """Of a relation."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def pattern(self) -> str:
        """As pg_dump takes it: quoted, it is the very name, and no other that looks like it."""
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"


@dataclass(frozen=True, kw_only=True)
class Gone:
    """What production lacks as a whole, with everything that went along.

    Attributes:
        tables: those that hold rows, and the partitioned tables above them, gone or not.
        schemas: those that went with everything in them.
        relations: what went of schemas that are there: tables, partitioned tables, views.
        apart, indices: the partitions among them whose partitioned table is there, and their indexes.
    """

    tables: tuple[Name, ...]
    schemas: tuple[str, ...]
    relations: tuple[Name, ...]
    apart: tuple[Name, ...]
    indices: tuple[Name, ...]

    def __str__(self) -> str:
        schemas = [f"schema {schema} with everything in it" for schema in self.schemas]
        return ", ".join([*schemas, *map(str, self.relations)])


def what_is_gone(copy: Connection, live: Connection, units: Sequence[str]) -> Gone:
    """Everything that went with tables.

    Args:
        units: the tables, as the copy has them and production does not.
    """
    held = tables(copy)
    own = [Name(held[unit].schema, held[unit].name) for unit in units]
    every = tuple(dict.fromkeys((*own, *_names(copy, _ANCESTORS, own))))
    present, schemas = _relations(live), _schemas(live)
    went = [name for name in (*every, *_names(copy, _VIEWS, every)) if name not in present]
    bounds = copy.execute(_BOUNDS, _among(copy, own)).fetchall()
    apart = tuple(Name(str(row[0]), str(row[1])) for row in bounds if Name(str(row[2]), str(row[3])) in present)
    return Gone(
        tables=every,
        schemas=tuple(sorted({name.schema for name in went} - schemas)),
        relations=tuple(name for name in went if name.schema in schemas),
        apart=apart,
        indices=_names(copy, _INDICES, apart),
    )


def dump(copy: Login, gone: Gone, folder: Path, *, bin_path: Path) -> int:
    """Dumps what is gone into files in ``folder`` that PostgreSQL's own pg_restore reads.

    Returns:
        their bytes.

    Raises:
        BackupError: pg_dump failed.
    """
    size = 0
    for file, patterns in _files(gone, folder).items():
        argv = [
            str(bin_path / "pg_dump"), *copy.arguments(), "--format=custom", f"--file={file}", "--no-publications",
            "--no-subscriptions", *patterns,
        ]  # fmt: skip
        done = run(argv, environment=copy.environment())
        if done.exit_code != 0:
            raise BackupError(f"pg_dump of what is gone: {done.tail()}", mend="mend what it names, then give --resume")
        size += file.stat().st_size
    return size


def load(live: Login, gone: Gone, folder: Path, *, bin_path: Path) -> None:
    """Restores what :func:`dump` left, without the ties between tables: each file as a whole or not at all, and one
    that an earlier attempt has restored not again.

    Raises:
        RefusedError: somebody has made a part of it anew; nothing was changed.
        BackupError: production refused something; nothing of that file was brought back.
    """
    for file in _files(gone, folder):
        with connect(live) as connection:
            if _is_back(connection, gone, file):
                continue
        listed = run([str(bin_path / "pg_restore"), "--list", str(file)])
        if listed.exit_code != 0:
            raise BackupError(f"{file} cannot be read: {listed.tail()}", mend="give --abandon and begin again")
        kept = [line for line in listed.stdout.splitlines() if not _comes_later(line, gone)]
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".list") as entries:
            entries.write("\n".join(kept) + "\n")
            entries.flush()
            argv = [
                str(bin_path / "pg_restore"), *live.arguments(), "--single-transaction", "--exit-on-error",
                f"--use-list={entries.name}", str(file),
            ]  # fmt: skip
            done = run(argv, environment=live.environment())
        if done.exit_code != 0:
            raise BackupError(
                f"production refused what was gone: {done.tail()}",
                mend="nothing of it was brought back; mend what it names, then give --resume",
            )


def _files(gone: Gone, folder: Path) -> dict[Path, list[str]]:
    """Each file, with pg_dump's patterns of what is in it. Two, because pg_dump leaves out all schemas when tables are
    named."""
    files = {
        folder / _OF_SCHEMAS: [f"--schema={_quoted(schema)}" for schema in gone.schemas],
        folder / _OF_RELATIONS: [f"--table={name.pattern}" for name in gone.relations],
    }
    return {file: patterns for file, patterns in files.items() if patterns}


def _is_back(live: Connection, gone: Gone, file: Path) -> bool:
    wanted = set[Name | str](gone.schemas if file.name == _OF_SCHEMAS else gone.relations)
    there = wanted & (_schemas(live) | _relations(live))
    if there and there != wanted:
        raise RefusedError(
            f"{min(map(str, there))} was gone as a whole and is there again, alone",
            mend="give --abandon and recover anew: it is compared row by row then",
        )
    return there == wanted


def still_gone(live: Connection, gone: Gone) -> list[Name]:
    """The relations of schemas that were there, and all tables, that production still lacks."""
    present = _relations(live)
    return [name for name in dict.fromkeys((*gone.tables, *gone.relations)) if name not in present]


class Tie(NamedTuple):
    """What made a table part of another, or tied it to one, and is missing."""

    told: str
    statement: sql.Composed


def ties_left(copy: Connection, live: Connection, gone: Gone) -> list[Tie]:
    """Partitions that are not part of their tables, and foreign keys that are missing, in the order to mend them."""
    copy.execute("SET search_path = ''")  # so that definitions name every table in full
    found: list[Tie] = []
    for row in copy.execute(_BOUNDS, _among(copy, gone.tables)).fetchall():
        schema, name, parent_schema, parent, bound = (str(value) for value in row)
        is_partition = live.execute(_IS_PARTITION, (schema, name)).fetchone()
        if is_partition is None or not is_partition[0]:
            statement = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(
                sql.Identifier(parent_schema, parent), sql.Identifier(schema, name), _as_written(bound)
            )
            found.append(Tie(f"{schema}.{name} is no partition of {parent_schema}.{parent} again", statement))
    for row in copy.execute(_FOREIGN_KEYS, _among(copy, gone.tables)).fetchall():
        schema, name, constraint, definition = (str(value) for value in row)
        if live.execute(_HAS_CONSTRAINT, (schema, name, constraint)).fetchone() is None:
            statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                sql.Identifier(schema, name), sql.Identifier(constraint), _as_written(definition)
            )
            found.append(Tie(f"{schema}.{name} has no foreign key {constraint} again", statement))
    return found


def tie(copy: Connection, live: Connection, gone: Gone, *, progress: Progress) -> None:
    """Puts those ties back that hold for what production has now, and tells the others with PostgreSQL's reason. Safe
    to repeat."""
    for each in ties_left(copy, live, gone):
        try:
            with live.transaction():
                live.execute(each.statement)
        except psycopg.Error as error:
            progress(f"{each.told}: {' '.join(str(error).split())}")
    for table, publication in copy.execute(_PUBLISHED, _among(copy, gone.tables)).fetchall():
        progress(f"{table} was in the publication {publication}: add it when the subscribers are ready for it")


def _comes_later(line: str, gone: Gone) -> bool:
    entry = _ENTRY.match(line)
    if entry is None:
        return False
    apart = {"FK CONSTRAINT": None, "TABLE ATTACH": gone.apart, "INDEX ATTACH": gone.indices}[entry["kind"]]
    return apart is None or any(entry["named"].startswith(f"{name.schema} {name.name} ") for name in apart)


def _relations(connection: Connection) -> set[Name | str]:
    return {Name(*map(str, row)) for row in connection.execute(_RELATIONS).fetchall()}


def _schemas(connection: Connection) -> set[Name | str]:
    return {str(row[0]) for row in connection.execute(_SCHEMAS).fetchall()}


def _names(connection: Connection, query: LiteralString, names: Sequence[Name]) -> tuple[Name, ...]:
    return tuple(
        sorted(Name(*map(str, row)) for row in connection.execute(query, _among(connection, names)).fetchall())
    )


def _among(connection: Connection, names: Sequence[Name]) -> dict[str, list[str]]:
    return {"tables": [sql.Identifier(name.schema, name.name).as_string(connection) for name in names]}


def _as_written(definition: str) -> sql.SQL:
    """What PostgreSQL itself has written."""
    return sql.SQL(cast("LiteralString", definition))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
