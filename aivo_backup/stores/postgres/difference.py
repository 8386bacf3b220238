"""How production's rows differ from those of a moment, table by table.

A table is cut into ranges of its key. Each side reads itself once and answers a count and a sum of row digests for each
range; only where these differ, keys and digests of that range are fetched and compared. So what is equal costs one scan
on each side and no traffic, and memory holds one range.

Both sides run the same major version, so their digests (PostgreSQL's own 64-bit hash of the row's text) are the same
function. Rows without a primary key are told by their digest.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import psycopg
from psycopg import sql

from aivo_backup.errors import BackupError
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference, Differing, Differs, Progress, unlisted
from aivo_backup.stores.postgres.tables import Column, Connection, Key, Table, common, prepare, tables

RANGE_ROWS = 10_000
"""Rows of a range."""

OWN_SCHEMA = "aivo_backup"
"""Heartbeats are written every minute: they always differ, and mean nothing."""


WHOLE_TABLE = "the whole table"
"""Stands for the rows of a table that one side lacks."""

_KINDS = (Differs.LOST, Differs.CHANGED, Differs.NEWER)


@dataclass(frozen=True, kw_only=True)
class RowDifference:
    """Keys of rows that differ, of one part of a range.

    Attributes:
        lost: the moment's copy has them and production does not.
        newer: production has them and the copy does not.
        changed: both have them, with other content.
    """

    lost: tuple[Key, ...] = ()
    newer: tuple[Key, ...] = ()
    changed: tuple[Key, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The two sides, each in one snapshot."""

    copy: Connection
    production: Connection

    def tables(self) -> tuple[dict[str, Table], dict[str, Table]]:
        """The tables of the copy and of production, by unit."""
        return tables(self.copy, but=(OWN_SCHEMA,)), tables(self.production, but=(OWN_SCHEMA,))


@contextmanager
def snapshots(copy: Connection, production: Connection) -> Generator[Pair]:
    """Holds a snapshot on each side while the block runs; nothing is written.

    Raises:
        BackupError: a side fails.
    """
    try:
        for connection in (copy, production):
            prepare(connection)
            connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield Pair(copy=copy, production=production)
    except psycopg.Error as error:
        raise BackupError(f"comparing rows: {' '.join(str(error).split())}", mend="see PostgreSQL's log") from error
    finally:
        for connection in (copy, production):
            if not connection.closed and not connection.broken:
                connection.execute("ROLLBACK")


def compare(
    pair: Pair, units: Sequence[str], *, progress: Progress, each: Differing = unlisted
) -> tuple[Difference, ...]:
    """The difference of each table, those that are equal included.

    Args:
        units: the tables that are compared.
        each: takes the key of every row that differs; of a table that one side lacks, the table alone.
    """
    ours, theirs = pair.tables()
    found: list[Difference] = []
    for unit in units:
        copied, live = ours.get(unit), theirs.get(unit)
        if copied is not None and not copied.logged:
            progress(f"{unit} is unlogged: nothing of it can be brought back")
            continue
        found.append(_difference(pair, unit, copied, live, each))
        progress(_told(found[-1]))
    return tuple(found)


def _difference(pair: Pair, unit: str, copied: Table | None, live: Table | None, each: Differing) -> Difference:
    if live is None and copied is not None:
        each(unit, Differs.LOST, WHOLE_TABLE)
        return Difference(unit=unit, gone=True, lost=_count(pair.copy, copied), examples=(WHOLE_TABLE,))
    if copied is None and live is not None:
        each(unit, Differs.NEWER, WHOLE_TABLE)
        return Difference(unit=unit, newer=_count(pair.production, live), examples=(WHOLE_TABLE,))
    if copied is None or live is None:
        return Difference(unit=unit)
    table = common(copied, live)
    lost, newer, changed = 0, 0, 0
    examples: tuple[list[str], list[str], list[str]] = ([], [], [])
    for part in TableDifference(pair=pair, table=table).parts():
        lost, newer, changed = lost + len(part.lost), newer + len(part.newer), changed + len(part.changed)
        for kept, keys in zip(examples, (part.lost, part.changed, part.newer), strict=True):
            kept.extend(table.key_text(key) for key in keys[: EXAMPLES_BOUND - len(kept)])
        for how, keys in zip(_KINDS, (part.lost, part.changed, part.newer), strict=True):
            for key in keys:
                each(unit, how, table.key_text(key))
    return Difference(
        unit=unit, lost=lost, newer=newer, changed=changed, examples=tuple(chain(*examples))[:EXAMPLES_BOUND]
    )


def _count(connection: Connection, table: Table) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table.qualified)).fetchone()
    return int(str(row[0])) if row else 0


def _told(difference: Difference) -> str:
    if difference.equal:
        return f"{difference.unit}: equal"
    return (
        f"{difference.unit}: {difference.lost} lost, {difference.changed} changed, {difference.newer} newer in "
        "production"
    )


