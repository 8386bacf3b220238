"""What is looked at after an operator's restore, wherever it went."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.postgres import looking
from aivo_backup.stores.postgres.archive import Archive
from aivo_backup.stores.postgres.replay import replayed_check
from aivo_backup.stores.postgres.restore import Prepared, RestoreResult
from aivo_backup.stores.postgres.targets import Target, TargetKind


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the recovered database says of itself."""

    heartbeat: datetime | None
    commit: datetime | None
    position: str
    timeline: int
    checks: tuple[Check, ...]


def look(
    connection: "psycopg.Connection[tuple[object, ...]]",
    prepared: Prepared,
    target: Target,
    *,
    archive: Archive,
    settings: PostgresSettings,
    segment_bytes: int,
    target_beyond_last_commit: bool,
) -> Look:
    """Asks a server that has recovered.

    Args:
        target_beyond_last_commit: nothing was committed between the last archived commit and the target time, so all
            WAL was replayed.
    """
    position, commit = looking.replayed_to(connection)
    checks: list[Check] = []
    if target.kind is TargetKind.LATEST or target_beyond_last_commit:
        checks.append(replayed_check(position, prepared.replay, archive, prepared.backup, segment_bytes=segment_bytes))
    if target.kind is TargetKind.TIME and target.time:
        checks.append(_stopped_in_time(commit, target.time))
    checks += looking.sentinels(connection, settings.sentinel_queries)
    row = connection.execute("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)").fetchone()
    return Look(
        heartbeat=looking.newest_heartbeat(connection),
        commit=commit,
        position=position,
        timeline=int(str(row[0]), 16) if row else 0,
        checks=tuple(checks),
    )


def _stopped_in_time(commit: datetime | None, target: datetime) -> Check:
    if commit is None:
        return Check(name="target", passed=True, detail="nothing was committed after the backup set, up to the target")
    return Check(
        name="target",
        passed=commit <= target,
        detail=f"newest commit {format_time(commit)}, target {format_time(target)}",
    )


def result(
    prepared: Prepared, target: Target, seen: Look, *, now: datetime, data: Path, port: int, set_aside: str
) -> RestoreResult:
    """The typed result; ``now`` is the start of the restore, UTC."""
    if target.kind is TargetKind.TIME and target.time:
        counted_to = target.time
    elif target.kind is TargetKind.LATEST:
        counted_to = now
    else:
        counted_to = seen.commit or prepared.backup.stopped
    return RestoreResult(
        recovery_point=prepared.backup.label,
        target_time=counted_to,
        newest_heartbeat=seen.heartbeat,
        newest_commit=seen.commit,
        replayed_to=seen.position,
        timeline=seen.timeline,
        data=str(data),
        port=port,
        set_aside=set_aside,
        checks=seen.checks,
    )
