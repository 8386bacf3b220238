"""Whole stores restored as steps of a recovery: safe to begin again after a kill, filed like every other restore."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from aivo_backup.catalog.records import Check, Fact, RecoveryPoint, Restore
from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.codec import format_time, parse_time
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.executor import Work
from aivo_backup.recovery.parts import Parts
from aivo_backup.stores.minio.restore import RestoreRequest as ObjectsRequest
from aivo_backup.stores.minio.restore import Selection
from aivo_backup.stores.opensearch.facts import expected_counts
from aivo_backup.stores.opensearch.plan import RestoreMode
from aivo_backup.stores.opensearch.plan import RestoreRequest as IndicesRequest
from aivo_backup.stores.opensearch.recovery import existing
from aivo_backup.stores.opensearch.states import count_problem
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.in_cluster import job_name
from aivo_backup.stores.postgres.restore import (
    InCluster,
    InPlace,
    RestoreRequest,
    Staging,
    set_aside_path,
    staging_companions,
)
from aivo_backup.stores.postgres.scratch import remove_for_good
from aivo_backup.stores.postgres.server import read_control_file
from aivo_backup.stores.postgres.service import PgCtlService
from aivo_backup.stores.postgres.targets import Target

_BEGUN = "postgres begun"
_ABSENT = "opensearch absent"
_STAMP = "%Y%m%dT%H%M%SZ"


def check_postgres(work: Work, parts: Parts, target: Target) -> None:
    """Has the engine's guards look at the target, and notes how much there is to do.

    Raises:
        RefusedError: the target is outside the window, WAL is missing, the disk is too small, and so on.
    """
    plan = parts.postgres.plan_restore(
        RestoreRequest(target=target, destination=parts.destination()), now=parts.clock()
    )
    work.note(**plan.amounts)
    work.progress(
        f"{plan.target} from {plan.recovery_point}, up to {plan.wal_segments} WAL segments, into {plan.destination}"
    )
    if plan.newer_wal_segments:
        work.progress(f"up to {plan.newer_wal_segments} WAL segments were written after it, and are lost by this")


def restore_postgres(work: Work, parts: Parts, target: Target, *, planned: Mapping[str, Fact]) -> None:
    """Restores the database over its place, or into isolation.

    Args:
        planned: what :func:`check_postgres` noted.

    Raises:
        RefusedError: a guard stopped it.
        VerificationError, BackupError: it failed, and the former state is back.
    """
    place = parts.destination()
    if isinstance(place, InPlace) and _BEGUN in work.notes and _recovered_before(work, parts, place):
        return
    if isinstance(place, Staging):
        remove_staging(parts, place)
        place.data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = parts.clock()
    if isinstance(place, InCluster) and _BEGUN in work.notes:
        begun = parse_time(str(work.notes[_BEGUN]))
        if place.database.left(job_name(begun)):
            work.progress("the Job of an earlier attempt is gone on with")
            now = begun
    # On the disk before anything is renamed: a later attempt finds by it what this one set aside.
    work.note(**{_BEGUN: format_time(now)})

    def restore(stopwatch: Stopwatch) -> Restored:
        request = RestoreRequest(target=target, destination=place)
        result = parts.postgres.restore(request, now=now, stopwatch=stopwatch, progress=work.progress)
        if result.set_aside:
            work.note(**{"set aside": result.set_aside})
        return Restored(
            recovery_point=result.recovery_point,
            target_time=result.target_time,
            newest_heartbeat=result.newest_heartbeat,
            checks=result.checks,
            amounts={name: float(value) for name, value in planned.items() if name in ("bytes", "wal_segments")},
        )

    record = run_restore(
        Component.POSTGRES,
        restore,
        recovery_point=str(target),
        catalog=parts.catalog,
        clock=parts.clock,
        purpose=parts.purpose,
    )
    _told(work, record)


def _recovered_before(work: Work, parts: Parts, place: InPlace) -> bool:
    """Settles what an attempt left that was killed: True when its database had recovered and runs. Otherwise the
    former data directory is back in its place."""
    stamp = parse_time(str(work.notes[_BEGUN])).strftime(_STAMP)
    aside, fresh = set_aside_path(place.data, stamp), place.data.with_name(f"{place.data.name}.restoring-{stamp}")
    if fresh.exists():
        work.progress(f"removing what an earlier attempt fetched: {fresh}")
        remove_for_good(fresh)
    if not aside.exists():
        return False  # it had not come to the exchange of the directories
    if place.service.running() and _in_production(parts, place.data):
        work.progress("an earlier attempt had restored the database already; it runs")
        work.note(**{"set aside": str(aside)})
        return True
    place.service.stop()
    if place.data.exists():
        work.progress(f"removing the half restored {place.data}; the former directory is put back first")
        remove_for_good(place.data)
    aside.rename(place.data)
    return False


def _in_production(parts: Parts, data: Path) -> bool:
    if (data / "recovery.signal").exists():
        return False
    try:
        control = read_control_file(Path(parts.environment.postgres.bin_path), data)
    except ConfigurationError:
        return False
    return control.state == "in production"


def remove_staging(parts: Parts, place: Staging) -> None:
    """Stops a staging server and removes its folders; safe to repeat."""
    server, tablespaces = staging_companions(place.data)
    if (place.data / "PG_VERSION").exists():
        PgCtlService(
            bin_path=Path(parts.environment.postgres.bin_path), data=place.data, log=server / "postgresql.log"
        ).stop()
    for folder in (place.data, server, tablespaces):
        remove_for_good(folder)


def restore_minio(work: Work, parts: Parts, point: RecoveryPoint, *, lost_at: datetime) -> None:
    """Restores every bucket of a point; what is there already equal is skipped, so that it resumes by itself.

    Args:
        lost_at: the moment that the loss is counted up to, UTC.

    Raises:
        VerificationError: objects are not what was backed up.
    """
    summary = parts.minio.points.load(point.id).summary

    def restore(stopwatch: Stopwatch) -> Restored:
        written = 0
        for bucket in sorted(summary.buckets):
            request = ObjectsRequest(
                point=point.id,
                selection=Selection(bucket=bucket),
                target_bucket=parts.bucket(bucket),
            )
            with stopwatch.phase(f"bucket {bucket}"):
                done = parts.minio.restore(request, progress=work.progress)
            written += sum(count for change, count in done.changes.items() if change.writes)
        # The engine compares each written object with its checksum in the manifest, and raises where one differs.
        detail = f"{written} objects in {len(summary.buckets)} buckets as in the manifest"
        return Restored(
            recovery_point=point.id,
            target_time=lost_at,
            newest_heartbeat=summary.heartbeat,
            checks=(Check(name="checksums", passed=True, detail=detail),),
        )

    record = run_restore(
        Component.MINIO,
        restore,
        recovery_point=point.id,
        catalog=parts.catalog,
        clock=parts.clock,
        purpose=parts.purpose,
    )
    _told(work, record)


def restore_opensearch(work: Work, parts: Parts, point: RecoveryPoint, *, lost_at: datetime) -> None:
    """Restores every index of a snapshot into a cluster that has lost them, or under names of a drill.

    Raises:
        VerificationError: the snapshot is damaged.
        BackupError: the cluster failed.
    """
    parts.opensearch.register()
    recorded = expected_counts(point.facts)
    if parts.isolation:
        for index in recorded:  # an earlier attempt's: the names are this recovery's own
            if parts.cluster.exists(parts.index(index)):
                parts.cluster.delete(parts.index(index), what=f"removing the half restored {parts.index(index)}")
    elif _ABSENT in work.notes:
        for index in json.loads(str(work.notes[_ABSENT])):
            if parts.cluster.exists(index):  # likewise: it was not there before
                parts.cluster.delete(index, what=f"removing the half restored index {index}")
    else:
        absent = [index for index in recorded if not parts.cluster.exists(index)]
        work.note(**{_ABSENT: json.dumps(absent)})

    def restore(stopwatch: Stopwatch) -> Restored:
        request = IndicesRequest(snapshot=point.id)
        if parts.isolation:
            request = IndicesRequest(
                snapshot=point.id,
                mode=RestoreMode.RENAMED,
                rename_pattern="(.+)",
                rename_replacement=parts.index("$1"),
            )
        result = parts.opensearch.restore(request, now=parts.clock(), stopwatch=stopwatch, progress=work.progress)
        checks: list[Check] = []
        for index in result.indices:
            expected = recorded.get(index.source)
            problem = count_problem(expected, index.counted) if expected else ""
            checks.append(
                Check(
                    name=f"documents in {index.source}",
                    passed=not problem,
                    detail=problem or f"{index.counted.documents} documents",
                )
            )
        heartbeat = str(point.facts.get("heartbeat", ""))
        return Restored(
            recovery_point=point.id,
            target_time=lost_at,
            newest_heartbeat=parse_time(heartbeat) if heartbeat else None,
            checks=tuple(checks),
        )

    record = run_restore(
        Component.OPENSEARCH,
        restore,
        recovery_point=point.id,
        catalog=parts.catalog,
        clock=parts.clock,
        purpose=parts.purpose,
    )
    _told(work, record)


def remove_drilled(parts: Parts, *components: Component) -> None:
    """Removes what was restored beside production: the staging database, and of these components all buckets and
    indices of the isolation's prefix, whatever point they came from; safe to repeat.

    Raises:
        BackupError: the first that could not be removed; the others were removed all the same.
    """
    place = parts.isolation
    if place is None:
        return
    database = parts.destination()
    removals: list[Callable[[], None]] = []
    if isinstance(database, Staging):
        removals.append(lambda: remove_staging(parts, database))
    if Component.MINIO in components:
        removals.append(lambda: _remove_buckets(parts, place.bucket_prefix))
    if Component.OPENSEARCH in components:
        removals.append(lambda: _remove_indices(parts, place.prefix))
    removals.append(lambda: remove_for_good(place.folder))
    failures: list[BackupError] = []
    for remove in removals:
        try:
            remove()
        except BackupError as error:
            failures.append(error)
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"and: {other}")
        raise failures[0]


def _remove_buckets(parts: Parts, prefix: str) -> None:
    for bucket in parts.objects.buckets():
        if bucket.startswith(prefix):
            parts.remove_bucket(bucket)


def _remove_indices(parts: Parts, prefix: str) -> None:
    for index in existing(parts.cluster, f"{prefix}*"):
        parts.cluster.delete(index, what=f"removing {index}, restored beside production")


def _told(work: Work, record: Restore) -> None:
    if record.loss_seconds is not None:
        work.note(**{f"{record.component.value} loss": record.loss_seconds})
        work.progress(f"{record.component}: {record.loss_seconds:.1f} s lost")
    work.note(**{f"{record.component.value} seconds": record.seconds})
    work.check(record.checks)
