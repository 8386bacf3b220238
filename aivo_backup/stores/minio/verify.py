"""The restore test of a point: every object is at its version, and a rotating share of them is read and hashed.

What is read is hashed and let go: the bytes must come back from the very version that the point names, but need no
disk, so that a point of any size is tested where the test runs. Which share is read follows from the day and the key
alone: with a share of 0.1 every object is read once in any ten days on which the test runs.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from aivo_backup.catalog.records import Check, Fact, RecoveryPoint
from aivo_backup.errors import AccessDeniedError, BackupError, UnreachableError
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import MinioSettings
from aivo_backup.policy.names import MINIO_DATA_PREFIX
from aivo_backup.stores.minio.backup import HEARTBEAT_KEY, read_heartbeat
from aivo_backup.stores.minio.manifest import BucketCount, Entry, StoredSummary, Summary
from aivo_backup.stores.minio.names import Wrong
from aivo_backup.stores.minio.objects import AbsentError, ObjectStore
from aivo_backup.stores.minio.ordered import Ready, VersionCursor, in_order
from aivo_backup.stores.minio.points import Points
from aivo_backup.stores.minio.reading import Patience, TruncatedError, digest_of
from aivo_backup.stores.port import Progress, Stopwatch, TestedRestore

_CHUNK_BYTES = 1024 * 1024
_PROGRESS_EVERY = 1000


def facts_of(summary: Summary) -> dict[str, Fact]:
    """What a restore test must find again; the form in which a point's facts go to the catalog."""
    facts: dict[str, Fact] = {"objects": summary.objects, "bytes": summary.size_bytes}
    for bucket, count in sorted(summary.buckets.items()):
        facts[f"objects.{bucket}"] = count.objects
        facts[f"bytes.{bucket}"] = count.size_bytes
    if summary.heartbeat is not None:
        facts["heartbeat"] = format_time(summary.heartbeat)
    return facts


def is_due(entry: Entry, *, share: float, now: datetime) -> bool:
    """Whether the test on the day of ``now`` reads this object."""
    days = max(1, math.ceil(1 / share)) if share > 0 else 1
    return zlib.crc32(f"{entry.bucket}/{entry.key}".encode()) % days == now.toordinal() % days


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    entry: Entry
    present: bool
    size: int = 0
    fault: str = ""
    was_read: bool = False


@dataclass(kw_only=True)
class _Findings:
    objects: int = 0
    read: int = 0
    read_bytes: int = 0
    missing: Wrong = field(default_factory=Wrong)
    damaged: Wrong = field(default_factory=Wrong)


