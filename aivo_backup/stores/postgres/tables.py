"""Tables as comparing and copying rows sees them: columns, primary key, and the SQL that both are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import psycopg
from psycopg import sql

from aivo_backup.errors import UsageError

Connection = psycopg.Connection[tuple[object, ...]]

Key = tuple[str, ...]
"""The text of a row's key columns."""

# What the text of a value depends on; the same on both sides, whatever the servers are set to.
_SESSION = (
    "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1; "
    "SET bytea_output = 'hex'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
)

_TABLES = """
SELECT n.nspname, c.relname, c.relpersistence = 'p',
       (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       (SELECT coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum), '{}') FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       (SELECT coalesce(array_agg(a.attcollation <> 0 ORDER BY a.attnum), '{}') FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       (SELECT coalesce(array_agg(a.attname::text ORDER BY k.position), '{}')
          FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(number, position)
          JOIN pg_attribute a ON a.attnum = k.number
         WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$)'
 ORDER BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column. ``collated``: its order depends on a collation, which two machines may not share."""

    name: str
    type: str
    collated: bool

    @property
    def ordered(self) -> sql.Composable:
        """The column as both sides order it."""
        return sql.SQL('{} COLLATE "C"' if self.collated else "{}").format(sql.Identifier(self.name))

    def value(self, text: str) -> sql.Composable:
        """A value of it, from its text."""
        template = '{}::{} COLLATE "C"' if self.collated else "{}::{}"
        return sql.SQL(template).format(sql.Literal(text), sql.SQL(self.type))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. Without a primary key, ``key`` is empty: rows are known by their whole content then.

    Attributes:
        columns: those that can be written, in their order.
        logged: its rows are in the WAL; of others nothing comes back.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    logged: bool = True

    @property
    def unit(self) -> str:
        """``schema.name``."""
        return f"{self.schema}.{self.name}"

    @property
    def qualified(self) -> sql.Composable:
        """The quoted name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def listed(self) -> sql.Composable:
        """The quoted columns, with commas."""
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns)

    @property
    def digest(self) -> sql.Composable:
        """64 bits of a row's whole content."""
        return sql.SQL("hashtextextended(ROW({})::text, 0)").format(self.listed)

    def among(self, keys: Sequence[Key]) -> sql.Composable:
        """The condition that a row's primary key is one of ``keys``."""
        arrays = sql.SQL(", ").join(
            sql.SQL("{}::{}[]").format(sql.Literal([key[at] for key in keys]), sql.SQL(_plain(column.type)))  # pyright: ignore[reportArgumentType]
            for at, column in enumerate(self.key)
        )
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.key)
        return sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(names, arrays)

    def key_text(self, key: Key) -> str:
        """A key for people."""
        if not self.key:
            return "row without a key"
        return ", ".join(f"{column.name}={value}" for column, value in zip(self.key, key, strict=True))


def prepare(connection: Connection) -> None:
    """Makes the session write values as the other side does."""
    connection.execute(_SESSION)


def tables(connection: Connection, *, but: Sequence[str] = ()) -> dict[str, Table]:
    """Every ordinary table and partition, by unit, without PostgreSQL's own.

    Args:
        but: schemas that are left out.
    """
    found: dict[str, Table] = {}
    for row in connection.execute(_TABLES).fetchall():
        table = _table(row)
        if table.schema not in but:
            found[table.unit] = table
    return found


def _table(row: tuple[object, ...]) -> Table:
    schema, name, logged = row[:3]
    names, types, collated, key = (cast("Sequence[object]", part) for part in row[3:])
    columns = tuple(
        Column(name=str(a), type=str(b), collated=bool(c)) for a, b, c in zip(names, types, collated, strict=True)
    )
    by_name = {column.name: column for column in columns}
    return Table(
        schema=str(schema),
        name=str(name),
        columns=columns,
        # A generated column cannot be written, and as part of a key says nothing that the others do not.
        key=tuple(by_name[str(each)] for each in key) if all(str(each) in by_name for each in key) else (),
        logged=bool(logged),
    )


def common(one: Table, other: Table) -> Table:
    """What two versions of a table have in common: the columns of the same name and type, and the key if it is one."""
    columns = tuple(column for column in one.columns if column in other.columns)
    key = one.key if one.key == other.key else ()
    return Table(schema=one.schema, name=one.name, columns=columns, key=key, logged=one.logged and other.logged)


def chosen(found: dict[str, Table], wanted: Sequence[str]) -> dict[str, Table]:
    """The tables that are asked for; all of them when nothing is. ``public`` is the schema of a bare name.

    Raises:
        UsageError: one is not there; the nearest names are told.
    """
    if not wanted:
        return found
    units = [name if "." in name else f"public.{name}" for name in wanted]
    unknown = [unit for unit in units if unit not in found]
    if unknown:
        alike = [unit for unit in found if unit.rpartition(".")[2] == unknown[0].rpartition(".")[2]]
        raise UsageError(
            f"there is no table {unknown[0]}", mend=f"known: {', '.join(alike or list(found)[:10]) or 'none'}"
        )
    return {unit: found[unit] for unit in units}


def _plain(kind: str) -> str:
    # `character varying(20)[]` is written so too, but `timestamp(3) with time zone[]` is not.
    return f"{kind.partition('(')[0].rstrip()}{kind.partition(')')[2]}"
