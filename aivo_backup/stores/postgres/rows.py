"""Moves single rows: brings lost ones back into production, exports newer ones, imports an export.

Everything that one call writes is one transaction. Parents come before children; triggers of the user's own stay quiet,
because they would act a second time on what has already happened; foreign keys are checked as ever.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import LiteralString

import psycopg
from psycopg import sql

from aivo_backup.errors import BackupError
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.difference import Pair, TableDifference
from aivo_backup.stores.postgres.tables import Connection, Key, Table, common

_BATCH = 5_000

_PARENTS = """
SELECT DISTINCT child.nspname || '.' || c.relname, parent.nspname || '.' || p.relname
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace child ON child.oid = c.relnamespace
  JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace parent ON parent.oid = p.relnamespace
 WHERE k.contype = 'f' AND k.conrelid <> k.confrelid
"""
_TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgenabled IN ('O', 'A')
"""
_SEQUENCES = """
SELECT a.attname, pg_get_serial_sequence(%s, a.attname)
  FROM pg_attribute a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND pg_get_serial_sequence(%s, a.attname) IS NOT NULL
"""


@dataclass(frozen=True, kw_only=True)
class BroughtBack:
    """What came back into one table.

    Attributes:
        rows: lost rows that are there again; ``overwritten`` changed ones that are as they were.
        conflicting: lost rows that could not come back beside a newer row with the same unique value.
    """

    unit: str
    rows: int
    overwritten: int = 0
    conflicting: int = 0


def bring_back(
    pair: Pair,
    production: Connection,
    units: Sequence[str],
    *,
    overwrite_changed: bool = False,
    progress: Progress,
) -> tuple[BroughtBack, ...]:
    """Copies the rows that production lost back from the copy. Newer rows stay; changed ones too unless told otherwise.

    Args:
        pair: the two sides, for the comparison.
        production: another connection, which writes.
        units: tables that are on both sides.

    Raises:
        BackupError: production refused a row (a foreign key, a check); nothing was written.
    """
    ours, theirs = pair.tables()
    shared = {unit: common(ours[unit], theirs[unit]) for unit in units}
    done: list[BroughtBack] = []
    try:
        with production.transaction():
            for unit in parents_first(production, list(shared)):
                table = shared[unit]
                done.append(_bring_back_table(pair, production, table, overwrite_changed=overwrite_changed))
                progress(f"{unit}: {done[-1].rows} rows brought back")
    except psycopg.Error as error:
        raise BackupError(
            f"production refused the rows: {' '.join(str(error).split())}",
            mend="nothing was written; bring back the tables that these rows depend on too",
        ) from error
    return tuple(done)


def _bring_back_table(pair: Pair, production: Connection, table: Table, *, overwrite_changed: bool) -> BroughtBack:
    counted = BroughtBack(unit=table.unit, rows=0)
    with Writing(production, table) as writing:
        for part in TableDifference(pair=pair, table=table).parts():
            for keys in batches(part.lost):
                inserted = writing.insert(rows_of(pair.copy, table, keys))
                counted = replace(
                    counted,
                    rows=counted.rows + inserted,
                    conflicting=counted.conflicting + max(0, len(keys) - inserted)
                    if table.key
                    else counted.conflicting,
                )
            for keys in batches(part.changed if overwrite_changed else ()):
                overwritten = writing.overwrite(rows_of(pair.copy, table, keys))
                counted = replace(counted, overwritten=counted.overwritten + overwritten)
    return counted


def rows_of(
    side: Connection, table: Table, keys: Sequence[Key], *, options: LiteralString = ""
) -> Iterator[memoryview]:
    """The rows with these keys, as COPY writes them.

    Args:
        options: of COPY, for example ``(FORMAT csv)``.
    """
    query = sql.SQL("COPY ({}) TO STDOUT {}").format(
        _keyed(table, keys) if table.key else _told_by_content(table, keys), sql.SQL(options)
    )
    with side.cursor() as cursor, cursor.copy(query) as copied:
        for data in copied:
            yield memoryview(data)


def _keyed(table: Table, keys: Sequence[Key]) -> sql.Composable:
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(table.listed, table.qualified, table.among(keys))


def _told_by_content(table: Table, keys: Sequence[Key]) -> sql.Composable:
    """As many rows of a content as there are keys of it: which of them does not matter."""
    wanted = sql.SQL(", ").join(
        sql.SQL("({}::bigint, {})").format(sql.Literal(key[0]), sql.Literal(count))
        for key, count in Counter(keys).items()
    )
    return sql.SQL(
        'SELECT {listed} FROM (SELECT {listed}, {digest} AS "_digest", row_number() OVER (PARTITION BY {digest}) AS '
        '"_number" FROM {table}) AS numbered JOIN (VALUES {wanted}) AS wanted ("_wanted", "_count") '
        'ON "_digest" = "_wanted" WHERE "_number" <= "_count"'
    ).format(listed=table.listed, digest=table.digest, table=table.qualified, wanted=wanted)