@dataclass(frozen=True, kw_only=True)
class RestoreTest:
    """Tests points from the backup bucket alone: the source may be gone."""

    settings: MinioSettings
    target: ObjectStore
    bucket: str
    progress: Progress
    patience: Patience = field(default_factory=Patience)

    def run(self, point: RecoveryPoint, *, now: datetime, stopwatch: Stopwatch) -> TestedRestore:
        """Tests one point.

        Raises:
            UsageError: the store has no such point.
            DamagedManifestError: the manifest is missing or damaged; the message names the object.
        """
        points = Points(store=self.target, bucket=self.bucket, patience=self.patience)
        with stopwatch.phase("manifest"):
            stored = points.load(point.id)
            counted, heartbeat_entry = self._count(stored.summary, points.entries(stored.summary))
        checks = [*_manifest_checks(point, stored, counted)]
        with stopwatch.phase("objects"):
            findings = self._read(points.entries(stored.summary), now)
        checks += _object_checks(findings, stored.summary.objects)
        heartbeat = None
        with stopwatch.phase("heartbeat"):
            if heartbeat_entry is not None:
                # What is wrong with the object itself was found just before, by name.
                with suppress(AbsentError, TruncatedError):
                    heartbeat = read_heartbeat(self.target, self.bucket, heartbeat_entry, patience=self.patience)
        checks.append(_heartbeat_check(heartbeat, stored.summary.heartbeat))
        return TestedRestore(checks=tuple(checks), newest_heartbeat=heartbeat)

    def _count(self, summary: Summary, entries: Iterator[Entry]) -> tuple[Mapping[str, BucketCount], Entry | None]:
        counted = dict.fromkeys(summary.buckets, BucketCount(objects=0, size_bytes=0))
        heartbeat = None
        for entry in entries:
            held = counted.get(entry.bucket, BucketCount(objects=0, size_bytes=0))
            counted[entry.bucket] = BucketCount(objects=held.objects + 1, size_bytes=held.size_bytes + entry.size)
            if self._is_heartbeat(entry):
                heartbeat = entry
        return counted, heartbeat

    def _read(self, entries: Iterator[Entry], now: datetime) -> _Findings:
        findings = _Findings()
        for read in in_order(self._steps(entries, now), threads=self.settings.transfers):
            findings.objects += 1
            if not read.present:
                findings.missing.add(str(read.entry))
            if read.was_read:
                findings.read += 1
                findings.read_bytes += read.size
            if read.fault:
                findings.damaged.add(f"{read.entry} ({read.fault})")
            if findings.objects % _PROGRESS_EVERY == 0:
                self.progress(f"{findings.objects} objects found, {findings.read} of them read back")
        return findings

    def _steps(self, entries: Iterator[Entry], now: datetime) -> Iterator[Ready[_Read] | Callable[[], _Read]]:
        for bucket, group in groupby(entries, key=lambda entry: entry.bucket):
            cursor = VersionCursor(self.target, self.bucket, f"{MINIO_DATA_PREFIX}{bucket}/")
            for entry in group:
                due = is_due(entry, share=self.settings.verify_share, now=now) or self._is_heartbeat(entry)
                if not entry.target_key.startswith(MINIO_DATA_PREFIX):
                    yield lambda entry=entry, due=due: self._look_alone(entry, due=due)
                    continue
                versions = cursor.at(entry.target_key)
                found = versions.find(entry.version_id) if versions else None
                if found is None or (found.size, found.etag) != (entry.size, entry.target_etag):
                    yield Ready(result=_Read(entry=entry, present=False))
                elif due:
                    yield lambda entry=entry: self._hash(entry)
                else:
                    yield Ready(result=_Read(entry=entry, present=True))

    def _look_alone(self, entry: Entry, *, due: bool) -> _Read:
        try:
            info = self.patience.retried(
                lambda: self.target.info(self.bucket, entry.target_key, version_id=entry.version_id)
            )
        except AbsentError:
            return _Read(entry=entry, present=False)
        if (info.size, info.etag) != (entry.size, entry.target_etag):
            return _Read(entry=entry, present=False)
        return self._hash(entry) if due else _Read(entry=entry, present=True)

    def _hash(self, entry: Entry) -> _Read:
        try:
            size, sha256 = digest_of(
                self.target,
                self.bucket,
                entry.target_key,
                version_id=entry.version_id,
                chunk_bytes=_CHUNK_BYTES,
                patience=self.patience,
            )
        except (AccessDeniedError, TruncatedError) as error:
            return _Read(entry=entry, present=True, fault=error.what)
        except UnreachableError:
            raise
        except BackupError as error:
            return _Read(entry=entry, present=True, fault=error.what)
        fault = ""
        if size != entry.size:
            fault = f"{size} bytes, not {entry.size}"
        elif sha256 != entry.sha256:
            fault = "its content is not what was backed up"
        return _Read(entry=entry, present=True, size=size, fault=fault, was_read=True)

    def _is_heartbeat(self, entry: Entry) -> bool:
        return (entry.bucket, entry.key) == (self.settings.heartbeat_bucket, HEARTBEAT_KEY)


def _manifest_checks(
    point: RecoveryPoint, stored: StoredSummary, counted: Mapping[str, BucketCount]
) -> Iterator[Check]:
    summary = stored.summary
    known = point.inventory
    same = known is None or (known.key, known.checksum) == (stored.key, stored.sha256)
    yield Check(
        name="manifest",
        passed=same,
        detail=f"{len(summary.parts)} parts of {summary.point} are what was written"
        if same
        else f"{stored.key} is not the one that the catalog names",
    )
    wrong = [
        f"{name}: {point.facts[name]} recorded, {value} in the manifest"
        for name, value in facts_of(summary).items()
        if point.facts.get(name, value) != value
    ]
    wrong += [
        f"{bucket}: {counted.get(bucket)} in the manifest, {summary.buckets.get(bucket)} in its summary"
        for bucket in sorted({*counted, *summary.buckets})
        if counted.get(bucket) != summary.buckets.get(bucket)
    ]
    yield Check(
        name="counts",
        passed=not wrong,
        detail="; ".join(wrong) or f"{summary.objects} objects, {summary.size_bytes} bytes, as recorded",
    )


def _object_checks(findings: _Findings, expected: int) -> Iterator[Check]:
    yield Check(
        name="versions",
        passed=not findings.missing and findings.objects == expected,
        detail=f"missing or altered at their version: {findings.missing}"
        if findings.missing
        else f"{findings.objects} of {expected} objects are at the version that the point names",
    )
    yield Check(
        name="content",
        passed=not findings.damaged and (findings.read > 0 or expected == 0),
        detail=f"damaged: {findings.damaged}"
        if findings.damaged
        else f"{findings.read} objects, {findings.read_bytes} bytes read back with the right SHA-256",
    )


def _heartbeat_check(found: datetime | None, recorded: datetime | None) -> Check:
    if found is None:
        return Check(name="heartbeat", passed=False, detail="no heartbeat in the restored objects")
    passed = found == recorded
    detail = f"the heartbeat of {found.isoformat()} came back"
    return Check(name="heartbeat", passed=passed, detail=detail if passed else f"{detail}, not that of {recorded}")
