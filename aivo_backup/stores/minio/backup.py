"""One backup run: copies what is new, marks what is gone, writes the manifest, and last the summary."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

from aivo_backup import __version__
from aivo_backup.errors import AccessDeniedError, BackupError, RefusedError, UnreachableError
from aivo_backup.policy.codec import parse_time
from aivo_backup.policy.environment import BackupKind, MinioSettings
from aivo_backup.policy.names import DRILL_BUCKETS, MINIO_DATA_PREFIX, MINIO_LONG_PREFIX
from aivo_backup.stores.minio.decisions import (
    Action,
    Decision,
    DeletionGuard,
    audited,
    decide,
    guarded,
    resumed,
    source_listing,
)
from aivo_backup.stores.minio.manifest import (
    BucketCount,
    DamagedManifestError,
    Entry,
    Gone,
    ManifestWriter,
    StoredSummary,
    Summary,
    write_summary,
)
from aivo_backup.stores.minio.objects import AbsentError, ChangedError, ObjectStore
from aivo_backup.stores.minio.ordered import Ready, in_order
from aivo_backup.stores.minio.points import Points, point_name
from aivo_backup.stores.minio.reading import Patience, TruncatedError, read_whole, steady
from aivo_backup.stores.minio.spool import Spool
from aivo_backup.stores.minio.transfer import ByteBudget, Copied, Copier
from aivo_backup.stores.port import Clock, Progress

HEARTBEAT_KEY = "heartbeat.json"
_TRIES_AT_A_CHANGING_OBJECT = 4
_DELETE_BATCH = 1000
CHECKPOINT_OBJECTS = 10_000
_FAILURES_NAMED = 20
_PROGRESS_EVERY = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """What became of a decision; ``entry`` is None when the point will not hold the object."""

    decision: Decision
    entry: Entry | None = None
    copied_bytes: int | None = None
    error: BackupError | None = None


@dataclass(kw_only=True)
class _Tally:
    buckets: dict[str, BucketCount] = field(default_factory=dict[str, BucketCount])
    objects: int = 0
    copied: int = 0
    repaired: int = 0
    removed: int = 0
    bytes_transferred: int = 0
    heartbeat: Entry | None = None
    failures: list[str] = field(default_factory=list[str])
    denied: int = 0

    def add(self, outcome: _Outcome, entry: Entry) -> None:
        held = self.buckets[entry.bucket]
        self.buckets[entry.bucket] = BucketCount(objects=held.objects + 1, size_bytes=held.size_bytes + entry.size)
        self.objects += 1
        if outcome.copied_bytes is not None:
            self.copied += 1
            self.repaired += outcome.decision.action is Action.REPAIR
            self.bytes_transferred += outcome.copied_bytes


@dataclass(frozen=True, kw_only=True)
class BackupRun:
    """One run.

    Attributes:
        source, target: the stores; ``bucket`` is the backup bucket at the target.
        kind: a full run also audits the target against the last point.
        now: start of the run, UTC; names the point.
        accept_deletions: lets the run pass the deletion guard.
        checkpoint_objects: after so many copied objects, what was copied is put down for a run that takes over.
    """

    settings: MinioSettings
    source: ObjectStore
    target: ObjectStore
    bucket: str
    kind: BackupKind
    now: datetime
    clock: Clock
    progress: Progress
    accept_deletions: bool = False
    checkpoint_objects: int = CHECKPOINT_OBJECTS
    patience: Patience = field(default_factory=Patience)

    def run(self) -> StoredSummary:
        """Takes the backup and answers the summary of its point.

        Raises:
            RefusedError: too much is gone at the source, or the clock is behind the newest point. Nothing changed.
            BackupError: it failed; no point exists, and what was copied is of use to no one until the next run.
        """
        points = Points(store=self.target, bucket=self.bucket, patience=self.patience)
        held = points.load_all()
        newest = held[-1].summary if held else None
        if newest is not None and newest.point >= point_name(self.now):
            raise RefusedError(
                f"the newest MinIO point {newest.point} is not older than this run ({point_name(self.now)})",
                mend="check this machine's clock, or wait a second",
            )
        # A manifest that is damaged is found while it is read, and then the one before it must do.
        for base in (*(stored.summary for stored in reversed(held)), None):
            try:
                return self._against(points, base, newest)
            except DamagedManifestError as error:
                if base is None:
                    raise
                self.progress(f"{error}; comparing with the point before it")
        raise BackupError("no point to compare with, and not even none")

    def _against(self, points: Points, last: Summary | None, newest: Summary | None) -> StoredSummary:
        point = point_name(self.now)
        base = ""
        if last is not None and self.kind is BackupKind.INCREMENTAL:
            base = last.base or last.point
        guard = DeletionGuard(
            point=newest.point if newest else "",
            known=newest.objects if newest and not self.accept_deletions else 0,
            share=self.settings.deletion_guard_share,
            by_name=last is newest,
        )
        # What a drill restored beside the originals is a copy of what is in the backup already.
        present = (bucket for bucket in self.source.buckets() if not bucket.startswith(DRILL_BUCKETS))
        buckets = sorted(self.settings.buckets or present)
        compared = f", compared with {last.point}" if last else ""
        self.progress(f"takes a {self.kind.value} backup of {len(buckets)} buckets{compared}")
        # An empty bucket is part of the point too.
        tally = _Tally(buckets={bucket: BucketCount(objects=0, size_bytes=0) for bucket in buckets})
        writer = ManifestWriter(
            store=self.target,
            bucket=self.bucket,
            point=point,
            patience=self.patience,
            checkpoint_objects=self.checkpoint_objects,
        )
        with Spool[str]() as removed:
            decisions = decide(source_listing(self.source, buckets), points.recorded(last) if last else iter(()))
            decisions = resumed(decisions, points.abandoned(newest.point if newest else ""))
            if self.kind is BackupKind.FULL:
                decisions = audited(decisions, self.target, self.bucket)
            budget = ByteBudget(self.settings.bytes_in_flight)
            steps = self._steps(guarded(decisions, guard), budget)
            for outcome in in_order(steps, threads=self.settings.transfers, halt=budget.halt):
                self._take(outcome, writer, tally, removed, guard, increment=bool(base))
            parts = writer.finish()
            self._raise_failures(tally, writer)
            guard.check()
            self._delete(removed)
        if self.kind is BackupKind.FULL:
            self._abort_uploads()
        heartbeat = self._heartbeat(tally.heartbeat)
        return write_summary(
            self.target,
            self.bucket,
            Summary(
                point=point,
                kind=self.kind,
                base=base,
                started=self.now,
                finished=self.clock(),
                buckets=tally.buckets,
                copied=tally.copied,
                repaired=tally.repaired,
                removed=tally.removed,
                bytes_transferred=tally.bytes_transferred,
                heartbeat=heartbeat,
                parts=parts,
                version=__version__,
            ),
            patience=self.patience,
        )

    def _abort_uploads(self) -> None:
        """All of this run's uploads have ended by now, so what is under way was left by one that died."""
        prefixes = (MINIO_DATA_PREFIX, MINIO_LONG_PREFIX)
        abandoned = sum(self.target.abort_uploads(self.bucket, prefix) for prefix in prefixes)
        if abandoned:
            self.progress(f"aborted {abandoned} uploads that an earlier run left behind")

    def _steps(
        self, decisions: Iterable[Decision], budget: ByteBudget
    ) -> Iterator[Ready[_Outcome] | Callable[[], _Outcome]]:
        copier = Copier(
            target=self.target,
            target_bucket=self.bucket,
            budget=budget,
            part_bytes=self.settings.part_bytes,
            patience=self.patience,
        )
        for decision in decisions:
            if decision.action is Action.KEEP:
                yield Ready(result=_Outcome(decision=decision, entry=decision.kept))
            elif decision.listed is None:
                yield Ready(result=_Outcome(decision=decision))
            else:
                yield lambda decision=decision: self._attempt(decision, copier)

    def _attempt(self, decision: Decision, copier: Copier) -> _Outcome:
        try:
            return self._compare_or_copy(decision, copier)
        except (AccessDeniedError, TruncatedError) as error:
            # This one object; the others are still copied, and the run then fails naming all such.
            return _Outcome(decision=decision, error=error)
        except UnreachableError:
            raise
        except BackupError as error:
            return _Outcome(decision=decision, error=error)

    def _compare_or_copy(self, decision: Decision, copier: Copier) -> _Outcome:
        listed, entry = decision.listed, decision.entry
        if listed is None:
            return _Outcome(decision=decision)
        etag = listed.etag
        if decision.action is Action.COMPARE and entry is not None:
            try:
                info = self.patience.retried(lambda: self.source.info(decision.bucket, decision.key))
            except AbsentError:
                return _Outcome(decision=decision)
            if (info.etag, info.size, info.attributes) == (entry.etag, entry.size, entry.attributes):
                return _Outcome(decision=decision, entry=replace(entry, last_modified=listed.last_modified))
            etag = info.etag
        for _ in range(_TRIES_AT_A_CHANGING_OBJECT):
            try:
                with steady(
                    self.source, decision.bucket, decision.key, if_match=etag, patience=self.patience
                ) as reading:
                    if etag == listed.etag and reading.info.size != listed.size:
                        raise TruncatedError(
                            f"{decision.bucket}/{decision.key}: {reading.info.size} bytes answered of the "
                            f"{listed.size} listed",
                            mend="check the source's health",
                        )
                    copied = copier.copy(reading, decision.target_key)
            except ChangedError:
                # Whatever it is by now; a single read of it is of one version.
                etag = ""
                continue
            except AbsentError:
                return _Outcome(decision=decision)
            return _Outcome(decision=decision, entry=_entry(decision, copied), copied_bytes=copied.source.size)
        raise BackupError(
            f"{decision.bucket}/{decision.key} changed {_TRIES_AT_A_CHANGING_OBJECT} times while it was copied",
            mend="run the backup again, or quieten its writer",
        )

    def _take(
        self,
        outcome: _Outcome,
        writer: ManifestWriter,
        tally: _Tally,
        removed: Spool[str],
        guard: DeletionGuard,
        *,
        increment: bool,
    ) -> None:
        decision, entry, recorded = outcome.decision, outcome.entry, outcome.decision.recorded
        if outcome.error is not None:
            tally.failures.append(f"{decision.bucket}/{decision.key} ({outcome.error.what})")
            tally.denied += isinstance(outcome.error, AccessDeniedError)
            if len(tally.failures) >= _FAILURES_NAMED:
                self._raise_failures(tally, writer)
            return
        if entry is not None:
            tally.add(outcome, entry)
            if (entry.bucket, entry.key) == (self.settings.heartbeat_bucket, HEARTBEAT_KEY):
                tally.heartbeat = entry
            if not (increment and recorded and recorded.from_full and recorded.entry is entry):
                writer.add(entry, copied_bytes=outcome.copied_bytes)
            if tally.objects % _PROGRESS_EVERY == 0:
                self.progress(f"{tally.objects} objects, {tally.copied} of them copied")
            return
        if decision.listed is not None:
            guard.count(decision, -1)
        if decision.action is Action.CLEAR or decision.entry is not None:
            removed.add(decision.target_key)
            tally.removed += 1
        if increment and recorded and recorded.in_full:
            writer.add(Gone(bucket=decision.bucket, key=decision.key))

    def _raise_failures(self, tally: _Tally, writer: ManifestWriter) -> None:
        if tally.failures:
            writer.finish()  # so that the next run need not copy the others again
            kind = AccessDeniedError if tally.denied == len(tally.failures) else BackupError
            raise kind(
                f"{len(tally.failures)} objects could not be copied: {', '.join(tally.failures)}",
                mend="mend what is said of each, and run the backup again",
            )

    def _delete(self, removed: Iterable[str]) -> None:
        batch: list[str] = []
        for key in removed:
            batch.append(key)
            if len(batch) == _DELETE_BATCH:
                self._delete_batch(batch)
                batch = []
        if batch:
            self._delete_batch(batch)

    def _delete_batch(self, keys: list[str]) -> None:
        self.patience.retried(lambda: self.target.delete(self.bucket, keys))

    def _heartbeat(self, entry: Entry | None) -> datetime | None:
        if entry is None:
            return None
        return read_heartbeat(self.target, self.bucket, entry, patience=self.patience)


def read_heartbeat(target: ObjectStore, bucket: str, entry: Entry, *, patience: Patience) -> datetime | None:
    """The time in the backed up heartbeat object; None when it holds none."""
    body = read_whole(target, bucket, entry.target_key, version_id=entry.version_id, patience=patience)
    try:
        return parse_time(str(cast("dict[str, object]", json.loads(body))["at"]))
    except (KeyError, TypeError, ValueError):
        return None


def _entry(decision: Decision, copied: Copied) -> Entry:
    listed = decision.listed
    # The listing's time is the finer one (headers carry whole seconds), and it is what the next run compares with.
    same = listed is not None and listed.etag == copied.source.etag
    return Entry(
        bucket=decision.bucket,
        key=decision.key,
        target_key=decision.target_key,
        size=copied.source.size,
        etag=copied.source.etag,
        sha256=copied.sha256,
        version_id=copied.stored.version_id,
        target_etag=copied.stored.etag,
        last_modified=listed.last_modified if listed and same else copied.source.last_modified,
        attributes=copied.source.attributes,
    )
