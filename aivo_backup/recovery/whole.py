"""A table or an index that is gone as a whole: brought back under its own name, with its definition."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.recovery.executor import Work
from aivo_backup.recovery.parts import Parts
from aivo_backup.stores.opensearch.plan import RestoreRequest
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.extraction import Wanted, free_or_extracted
from aivo_backup.stores.postgres.table_restore import TableRequest, TableRestore
from aivo_backup.stores.postgres.tables import Connection, tables
from aivo_backup.stores.postgres.targets import Target

# Foreign keys from and to a table. The copy has them; a table that was dropped took them along.
_FOREIGN_KEYS = """
SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0 AND %(table)s::regclass IN (k.conrelid, k.confrelid)
"""
_HAS = """
SELECT 1 FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE (n.nspname, c.relname, k.conname) = (%s, %s, %s)
"""


class _ForeignKey(NamedTuple):
    """Of a table, by name; what it says in SQL."""

    schema: str
    table: str
    name: str
    definition: str


def bring_back_tables(work: Work, parts: Parts, beside: Parts, units: Sequence[str], target: Target) -> None:
    """Extracts tables of the moment into a schema beside, and gives each its place; safe to begin again.

    Raises:
        VerificationError, BackupError: the extraction failed; production is as it was.
    """
    restore = TableRestore(store=parts.postgres, login=parts.login())
    for number, (schema, group) in enumerate(_by_schema(units).items()):
        into = f"restored_{number}_{target.time:%Y%m%d_%H%M%S}"
        request = TableRequest(target=target, wanted=Wanted(tables=group), into=into)
        with connect(parts.login()) as live:
            back = set(group) <= set(tables(live))
            extracted = back or free_or_extracted(live, into, request.wanted)
        if not extracted:
            restore.run(request, now=parts.clock(), stopwatch=Stopwatch(), progress=work.progress)
        with connect(parts.login()) as live, connect(beside.database()) as copy:
            keys = [key for name in request.wanted.names for key in _foreign_keys(copy, sql.Identifier(schema, name))]
            if not back:
                _give_place(live, request.wanted.names, into, schema)
            work.progress(f"{', '.join(group)} of {target} {'had come' if back else 'came'} back whole")
            # Also of those that an earlier attempt brought back: it may have been killed before it came to this.
            _tie(work, live, keys)


def _give_place(live: Connection, names: Sequence[str], into: str, schema: str) -> None:
    with live.transaction():
        for name in names:
            moved = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
            live.execute(moved.format(sql.Identifier(into, name), sql.Identifier(schema)))
        live.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(into)))


def _by_schema(units: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for unit in sorted(units):
        schema = unit.partition(".")[0]
        found[schema] = (*found.get(schema, ()), unit)
    return found


def _foreign_keys(copy: Connection, table: sql.Identifier) -> list[_ForeignKey]:
    copy.execute("SET search_path = ''")  # so that definitions name every table in full
    rows = copy.execute(_FOREIGN_KEYS, {"table": table.as_string(copy)}).fetchall()
    return [_ForeignKey(*(str(value) for value in row)) for row in rows]


def _tie(work: Work, live: Connection, keys: Sequence[_ForeignKey]) -> None:
    """Puts the foreign keys back that hold for what is there now, and tells the others."""
    for key in keys:
        if live.execute(_HAS, (key.schema, key.table, key.name)).fetchone():
            continue
        try:
            with live.transaction():
                live.execute(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                        sql.Identifier(key.schema, key.table),
                        sql.Identifier(key.name),
                        # As PostgreSQL itself writes it.
                        sql.SQL(cast("LiteralString", key.definition)),
                    )
                )
        except psycopg.Error as error:
            why = " ".join(str(error).split())
            work.progress(f"{key.schema}.{key.table}: the foreign key {key.name} cannot be put back: {why}")


def bring_back_index(work: Work, parts: Parts, point: RecoveryPoint, index: str) -> None:
    """Restores an index of the snapshot under its own name, with its settings and aliases.

    Nothing is removed for an attempt after this one: users may have written into it by then, so that one adds what is
    missing, as to any other index.

    Raises:
        VerificationError, BackupError: it failed.
    """
    parts.opensearch.register()
    request = RestoreRequest(snapshot=point.id, indices=(index,))
    parts.opensearch.restore(request, now=parts.clock(), stopwatch=Stopwatch(), progress=work.progress)
    work.progress(f"{index} is back, whole")
