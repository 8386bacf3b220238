"""An operator's restore: what is asked for, what it would do, and what it did.

:class:`Restorer` plans (and refuses, before anything changes); :mod:`.in_place` and :mod:`.staging` carry it out.
"""

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.errors import ConfigurationError, RefusedError, UnreachableError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.postgres.archive import Archive, hurry
from aivo_backup.stores.postgres.fetching import some
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.replay import Replay, plan_replay
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.server import read_control_file
from aivo_backup.stores.postgres.service import DatabaseService
from aivo_backup.stores.postgres.targets import Target, TargetKind, Window, choose_set, usable_sets
from aivo_backup.stores.postgres.wal import Segment
from aivo_backup.stores.process import run

# Room for replayed WAL and for what recovery itself writes.
_SPACE_FACTOR = 1.1
_SPACE_BYTES = 128 * 1024 * 1024

_HURRY_SECONDS = 30.0

Connect = Callable[[], "psycopg.Connection[tuple[object, ...]]"]


@dataclass(frozen=True, kw_only=True)
class InPlace:
    """Replaces the live database's data directory; the old one is set aside under another name.

    Attributes:
        data: the data directory as this process sees it.
        service: stops and starts the server.
        stop: a running server may be stopped; otherwise it is a reason to refuse.
        connect: a connection to the server, once it has recovered.
    """

    data: Path
    service: DatabaseService
    stop: bool
    connect: Connect


@dataclass(frozen=True, kw_only=True)
class Staging:
    """A server of its own beside production: own directory, own port on the loopback, archiving nothing.

    Attributes:
        data: a folder that does not exist yet, or is empty.
    """

    data: Path
    port: int


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """What is asked for."""

    target: Target
    destination: InPlace | Staging


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore would do. Times are UTC.

    Attributes:
        recovery_point: label of the backup set that it starts from.
        wal_segments: how many segments may be replayed after the set.
        stops_server: a running server is stopped first.
        set_aside: where the present data directory goes; empty when there is none.
        expected_seconds: from the configured restore rate.
    """

    target: str
    recovery_point: str
    point_ended: datetime
    window_start: datetime
    window_end: datetime
    timeline: int
    size_bytes: int
    wal_segments: int
    destination: str
    stops_server: bool
    set_aside: str
    expected_seconds: float


@dataclass(frozen=True, kw_only=True)
class RestoreResult:
    """What a restore brought back.

    Attributes:
        target_time: the moment that the loss is counted up to: what was asked for, or for the newest state the start
            of the restore; for a position, transaction, name or set the newest commit that came back.
        newest_commit: the newest replayed commit; None when no commit was replayed.
        replayed_to: the position where replay ended.
        timeline: the timeline that the restored database writes on.
        set_aside: where the former data directory is; empty when there was none.
    """

    recovery_point: str
    target_time: datetime
    newest_heartbeat: datetime | None
    newest_commit: datetime | None
    replayed_to: str
    timeline: int
    data: str
    port: int
    set_aside: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan with all that carrying it out needs."""

    plan: RestorePlan
    backup: BackupSet
    replay: Replay
    stamp: str


