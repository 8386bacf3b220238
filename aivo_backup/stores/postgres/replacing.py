"""Puts extracted tables in the place of the live ones, or their rows among the live rows; each in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.extraction import Wanted
from aivo_backup.stores.postgres.fetching import some
from aivo_backup.stores.postgres.rows import BroughtBack, Writing, parents_first
from aivo_backup.stores.postgres.tables import Connection, Table, common, tables

# What holds on to a table by its identity, and would stay with the replaced one after a swap.
_HOLDERS = """
SELECT 'foreign key ' || k.conname || ' of ' || k.conrelid::regclass
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
 WHERE k.contype = 'f' AND k.confrelid = ANY(%(tables)s::regclass[]) AND k.conrelid <> ALL(%(tables)s::regclass[])
UNION ALL
SELECT DISTINCT 'view ' || r.ev_class::regclass
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
 WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
   AND d.refobjid = ANY(%(tables)s::regclass[]) AND r.ev_class <> ALL(%(tables)s::regclass[])
   AND (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = r.ev_class)
       <> ALL(%(schemas)s::text[])
UNION ALL
SELECT 'inheritance between ' || inhrelid::regclass || ' and ' || inhparent::regclass
  FROM pg_inherits
 WHERE (inhrelid = ANY(%(tables)s::regclass[])) <> (inhparent = ANY(%(tables)s::regclass[]))
UNION ALL
SELECT 'publication ' || p.pubname
  FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = ANY(%(tables)s::regclass[])
"""
_OUTGOING = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE conrelid = %s::regclass AND contype = 'f' AND confrelid <> conrelid
"""
_SEQUENCES = """
SELECT a.attname, pg_get_serial_sequence(%(table)s, a.attname),
       pg_sequence_last_value(pg_get_serial_sequence(%(table)s, a.attname)::regclass)
  FROM pg_attribute a
 WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND pg_get_serial_sequence(%(table)s, a.attname) IS NOT NULL
"""


_LEAVING = """
SELECT c.relname, k.conname
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid,
       pg_namespace s
 WHERE s.nspname = %(schema)s AND k.contype = 'f' AND c.relnamespace = s.oid AND p.relnamespace <> s.oid
"""


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """The tables that are live now, and the schema that holds the ones before them."""

    tables: tuple[str, ...]
    set_aside: str


def check_swap(production: Connection, wanted: Wanted) -> None:
    """Whether the live tables can be swapped.

    Raises:
        RefusedError: something holds on to one of them; it is named.
    """
    held = _live(production, wanted)
    if not held:
        return  # dropped: nothing is in the way
    names = [table.qualified.as_string(production) for table in held]
    schemas = [wanted.source] if wanted.schema else []
    rows = production.execute(_HOLDERS, {"tables": names, "schemas": schemas}).fetchall()
    if rows:
        raise RefusedError(
            f"{wanted} cannot be swapped: held by {some([str(row[0]) for row in rows])}",
            mend="--merge the rows instead, or drop what holds it and make it again after the swap",
        )


def swap(production: Connection, wanted: Wanted, *, extracted: str, aside: str, progress: Progress) -> Swapped:
    """Makes the extracted tables the live ones. The live ones go to the schema ``aside`` and stay there.

    Raises:
        RefusedError: something holds on to a live table.
        BackupError: production refused it (rows that name parents which are gone, for example); nothing was changed.
    """
    check_swap(production, wanted)
    try:
        with production.transaction():
            if wanted.schema:
                moved = _swap_schema(production, wanted.schema, extracted, aside)
            else:
                moved = _swap_tables(production, wanted, extracted, aside)
    except psycopg.Error as error:
        raise BackupError(
            f"{wanted} was not swapped: {' '.join(str(error).split())}",
            mend=f"nothing was changed; what was extracted is in {extracted}",
        ) from error
    progress(f"{', '.join(moved)}: swapped; the former ones are in {aside}")
    return Swapped(tables=tuple(moved), set_aside=aside)


def _swap_schema(production: Connection, live: str, extracted: str, aside: str) -> list[str]:
    rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
    former = [table for table in tables(production).values() if table.schema == live]
    for table in former:
        production.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table.qualified))
    production.execute(rename.format(sql.Identifier(live), sql.Identifier(aside)))
    production.execute(rename.format(sql.Identifier(extracted), sql.Identifier(live)))
    _let_go(production, aside)
    for table in former:
        _sequences_not_behind(production, replace(table, schema=aside), replace(table, schema=live))
    return sorted(table.unit for table in tables(production).values() if table.schema == live)


