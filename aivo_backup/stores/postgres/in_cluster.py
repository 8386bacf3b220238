"""Restores onto the volume of a StatefulSet: scaled to nothing, restored by a Job, scaled back, looked at.

The Job fetches beside the data directory, recovers there by a server of its own, looks at what came back, and only then
exchanges the directories. So when it fails the volume is as it was, and the database starts again on it.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from aivo_backup.errors import BackupError, UnreachableError
from aivo_backup.policy.codec import format_time, from_json, to_json
from aivo_backup.policy.restore_job import SUBCOMMAND
from aivo_backup.stores.port import Progress, Stopwatch
from aivo_backup.stores.postgres.archiving import check_archiving
from aivo_backup.stores.postgres.restore import InCluster, Prepared, RestoreResult
from aivo_backup.stores.postgres.targets import Target, TargetKind


def job_name(begun: datetime) -> str:
    """The Job of the restore that began then."""
    return f"aivo-backup-restore-{begun.astimezone(UTC):%Y%m%dt%H%M%Sz}"


def job_arguments(target: Target, *, from_replica: bool, storage_replaced: bool) -> tuple[str, ...]:
    """What the Job calls `aivo-backup` with."""
    given: tuple[str, ...] = ("--from-replica",) if from_replica else ()
    given += ("--set", target.label) if target.label else ()
    match target.kind:
        case TargetKind.TIME if target.time:
            given += ("--target-time", format_time(target.time))
        case TargetKind.LSN | TargetKind.XID | TargetKind.NAME:
            given += (f"--target-{target.kind.value}", target.value)
        case _:
            pass
    return (*SUBCOMMAND, *given, *(("--storage-replaced",) if storage_replaced else ()))


def told(result: RestoreResult) -> str:
    """How the Job tells its result: one line."""
    return json.dumps(to_json(result))


@dataclass(frozen=True, kw_only=True)
class RestoreInCluster:
    """Carries out one prepared restore."""

    place: InCluster
    target: Target
    prepared: Prepared
    stopwatch: Stopwatch
    progress: Progress

    def run(self, *, now: datetime) -> RestoreResult:
        """Restores. Called again with the same ``now`` it goes on with the Job of the first call.

        Raises:
            VerificationError, RefusedError, BackupError: it failed; the database runs again on what it had. A note says
                so when it could not be started.
        """
        database, progress = self.place.database, self.progress
        try:
            with self.stopwatch.phase("stop"):
                database.stop(progress)
            with self.stopwatch.phase("volume"):
                place = self.place
                arguments = job_arguments(
                    self.target, from_replica=place.from_replica, storage_replaced=place.storage_replaced
                )
                line = database.restore(job_name(now), arguments, progress)
            result = _result(line)
        except BaseException as error:
            self._start_after(error)
            raise
        with self.stopwatch.phase("start"):
            database.start(progress)
        with self.stopwatch.phase("checks"):
            try:
                archiving = check_archiving(self.place.connect, result.timeline, progress)
            except (psycopg.Error, UnreachableError) as error:
                raise BackupError(
                    f"the database is restored and ready, but cannot be looked at: {error}",
                    mend="it stays as restored; the login may be that of the time restored to",
                ) from error
        # The Job counted up to its own start; what was lost is counted up to the start of the restore.
        counted = now if self.target.kind is TargetKind.LATEST else result.target_time
        return replace(result, target_time=counted, checks=(*result.checks, archiving))

    def _start_after(self, error: BaseException) -> None:
        """Starts the database on what the failed Job left, which is what was there before."""
        database = self.place.database
        try:
            if working := database.working():
                error.add_note(f"Job {working[0]} still works on the volume, so the database stays stopped")
                return
            database.start(self.progress)
            error.add_note("the database runs again at its former scale")
        except BackupError as second:
            error.add_note(f"the database could not be started again: {second}")


def _result(line: str) -> RestoreResult:
    try:
        content: Any = json.loads(line)
    except ValueError as error:
        raise BackupError(f"the Job ended well and told no result: {line[:200]}", mend="see its log") from error
    return from_json(RestoreResult, content, where="the Job's result")