class Writing:
    """Writes into one table: through a temporary one, so that a row that is there already stops nothing."""

    def __init__(self, connection: Connection, table: Table) -> None:
        self._connection = connection
        self._table = table
        self._quiet: list[str] = []

    def __enter__(self) -> "Writing":
        table = self._table
        named = table.qualified.as_string(self._connection)
        self._connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table.qualified))
        self._quiet = [str(row[0]) for row in self._connection.execute(_TRIGGERS, (named,)).fetchall()]
        self._switch_triggers("DISABLE")
        self._connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                table.listed, table.qualified
            )
        )
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if kind is not None:
            return  # the transaction is lost, and takes all of it back
        self._connection.execute("DROP TABLE incoming")
        self._switch_triggers("ENABLE")
        self._move_sequences_on()

    def insert(self, data: Iterable[memoryview], *, options: LiteralString = "") -> int:
        """Inserts rows; one whose key or other unique value is there already is left out. Answers how many came in."""
        self._take_in(data, options)
        table = self._table
        done = self._connection.execute(
            sql.SQL(
                "INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM incoming ON CONFLICT DO NOTHING"
            ).format(table.qualified, table.listed)
        )
        return done.rowcount

    def insert_from(self, source: Table) -> int:
        """Inserts another table's rows as :meth:`insert` does. Answers how many came in."""
        done = self._connection.execute(
            sql.SQL("INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM {2} ON CONFLICT DO NOTHING").format(
                self._table.qualified, self._table.listed, source.qualified
            )
        )
        return done.rowcount

    def overwrite(self, data: Iterable[memoryview], *, options: LiteralString = "") -> int:
        """Gives rows that are there another content. Answers how many."""
        self._take_in(data, options)
        table = self._table
        others = [column for column in table.columns if column not in table.key]
        if not others:
            return 0
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in others)
        values = sql.SQL(", ").join(sql.SQL("incoming.{}").format(sql.Identifier(column.name)) for column in others)
        same = sql.SQL(" AND ").join(
            sql.SQL("live.{0} = incoming.{0}").format(sql.Identifier(column.name)) for column in table.key
        )
        done = self._connection.execute(
            sql.SQL("UPDATE {} AS live SET ({}) = ROW({}) FROM incoming WHERE {}").format(
                table.qualified, names, values, same
            )
        )
        return done.rowcount

    def _take_in(self, data: Iterable[memoryview], options: LiteralString) -> None:
        self._connection.execute("TRUNCATE incoming")
        query = sql.SQL("COPY incoming ({}) FROM STDIN {}").format(self._table.listed, sql.SQL(options))
        with self._connection.cursor() as cursor, cursor.copy(query) as copied:
            for part in data:
                copied.write(part)

    def _switch_triggers(self, how: LiteralString) -> None:
        for trigger in self._quiet:
            self._connection.execute(
                sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(
                    self._table.qualified,
                    sql.SQL(how),
                    sql.Identifier(trigger),
                )
            )

    def _move_sequences_on(self) -> None:
        """No number that came back may be given out once more."""
        named = self._table.qualified.as_string(self._connection)
        for column, sequence in self._connection.execute(_SEQUENCES, (named, named, named)).fetchall():
            self._connection.execute(
                sql.SQL(
                    "SELECT setval({sequence}, m.highest) FROM (SELECT max({column}) AS highest FROM {table}) AS m "
                    "WHERE m.highest > coalesce(pg_sequence_last_value({sequence}::regclass), 0)"
                ).format(
                    sequence=sql.Literal(str(sequence)),
                    column=sql.Identifier(str(column)),
                    table=self._table.qualified,
                )
            )


def parents_first(connection: Connection, units: Sequence[str]) -> list[str]:
    """The units in an order in which rows can be inserted: what a foreign key names comes first. Tables that name each
    other in a circle keep their order, and PostgreSQL judges."""
    parents: dict[str, set[str]] = {unit: set() for unit in units}
    for child, parent in connection.execute(_PARENTS).fetchall():
        if str(child) in parents and str(parent) in parents:
            parents[str(child)].add(str(parent))
    ordered: list[str] = []
    while parents:
        free = [unit for unit, needs in parents.items() if not needs & parents.keys()]
        for unit in free or [next(iter(parents))]:
            ordered.append(unit)
            del parents[unit]
    return ordered


def batches(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """Keys in portions that fit into a query."""
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]
