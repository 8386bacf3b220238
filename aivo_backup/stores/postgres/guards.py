"""What is looked at before a restore, so that nothing is changed where it would go wrong."""

import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from aivo_backup.errors import ConfigurationError, RefusedError, UnreachableError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.pgbackrest import Version
from aivo_backup.stores.postgres.copying import shares_blocks, size_of
from aivo_backup.stores.postgres.info import BackupSet
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.server import read_control_file
from aivo_backup.stores.process import run

if TYPE_CHECKING:
    from aivo_backup.stores.postgres.restore import InPlace, Staging

# Room for replayed WAL and for what recovery itself writes.
_SPACE_FACTOR = 1.1
_SPACE_BYTES = 128 * 1024 * 1024

_STANDBYS = """
SELECT coalesce(string_agg(coalesce(nullif(application_name, ''), client_addr::text, pid::text), ', '), '')
  FROM pg_stat_replication
"""
# Files that a cluster manager leaves in the data directory of a database that it owns.
_OWNERS = {"patroni.dynamic.json": "Patroni", "custom.conf": "CloudNativePG"}


def check_versions(settings: PostgresSettings, backup: BackupSet, pgbackrest: Version) -> None:
    """Whether this machine's programs can read a set.

    Raises:
        ConfigurationError: PostgreSQL is another major version, or pgBackRest is older than what took the set.
    """
    wanted = backup.archive_id.partition("-")[0]
    said = run([str(Path(settings.bin_path) / "postgres"), "--version"]).stdout.strip()
    if f" {wanted}." not in f"{said}.":
        raise ConfigurationError(
            f"backup set {backup.label} is of PostgreSQL {wanted}, and {settings.bin_path} has {said}",
            mend=f"install PostgreSQL {wanted} or set bin_path",
        )
    if backup.tool and pgbackrest < Version.parse(backup.tool):
        raise ConfigurationError(
            f"backup set {backup.label} was taken by pgBackRest {backup.tool}, and this machine has {pgbackrest}",
            mend=f"install pgBackRest {backup.tool} or newer",
        )


def check_in_place(
    place: "InPlace", backup: BackupSet, reader: PgBackRest, settings: PostgresSettings, *, archived: datetime
) -> bool:
    """Whether a live data directory can be replaced.

    Args:
        archived: when the newest WAL of the backed up cluster was archived, UTC.

    Returns:
        whether the server runs, and so is stopped first.

    Raises:
        RefusedError: it cannot; the message says why and what would do.
    """
    if place.data.is_symlink() or os.path.ismount(place.data):
        raise RefusedError(
            f"{place.data} is a mount point or a link and cannot be set aside by renaming it",
            mend="put the data directory into a folder of the volume, or restore to staging",
        )
    if reader.has_tablespaces(backup.label):
        raise RefusedError(
            f"backup set {backup.label} has tablespaces, which lie outside the data directory",
            mend="restore to staging, where they get folders of their own",
        )
    _check_identity(place, backup, settings, archived)
    running = place.service.running()
    _check_owner(place, running=running)
    if running and not place.stop:
        raise RefusedError(f"PostgreSQL runs on {place.data}", mend="stop it first, or give --stop")
    return running


def _check_identity(place: "InPlace", backup: BackupSet, settings: PostgresSettings, archived: datetime) -> None:
    if (place.data / "PG_VERSION").is_file():
        present = _present_system_id(place.data, settings)
        came_with_storage = place.storage_replaced and present and _initialised(present) > archived
        if present and present != backup.system_id and not came_with_storage:
            raise RefusedError(
                f"{place.data} holds another cluster (system identifier {present}, the backup's is {backup.system_id})",
                mend="check the path and the stanza",
            )
        if place.delta and not present:
            raise RefusedError(
                f"{place.data} is too damaged to start a delta from", mend="restore it whole, without --delta"
            )
    elif place.data.exists() and any(place.data.iterdir()):
        raise RefusedError(f"{place.data} is not empty and no data directory", mend="check the path")
    elif place.delta:
        raise RefusedError(f"{place.data} holds nothing to start a delta from", mend="restore it without --delta")


def _initialised(system_id: str) -> datetime:
    """When a cluster was initialised, UTC, to the second: the upper half of its system identifier (PostgreSQL's
    ``BootStrapXLOG`` in ``xlog.c``)."""
    return datetime.fromtimestamp(int(system_id) >> 32, UTC)


def _present_system_id(data: Path, settings: PostgresSettings) -> str:
    try:
        return read_control_file(Path(settings.bin_path), data).system_id
    except ConfigurationError:
        # Its control file is destroyed, which may be why it is restored. It is kept beside, whatever it is.
        return ""


def _check_owner(place: "InPlace", *, running: bool) -> None:
    """A database that something else looks after would be started again, or restored over, behind our back."""
    if place.adapter_named:
        return
    owner = next((name for file, name in _OWNERS.items() if (place.data / file).exists()), "")
    if not owner and (place.data / "standby.signal").exists():
        owner = "a primary that it follows as a standby"
    if owner:
        raise RefusedError(
            f"{place.data} belongs to {owner}", mend="pause that, and name the adapter that stops it with --service"
        )
    standbys = _standbys(place) if running else ""
    if standbys:
        raise RefusedError(
            f"PostgreSQL on {place.data} is replicated to {standbys}",
            mend="stop and rebuild its standbys, and name the adapter that stops it with --service",
        )


def _standbys(place: "InPlace") -> str:
    try:
        with place.connect() as connection:
            row = connection.execute(_STANDBYS).fetchone()
    except (UnreachableError, psycopg.Error):
        return ""  # broken, which may be why it is restored
    return str(row[0]) if row else ""


def check_staging(place: "Staging", companions: tuple[Path, ...]) -> None:
    """Whether a staging server can be made.

    Raises:
        RefusedError: a folder or the port is taken.
    """
    for folder in (place.data, *companions):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RefusedError(f"{folder} is not empty", mend="name a new folder")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", place.port))
        except OSError as error:
            raise RefusedError(f"port {place.port} is taken", mend="choose another with --port") from error


def check_space(folder: Path, size_bytes: int) -> None:
    """Whether a database of ``size_bytes`` fits into the file system of ``folder``.

    Raises:
        RefusedError: it does not.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    needed = int(size_bytes * _SPACE_FACTOR) + _SPACE_BYTES
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RefusedError(
            f"{existing} has {free:,} bytes free and the restore needs {needed:,}",
            mend="make room or restore elsewhere; the present data is kept, so both must fit",
        )


def check_delta_space(data: Path, size_bytes: int) -> str:
    """Whether the copy that a delta restore starts from fits; answers how it will be made.

    Raises:
        RefusedError: it does not fit.
    """
    if shares_blocks(data.parent):
        # What the backup changes is written anew; should even that not fit, the restore ends before production is
        # touched.
        check_space(data.parent, 0)
        return "reflink"
    check_space(data.parent, max(size_bytes, size_of(data)))
    return "full copy"
