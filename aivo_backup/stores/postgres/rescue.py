"""What a restore would lose of production's newer writes: counted before, exported if wanted, imported again after.

A bundle is a folder: one CSV file per table with a header, and ``rescue.json`` that says what they are. It can be read
without this program.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.stores.bundle import file_name, require_fresh, require_unchanged, unfinished
from aivo_backup.stores.port import Progress, RescueBundle
from aivo_backup.stores.postgres.difference import Pair, TableDifference
from aivo_backup.stores.postgres.rows import BroughtBack, Writing, batches, parents_first, rows_of
from aivo_backup.stores.postgres.tables import Connection, Table, common, tables

MANIFEST = "rescue.json"

_FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RescuedTable:
    """One file of a bundle. ``columns`` are the file's, in its order; ``rows`` those written after the target."""

    unit: str
    file: str
    columns: tuple[str, ...]
    rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Rescued:
    """The content of ``rescue.json``. ``after`` says what the rows are newer than; times are UTC."""

    format: int
    after: str
    exported: datetime
    tables: tuple[RescuedTable, ...]


def export_newer(
    pair: Pair, units: Sequence[str], folder: Path, *, after: str, now: datetime, progress: Progress
) -> RescueBundle:
    """Writes every row that production holds and the copy lacks, or holds with other content, into ``folder``.

    Args:
        units: the tables that are looked at.
        folder: made; must not exist or be empty.

    Raises:
        RefusedError: the folder is taken.
        ConfigurationError: it cannot be written.
        BackupError: production cannot be read.
    """
    require_fresh(folder)
    ours, theirs = pair.tables()
    written: list[RescuedTable] = []
    with unfinished(folder, MANIFEST) as manifest:
        for number, unit in enumerate(unit for unit in units if unit in theirs):
            live = theirs[unit]
            entry = _export_table(pair, live, ours.get(unit), folder, number)
            if entry.rows:
                written.append(entry)
                progress(f"{unit}: {entry.rows} rows exported to {entry.file}")
        rescued = Rescued(format=_FORMAT, after=after, exported=now, tables=tuple(written))
        manifest.write_text(json.dumps(to_json(rescued), indent=1), encoding="utf-8")
    return RescueBundle(
        folder=folder,
        units=tuple(entry.unit for entry in written),
        items=sum(entry.rows for entry in written),
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def _export_table(pair: Pair, live: Table, copied: Table | None, folder: Path, number: int) -> RescuedTable:
    # Compared by what both know; where a key tells the rows apart, every column that production has is exported.
    compared = common(live, copied) if copied else live
    exported = replace(live, key=compared.key) if compared.key else compared
    file = folder / file_name(number, live.unit, "csv")
    rows, digest = 0, hashlib.sha256()
    with file.open("wb") as output:

        def write(data: bytes | memoryview) -> None:
            output.write(data)
            digest.update(data)

        write((",".join('"' + column.name.replace('"', '""') + '"' for column in exported.columns) + "\n").encode())
        if copied is None:
            rows = _export_whole(pair.production, exported, write)
        else:
            for part in TableDifference(pair=pair, table=compared).parts():
                for keys in batches((*part.newer, *part.changed)):
                    for data in rows_of(pair.production, exported, keys, options="(FORMAT csv)"):
                        write(data)
                    rows += len(keys)
    if rows == 0:
        file.unlink()
    columns = tuple(column.name for column in exported.columns)
    return RescuedTable(unit=live.unit, file=file.name, columns=columns, rows=rows, sha256=digest.hexdigest())


def _export_whole(production: Connection, table: Table, write: Callable[[memoryview], None]) -> int:
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(table.listed, table.qualified)
    with production.cursor() as cursor:
        with cursor.copy(query) as copied:
            for data in copied:
                write(memoryview(data))
        return max(0, cursor.rowcount)


def import_bundle(
    folder: Path, production: Connection, *, overwrite: bool = False, progress: Progress
) -> tuple[BroughtBack, ...]:
    """Puts a bundle's rows into production, in one transaction.

    Args:
        overwrite: rows that are there get the bundle's content; otherwise they stay as they are.

    Raises:
        ConfigurationError: the folder holds no bundle.
        VerificationError: a file is not as it was exported; nothing was written.
        RefusedError: production lacks a table or a column of it.
        BackupError: production refused a row; nothing was written.
    """
    manifest = _read(folder)
    held = tables(production)
    by_unit = {entry.unit: entry for entry in manifest.tables}
    missing = [unit for unit in by_unit if unit not in held]
    if missing:
        raise RefusedError(f"production has no table {missing[0]}", mend="create it, or take it out of the bundle")
    done: list[BroughtBack] = []
    try:
        with production.transaction():
            for unit in parents_first(production, list(by_unit)):
                done.append(_import_table(folder, by_unit[unit], held[unit], production, overwrite=overwrite))
                progress(f"{unit}: {done[-1].rows} rows imported, {done[-1].conflicting} are there already")
    except psycopg.Error as error:
        raise BackupError(
            f"production refused the rows: {' '.join(str(error).split())}", mend="nothing was written"
        ) from error
    return tuple(done)


def _import_table(
    folder: Path, entry: RescuedTable, live: Table, production: Connection, *, overwrite: bool
) -> BroughtBack:
    by_name = {column.name: column for column in live.columns}
    unknown = [name for name in entry.columns if name not in by_name]
    if unknown:
        raise RefusedError(f"{entry.unit} has no column {unknown[0]}", mend="add it, or take it out of the bundle")
    table = replace(live, columns=tuple(by_name[name] for name in entry.columns))
    file = folder / entry.file
    with Writing(production, table) as writing:
        overwritten = writing.overwrite(_chunks(file), options="(FORMAT csv, HEADER)") if overwrite and live.key else 0
        rows = writing.insert(_chunks(file), options="(FORMAT csv, HEADER)")
    kept = max(0, entry.rows - rows - overwritten)
    return BroughtBack(unit=entry.unit, rows=rows, overwritten=overwritten, conflicting=kept)


def _read(folder: Path) -> Rescued:
    file = folder / MANIFEST
    try:
        manifest = from_json(Rescued, json.loads(file.read_text(encoding="utf-8")), where=str(file))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder} holds no rescued rows: {error}", mend="name the bundle's folder") from error
    for entry in manifest.tables:
        require_unchanged(folder / entry.file, entry.sha256)
    return manifest


def _chunks(file: Path) -> Iterator[memoryview]:
    with file.open("rb") as source:
        while data := source.read(_CHUNK):
            yield memoryview(data)