@dataclass(frozen=True, kw_only=True)
class Restorer:
    """Plans restores."""

    settings: PostgresSettings
    runners: Runners
    inventories: Inventories
    archive: Archive

    def prepare(self, request: RestoreRequest, *, info: StanzaInfo, now: datetime) -> Prepared:
        """Checks the request against the repository and the machine. Changes nothing but the live server's archive,
        which it brings up to the present moment before a restore in place.

        Raises:
            RefusedError: the target lies outside the window, the set is unknown, WAL is missing on the way, the
                server runs, the data directory is another cluster's, the disk is too small, or the destination is
                taken.
            ConfigurationError: this machine's PostgreSQL is not the backup's version.
        """
        reader = self.runners.repository()
        # What production writes now goes home; the copy in the second region has it only after a while.
        if isinstance(request.destination, InPlace) and self.runners.access.behind_sidecar:
            _hurry_archive(request.destination)
        window = self._window(reader, info, request.target)
        backup = choose_set(request.target, window)
        replay = plan_replay(self.archive, reader, info, backup, timeline=window.line.timeline)
        self._refuse_gap(request.target, backup, replay)
        self._check_version(backup)
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        set_aside, stops = "", False
        match request.destination:
            case InPlace() as place:
                stops = self._check_in_place(place, backup, reader)
                set_aside = str(set_aside_path(place.data, stamp)) if place.data.exists() else ""
            case Staging() as place:
                _check_staging(place)
        _check_space(request.destination.data.parent, backup.size_bytes)
        segments = self._segments(request.target, backup, replay)
        plan = RestorePlan(
            target=str(request.target),
            recovery_point=backup.label,
            point_ended=backup.stopped,
            window_start=window.earliest,
            window_end=window.latest,
            timeline=window.line.timeline,
            size_bytes=backup.size_bytes,
            wal_segments=segments,
            destination=str(request.destination.data),
            stops_server=stops,
            set_aside=set_aside,
            expected_seconds=round(backup.size_bytes / self.settings.restore_bytes_per_second, 1),
        )
        return Prepared(plan=plan, backup=backup, replay=replay, stamp=stamp)

    def _window(self, reader: PgBackRest, info: StanzaInfo, target: Target) -> Window:
        line = self.archive.line(reader, info, target.timeline)
        newest = self.archive.newest(info, line)
        if newest is None:
            raise RefusedError("the repository holds no WAL", mend="check archiving: `aivo-backup status`")
        return Window(line=line, sets=usable_sets(info.sets, line, info.archive_id), newest=newest)

    def _segments(self, target: Target, backup: BackupSet, replay: Replay) -> int:
        last = backup.wal_stop if target.kind is TargetKind.SET else self._last_needed(target, backup, replay)
        return Segment.parse(last).number - Segment.parse(backup.wal_start).number + 1

    def _last_needed(self, target: Target, backup: BackupSet, replay: Replay) -> str:
        if target.kind is TargetKind.TIME and target.time:
            for segment in self.archive.segments(backup.archive_id, since=backup.wal_stop):
                parsed = Segment.parse(segment.name)
                # What a segment holds was committed before S3 took it, so the first one stored after the target ends
                # what is needed.
                if segment.stored >= target.time and replay.line.timeline_of(parsed.number) == parsed.timeline:
                    return segment.name
        return replay.newest.name

    def _refuse_gap(self, target: Target, backup: BackupSet, replay: Replay) -> None:
        if not replay.missing:
            return
        last = backup.wal_stop if target.kind is TargetKind.SET else self._last_needed(target, backup, replay)
        needed = [name for name in replay.missing if Segment.parse(name).number <= Segment.parse(last).number]
        if needed:
            raise RefusedError(
                f"WAL is missing between backup set {backup.label} and {target}: {some(needed)}",
                mend=f"choose a target before {needed[0]}, or a newer set with --set",
            )

    def _check_version(self, backup: BackupSet) -> None:
        wanted = backup.archive_id.partition("-")[0]
        said = run([str(Path(self.settings.bin_path) / "postgres"), "--version"]).stdout.strip()
        if f" {wanted}." not in f"{said}.":
            raise ConfigurationError(
                f"backup set {backup.label} is of PostgreSQL {wanted}, and {self.settings.bin_path} has {said}",
                mend=f"install PostgreSQL {wanted} or set bin_path",
            )

    def _check_in_place(self, place: InPlace, backup: BackupSet, reader: PgBackRest) -> bool:
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
        if (place.data / "PG_VERSION").is_file():
            present = self._present_system_id(place.data)
            if present and present != backup.system_id:
                raise RefusedError(
                    f"{place.data} holds another cluster (system identifier {present}, the backup's is "
                    f"{backup.system_id})",
                    mend="check the path and the stanza",
                )
        elif place.data.exists() and any(place.data.iterdir()):
            raise RefusedError(f"{place.data} is not empty and no data directory", mend="check the path")
        running = place.service.running()
        if running and not place.stop:
            raise RefusedError(f"PostgreSQL runs on {place.data}", mend="stop it first, or say that it may be stopped")
        return running

    def _present_system_id(self, data: Path) -> str:
        try:
            return read_control_file(Path(self.settings.bin_path), data).system_id
        except ConfigurationError:
            # Its control file is destroyed, which may be why it is restored. It is kept beside, whatever it is.
            return ""


def _hurry_archive(place: InPlace) -> None:
    """At its best: a server that is down or broken has archived what it will ever archive."""
    if not place.service.running():
        return
    try:
        with place.connect() as connection:
            hurry(connection, timeout_seconds=_HURRY_SECONDS)
    except UnreachableError:
        return


def set_aside_path(data: Path, stamp: str) -> Path:
    """Where a data directory goes when it is set aside: beside itself, so that a rename does it."""
    return data.with_name(f"{data.name}.before-{stamp}")


def staging_companions(data: Path) -> tuple[Path, Path]:
    """The folders beside a staging data directory: of its server (configuration, log, socket), of its tablespaces."""
    return data.with_name(f"{data.name}.server"), data.with_name(f"{data.name}.tablespaces")


def _check_staging(place: Staging) -> None:
    for folder in (place.data, *staging_companions(place.data)):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RefusedError(f"{folder} is not empty", mend="name a new folder")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", place.port))
        except OSError as error:
            raise RefusedError(f"port {place.port} is taken", mend="choose another with --port") from error


def _check_space(folder: Path, size_bytes: int) -> None:
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