def _swap_tables(production: Connection, wanted: Wanted, extracted: str, aside: str) -> list[str]:
    held = tables(production)
    production.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(aside)))
    move = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
    moved: list[str] = []
    constraints: list[tuple[sql.Composable, str, str]] = []
    for name in wanted.names:
        live = sql.Identifier(wanted.source, name)
        if f"{wanted.source}.{name}" in held:
            production.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(live))
            named = live.as_string(production)
            found = production.execute(_OUTGOING, (named,)).fetchall()
            constraints += [(live, str(constraint), str(definition)) for constraint, definition in found]
            production.execute(move.format(live, sql.Identifier(aside)))
        production.execute(move.format(sql.Identifier(extracted, name), sql.Identifier(wanted.source)))
        moved.append(f"{wanted.source}.{name}")
    _let_go(production, aside)
    # After all of them are in place, because they may name each other.
    for live, constraint, definition in constraints:
        production.execute(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                live,
                sql.Identifier(constraint),
                sql.SQL(definition),  # pyright: ignore[reportArgumentType] -- PostgreSQL's own
            )
        )
    for name in wanted.names:
        if f"{wanted.source}.{name}" in held:
            former = replace(held[f"{wanted.source}.{name}"], schema=aside)
            _sequences_not_behind(production, former, replace(former, schema=wanted.source))
    left = production.execute(
        "SELECT 1 FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)", (extracted,)
    ).fetchone()
    if left is None:
        production.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(extracted)))
    return moved


def _let_go(production: Connection, aside: str) -> None:
    """What is set aside keeps its rows and no hold on live tables, whose rows could not be deleted any more."""
    for table, constraint in production.execute(_LEAVING, {"schema": aside}).fetchall():
        production.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                sql.Identifier(aside, str(table)), sql.Identifier(str(constraint))
            )
        )


def _sequences_not_behind(production: Connection, former: Table, live: Table) -> None:
    """No number that was given out since the moment may be given out again."""
    given: dict[str, int] = {}
    for column, _, last in production.execute(_SEQUENCES, {"table": former.qualified.as_string(production)}).fetchall():
        if last is not None:
            given[str(column)] = int(str(last))
    if live.unit not in tables(production):
        return
    for column, sequence, last in production.execute(
        _SEQUENCES, {"table": live.qualified.as_string(production)}
    ).fetchall():
        if given.get(str(column), 0) > int(str(last or 0)):
            production.execute("SELECT setval(%s, %s)", (str(sequence), given[str(column)]))


def merge(production: Connection, wanted: Wanted, *, extracted: str, progress: Progress) -> tuple[BroughtBack, ...]:
    """Inserts the extracted rows that production lacks; rows that are there stay as they are. ``extracted`` stays too.

    Raises:
        RefusedError: a live table is gone, or has no primary key to tell rows apart by.
        BackupError: production refused a row; nothing was changed.
    """
    held = tables(production)
    pairs: dict[str, tuple[Table, Table]] = {}
    for table in (table for table in held.values() if table.schema == extracted):
        unit = f"{wanted.source}.{table.name}"
        if wanted.names and table.name not in wanted.names:
            continue
        live = held.get(unit)
        if live is None:
            raise RefusedError(f"production has no table {unit} to merge into", mend="--swap puts it in its place")
        if not live.key:
            raise RefusedError(
                f"{unit} has no primary key, so nothing tells which of its rows are there already",
                mend="--swap it, or copy the rows by hand",
            )
        pairs[unit] = (table, common(live, replace(table, schema=live.schema)))
    done: list[BroughtBack] = []
    try:
        with production.transaction():
            for unit in parents_first(production, list(pairs)):
                source, target = pairs[unit]
                with Writing(production, target) as writing:
                    rows = writing.insert_from(source)
                done.append(BroughtBack(unit=unit, rows=rows))
                progress(f"{unit}: {rows} rows merged")
    except psycopg.Error as error:
        raise BackupError(
            f"{wanted} was not merged: {' '.join(str(error).split())}",
            mend=f"nothing was changed; what was extracted is in {extracted}",
        ) from error
    return tuple(done)


def _live(production: Connection, wanted: Wanted) -> Sequence[Table]:
    return [
        table
        for table in tables(production).values()
        if table.schema == wanted.source and (not wanted.names or table.name in wanted.names)
    ]
