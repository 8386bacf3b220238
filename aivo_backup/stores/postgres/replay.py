"""The way that WAL is replayed: which timelines and segments, and how far it went."""

from dataclasses import dataclass

from aivo_backup.catalog.records import Check
from aivo_backup.errors import VerificationError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.postgres.archive import Archive, ArchivedSegment
from aivo_backup.stores.postgres.fetching import some
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.wal import Line, Segment, parse_lsn


@dataclass(frozen=True, kw_only=True)
class Replay:
    """From one backup set, along ``line``, to segment ``newest``; ``missing`` names what the repository lacks."""

    line: Line
    newest: ArchivedSegment
    missing: tuple[str, ...]


def plan_replay(
    archive: Archive, pgbackrest: PgBackRest, info: StanzaInfo, backup: BackupSet, *, timeline: int | None = None
) -> Replay:
    """Plans the replay of all WAL there is.

    Args:
        timeline: where to end; None for the newest that the set is part of.

    Raises:
        VerificationError: the repository holds no WAL for the set.
    """
    line = archive.line(pgbackrest, info, timeline)
    if timeline is None and not line.holds(backup.timeline, backup.stop_position):
        # Taken on a timeline that a later recovery abandoned: it can only be replayed along its own.
        line = archive.line(pgbackrest, info, backup.timeline)
    newest = archive.newest(info, line)
    if newest is None:
        raise VerificationError(f"the repository holds no WAL for backup set {backup.label}")
    return Replay(line=line, newest=newest, missing=tuple(archive.missing(backup, line, newest.name)))


def patience_seconds(settings: PostgresSettings, backup: BackupSet) -> float:
    """How long a recovery from a set may take before it is given up."""
    return 600.0 + 10 * backup.size_bytes / settings.restore_bytes_per_second


def segments_between(backup: BackupSet, last: str) -> int:
    """How many segments a recovery from a set reads that ends in segment ``last``."""
    return Segment.parse(last).number - Segment.parse(backup.wal_start).number + 1


def amounts(backup: BackupSet, last: str) -> dict[str, float]:
    """What the time of a restore depends on, by unit."""
    return {"bytes": backup.size_bytes, "wal_segments": segments_between(backup, last)}


def replayed_check(position: str, replay: Replay, archive: Archive, backup: BackupSet, *, segment_bytes: int) -> Check:
    """Whether replay went through everything that the repository holds.

    PostgreSQL takes a segment that it cannot read for the end of WAL, and starts: only this comparison notices.

    Args:
        position: where replay ended; empty when nothing was replayed.
    """
    name = "wal_replayed"
    if replay.missing:
        return Check(name=name, passed=False, detail=f"missing in the repository: {some(replay.missing)}")
    wanted = Segment.parse(replay.newest.name, segment_bytes)
    reached = parse_lsn(position) if position else 0
    # A position at the very start of a segment is the end of the one before.
    if max(reached - 1, 0) // segment_bytes >= wanted.number:
        return Check(name=name, passed=True, detail=f"up to {position}, segment {replay.newest.name}")
    number = reached // segment_bytes
    stopped = Segment(replay.line.timeline_of(number, segment_bytes), number).name(segment_bytes)
    keys = [entry.key for entry in archive.segments(backup.archive_id, since=stopped) if entry.name == stopped]
    return Check(
        name=name,
        passed=False,
        detail=f"stopped at {position} although the repository holds WAL up to {replay.newest.name}: "
        f"{keys[0] if keys else stopped} cannot be read",
    )