@dataclass(frozen=True, kw_only=True)
class TableDifference:
    """The comparison of one table that is on both sides."""

    pair: Pair
    table: Table
    range_rows: int = RANGE_ROWS
    _digest_key: Column = field(default=Column(name="digest", type="bigint", collated=False), init=False)

    def parts(self) -> Iterator[RowDifference]:
        """What differs, range by range in the order of the keys."""
        bounds = self._bounds()
        ours, theirs = (self._sums(side, bounds) for side in (self.pair.copy, self.pair.production))
        for number in sorted(ours.keys() | theirs.keys()):
            if ours.get(number) != theirs.get(number):
                where = self._within(bounds, number)
                yield from self._compared(where) if self.table.key else self._counted(where)

    @property
    def _ordered(self) -> list[sql.Composable]:
        return [column.ordered for column in self.table.key] or [self.table.digest]

    @property
    def _keys(self) -> tuple[Column, ...]:
        return self.table.key or (self._digest_key,)

    def _bounds(self) -> list[Key]:
        """The first keys of all ranges but the first."""
        names = sql.SQL(", ").join(sql.Identifier(f"k{at}") for at in range(len(self._keys)))
        named = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(expression, sql.Identifier(f"k{at}"))
            for at, expression in enumerate(self._ordered)
        )
        query = sql.SQL(
            "SELECT {texts} FROM (SELECT {names}, row_number() OVER (ORDER BY {names}) AS n "
            "FROM (SELECT {named} FROM {table}) AS keys) AS numbered WHERE n % {size} = 0 ORDER BY n"
        ).format(
            texts=sql.SQL(", ").join(
                sql.SQL("{}::text").format(sql.Identifier(f"k{at}")) for at in range(len(self._keys))
            ),
            names=names,
            named=named,
            table=self.table.qualified,
            size=sql.Literal(self.range_rows),
        )
        found = [tuple(str(value) for value in row) for row in self.pair.copy.execute(query).fetchall()]
        return list(dict.fromkeys(found))

    def _row(self, key: Key) -> sql.Composable:
        return sql.SQL(", ").join(column.value(text) for column, text in zip(self._keys, key, strict=True))

    def _sums(self, side: Connection, bounds: Sequence[Key]) -> dict[int, tuple[int, int]]:
        number: sql.Composable = sql.SQL("0")
        if bounds:
            listed = sql.SQL(", ").join(sql.SQL("ROW({})").format(self._row(key)) for key in bounds)
            number = sql.SQL("width_bucket(ROW({}), ARRAY[{}])").format(sql.SQL(", ").join(self._ordered), listed)
        query = sql.SQL("SELECT {number}, count(*), sum({digest}) FROM {table} GROUP BY 1").format(
            number=number, digest=self.table.digest, table=self.table.qualified
        )
        return {int(str(row[0])): (int(str(row[1])), int(str(row[2]))) for row in side.execute(query).fetchall()}

    def _within(self, bounds: Sequence[Key], number: int) -> sql.Composable:
        ordered = sql.SQL(", ").join(self._ordered)
        conditions: list[sql.Composable] = []
        if number > 0:
            conditions.append(sql.SQL("({}) >= ({})").format(ordered, self._row(bounds[number - 1])))
        if number < len(bounds):
            conditions.append(sql.SQL("({}) < ({})").format(ordered, self._row(bounds[number])))
        return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")

    def _compared(self, where: sql.Composable) -> Iterator[RowDifference]:
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(each.name)) for each in self.table.key)
        query = sql.SQL("SELECT {}, {} FROM {} WHERE {}").format(texts, self.table.digest, self.table.qualified, where)
        held = {_key(row): row[-1] for row in self.pair.copy.execute(query).fetchall()}
        # Production may hold any number of newer rows behind the last bound: they are never all in memory.
        with self.pair.production.cursor(name="compared") as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(RANGE_ROWS):
                newer = tuple(_key(row) for row in rows if _key(row) not in held)
                both = [(_key(row), row[-1]) for row in rows if _key(row) in held]
                changed = tuple(key for key, digest in both if held.pop(key) != digest)
                if newer or changed:
                    yield RowDifference(newer=newer, changed=changed)
        if held:
            yield RowDifference(lost=tuple(held))

    def _counted(self, where: sql.Composable) -> Iterator[RowDifference]:
        query = sql.SQL("SELECT {digest}::text, count(*) FROM {table} WHERE {where} GROUP BY 1").format(
            digest=self.table.digest, table=self.table.qualified, where=where
        )
        held = {str(row[0]): int(str(row[1])) for row in self.pair.copy.execute(query).fetchall()}
        with self.pair.production.cursor(name="counted") as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(RANGE_ROWS):
                newer: list[Key] = []
                for digest, count in ((str(row[0]), int(str(row[1]))) for row in rows):
                    left = held.pop(digest, 0) - count
                    newer += [(digest,)] * max(0, -left)
                    if left > 0:
                        held[digest] = left
                if newer:
                    yield RowDifference(newer=tuple(newer))
        lost = tuple((digest,) for digest, count in held.items() for _ in range(count))
        if lost:
            yield RowDifference(lost=lost)


def _key(row: tuple[object, ...]) -> Key:
    return tuple(str(value) for value in row[:-1])
