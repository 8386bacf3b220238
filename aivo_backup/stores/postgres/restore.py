"""An operator's restore: what is asked for, what it would do, and what it did.

:class:`Restorer` plans (and refuses, before anything changes); :mod:`.in_place` and :mod:`.staging` carry it out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.errors import RefusedError, UnreachableError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.postgres.archive import Archive, hurry
from aivo_backup.stores.postgres.cluster_database import ClusterDatabase
from aivo_backup.stores.postgres.fetching import some
from aivo_backup.stores.postgres.guards import (
    check_delta_space,
    check_in_place,
    check_space,
    check_staging,
    check_versions,
)
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.replay import Replay, plan_replay, segments_between
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.service import DatabaseService
from aivo_backup.stores.postgres.targets import Target, TargetKind, Window, choose_set, usable_sets
from aivo_backup.stores.postgres.wal import DEFAULT_SEGMENT_BYTES, Segment, parse_lsn

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
        delta: start from a copy of the present files and fetch only what differs.
        adapter_named: somebody said how the server is run; without that, one that a cluster manager owns or that has
            standbys is refused.
        started_elsewhere: somebody else starts the server on the restored files (the database's own pod); so it is
            recovered by a server of our own, and looked at, before it takes the old one's place.
        storage_replaced: its storage was lost and is new: a cluster that was initialised there since (a database's
            image does so on an empty volume) is set aside, and not refused as a stranger.
    """

    data: Path
    service: DatabaseService
    stop: bool
    connect: Connect
    delta: bool = False
    adapter_named: bool = False
    started_elsewhere: bool = False
    storage_replaced: bool = False


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """Replaces the data directory on a StatefulSet's volume, by a Job in its namespace; the old one is set aside there.

    Attributes:
        data: the data directory as the Job and the database's pod see it.
        connect: a connection to the server, once it is up again.
        storage_replaced: as in :class:`InPlace`.
        from_replica: the Job reads the second region's copy of the repository, as the plan did.
    """

    data: Path
    database: ClusterDatabase
    connect: Connect
    storage_replaced: bool = False
    from_replica: bool = False


@dataclass(frozen=True, kw_only=True)
class Staging:
    """A server of its own beside production: own directory, own port on the loopback, archiving nothing.

    Attributes:
        data: a folder that does not exist yet, or is empty.
    """

    data: Path
    port: int


Destination = InPlace | InCluster | Staging


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """What is asked for."""

    target: Target
    destination: Destination


_DRIVERS = {"plan": "", "fetch": "bytes", "stop": "", "replay": "wal_segments", "checks": "", "start": ""}


def drivers(destination: Destination) -> dict[str, str]:
    """The phases of a restore, and for each the unit of what drives its time; empty where nothing does."""
    if isinstance(destination, InCluster):
        return {"plan": "", "stop": "", "volume": "bytes", "start": "", "checks": ""}
    other = "start" if isinstance(destination, InPlace) else "stop"
    return {phase: unit for phase, unit in _DRIVERS.items() if phase != other}


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore would do. Times are UTC.

    Attributes:
        recovery_point: label of the backup set that it starts from.
        wal_segments: how many segments may be replayed after the set.
        stops_server: a running server is stopped first.
        set_aside: where the present data directory goes; empty when there is none.
        newer_wal_segments: how many archived segments may hold what was written after the target, and so what one in
            place loses; None when a transaction or a name does not tell.
        copied_first: how the copy that a delta restore starts from is made; empty when there is none.
        expected_seconds: from the configured restore rate, or from ``measured_restores`` restores that were measured.
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
    newer_wal_segments: int | None = None
    copied_first: str = ""
    expected_seconds: float
    measured_restores: int = 0

    @property
    def amounts(self) -> dict[str, float]:
        """How much there is to do, by the units of :func:`drivers`."""
        return {"bytes": self.size_bytes, "wal_segments": self.wal_segments}


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
        if not isinstance(request.destination, Staging) and self.runners.access.behind_sidecar:
            _hurry_archive(request.destination)
        window = self._window(reader, info, request.target)
        backup = choose_set(request.target, window)
        replay = plan_replay(self.archive, reader, info, backup, timeline=window.line.timeline)
        self._refuse_gap(request.target, backup, replay)
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        set_aside, stops, copied = "", False, ""
        match request.destination:
            case InPlace() as place:
                stops = check_in_place(place, backup, reader, self.settings, archived=replay.newest.stored)
                set_aside = str(set_aside_path(place.data, stamp)) if place.data.exists() else ""
                if place.delta:
                    copied = check_delta_space(place.data, backup.size_bytes)
            case InCluster() as place:
                # Version, disk and the cluster's identity are looked at where the volume is: by the Job.
                stops = place.database.check()
                set_aside = str(set_aside_path(place.data, stamp))
            case Staging() as place:
                check_staging(place, staging_companions(place.data))
        if not isinstance(request.destination, InCluster):
            check_versions(self.settings, backup, self.runners.version)
            if not copied:
                check_space(request.destination.data.parent, backup.size_bytes)
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
            newer_wal_segments=self._newer(request.target, backup, replay),
            copied_first=copied,
            expected_seconds=round(backup.size_bytes / self.settings.restore_bytes_per_second, 1),
        )
        return Prepared(plan=plan, backup=backup, replay=replay, stamp=stamp)

    def _window(self, reader: PgBackRest, info: StanzaInfo, target: Target) -> Window:
        line = self.archive.line(reader, info, target.timeline)
        newest = self.archive.newest(info, line)
        if newest is None:
            raise RefusedError("the repository holds no WAL", mend="check archiving: `aivo-backup status`")
        return Window(line=line, sets=usable_sets(info.sets, line, info.archive_id), newest=newest)

    def _newer(self, target: Target, backup: BackupSet, replay: Replay) -> int | None:
        # The segment that holds the target counts: what was written right after it lies there.
        newest = Segment.parse(replay.newest.name).number
        match target.kind:
            case TargetKind.LATEST:
                return 0
            case TargetKind.TIME if target.time and replay.newest.stored + timedelta(seconds=1) <= target.time:
                return 0
            case TargetKind.TIME:
                return newest - Segment.parse(self._last_needed(target, backup, replay)).number + 1
            case TargetKind.SET:
                return newest - Segment.parse(backup.wal_stop).number + 1
            case TargetKind.LSN:
                return max(0, newest - parse_lsn(target.value) // DEFAULT_SEGMENT_BYTES + 1)
            case TargetKind.XID | TargetKind.NAME:
                return None

    def _segments(self, target: Target, backup: BackupSet, replay: Replay) -> int:
        last = backup.wal_stop if target.kind is TargetKind.SET else self._last_needed(target, backup, replay)
        return segments_between(backup, last)

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


def _hurry_archive(place: InPlace | InCluster) -> None:
    """At its best: a server that is down or broken has archived what it will ever archive."""
    if isinstance(place, InPlace) and not place.service.running():
        return
    try:
        with place.connect() as connection:
            hurry(connection, timeout_seconds=_HURRY_SECONDS)
    except (UnreachableError, psycopg.Error):
        return  # broken, which may be why it is restored


def set_aside_path(data: Path, stamp: str) -> Path:
    """Where a data directory goes when it is set aside: beside itself, so that a rename does it."""
    return data.with_name(f"{data.name}.before-{stamp}")


def staging_companions(data: Path) -> tuple[Path, Path]:
    """The folders beside a staging data directory: of its server (configuration, log, socket), of its tablespaces."""
    return data.with_name(f"{data.name}.server"), data.with_name(f"{data.name}.tablespaces")
