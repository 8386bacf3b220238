"""The catalog: JSON objects in the locked compliance bucket, one per record, written once.

Keys are ``records/<type>/dt=<YYYY-MM-DD>/<id>.json``, so that Athena can query them as they are. A write carries
``If-None-Match: *``. After a delete marker such a write would succeed a second time, so readers take the first
version of a key when they audit (the bucket policy and the lock keep anyone from getting that far).
"""

import json
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from aivo_backup.catalog.records import (
    BackupRun,
    Expiry,
    Purpose,
    Record,
    Recovery,
    RecoveryPoint,
    Registration,
    Report,
    Restore,
)
from aivo_backup.catalog.spool import Spool
from aivo_backup.catalog.stand_ins import told_once
from aivo_backup.errors import BackupError, UnreachableError, UsageError
from aivo_backup.policy.codec import format_time, from_text, to_json
from aivo_backup.policy.environment import Component, EvidenceSettings
from aivo_backup.stores.aws import translated

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

R = TypeVar("R", BackupRun, RecoveryPoint, Restore, Registration, Expiry, Report, Recovery)

_READERS = 32


def record_key(record: Record) -> str:
    """Where a record is filed."""
    return f"records/{record.record_type}/dt={record.moment.astimezone(UTC):%Y-%m-%d}/{record.id}.json"


@dataclass(frozen=True, kw_only=True)
class CatalogCopy:
    """A copy of the catalog in another region, for reading."""

    s3: "S3Client"
    bucket: str


def _id_of(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def _bounds(first: str, last: str) -> tuple[datetime, datetime]:
    """A moment of each of two days."""
    return datetime.fromisoformat(f"{first}T00:00:00+00:00"), datetime.fromisoformat(f"{last}T00:00:00+00:00")


class Catalog:
    """Appends and reads records."""

    def __init__(
        self,
        *,
        s3: "S3Client",
        evidence: EvidenceSettings,
        kms_key: str,
        spool: Spool,
        copy: "CatalogCopy | None" = None,
    ) -> None:
        """
        Args:
            copy: read there instead. Records still go to ``evidence``, and wait in the spool, which is then no
                failure, when it does not answer: a copy is read because the catalog itself may be gone.
        """
        self._s3 = s3
        self._evidence = evidence
        self._kms_key = kms_key
        self._spool = spool
        self._copy = copy
        self._read_s3, self._read_bucket = (copy.s3, copy.bucket) if copy else (s3, evidence.bucket)

    def append(self, record: Record) -> None:
        """Files a record. Filing the same record twice is harmless; the first one stays.

        Raises:
            UnreachableError: the bucket does not answer or refuses; the record waits in the spool.
            ConfigurationError: nor can the spool be written.
        """
        key, body = record_key(record), to_json(record)
        try:
            self._put(key, body)
        except BackupError as error:
            kept = self._spool.put(key, body)
            if self._copy is not None:
                return
            raise UnreachableError(
                f"the catalog did not take {key} ({error.what})",
                mend=f"kept in {kept.name} of the spool; the next run delivers it",
            ) from error
        self._spool.drop(key)

    def announced(self, record: Record) -> AbstractContextManager[None]:
        """Keeps a record in the spool for the case that this process dies in the block, and delivers it only then.

        To be replaced by :meth:`append` of another record with the same id, still within the block.

        Raises:
            ConfigurationError: the spool cannot be written.
        """
        return self._spool.announced(record_key(record), to_json(record))

    def deliver_spooled(self) -> int:
        """Delivers what earlier runs had to keep, labelled late. Stops quietly at the first that still fails.

        Returns:
            how many were delivered.
        """
        delivered = 0
        for file, key, body in self._spool.waiting():
            try:
                self._put(key, {**body, "late": True})
            except BackupError:
                break
            file.unlink()
            delivered += 1
        return delivered

    def write_object(self, key: str, body: bytes, content_type: str) -> str:
        """Writes one locked object (a record, or a report's file) once.

        Returns:
            its version id; empty when the key already exists.

        Raises:
            UnreachableError, AccessDeniedError, Missing: as AWS answers.
        """
        with translated(f"s3://{self._evidence.bucket}/{key}"):
            try:
                answer = self._s3.put_object(
                    Bucket=self._evidence.bucket,
                    Key=key,
                    Body=body,
                    ContentType=content_type,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                    ServerSideEncryption="aws:kms",
                    SSEKMSKeyId=self._kms_key,
                    ObjectLockMode=self._evidence.lock_mode.value,
                    ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=self._evidence.lock_days),
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "PreconditionFailed":
                    return ""
                raise
        return answer.get("VersionId", "")

    def _put(self, key: str, body: dict[str, Any]) -> None:
        self.write_object(key, json.dumps(body, indent=1).encode(), "application/json")

    def runs(
        self, component: Component | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[BackupRun]:
        """Backup runs in ``[since, until)``, oldest first."""
        runs = told_once(self._read(BackupRun, since, until))
        return [run for run in runs if component in (None, run.component)]

    def points(
        self, component: Component | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[RecoveryPoint]:
        """Recovery points in ``[since, until)``, oldest first."""
        return [point for point in self._read(RecoveryPoint, since, until) if component in (None, point.component)]

    def point(self, component: Component, point_id: str) -> RecoveryPoint:
        """The recovery point of that name, in requests that grow with its age and not with all that is on record.

        Raises:
            UsageError: there is none; the newest ones are named.
        """
        for point in self.points_named(component, {point_id}):
            return point
        newest = self.newest(RecoveryPoint, lambda point: point.component is component)
        raise UsageError(
            f"{component} has no recovery point {point_id!r}",
            mend=f"newest: {newest.id if newest else 'none yet'}; list all with `aivo-backup points {component}`",
        )

    def points_named(self, component: Component, names: Collection[str]) -> list[RecoveryPoint]:
        """Those of the named recovery points that are on record, oldest first."""
        found: dict[str, RecoveryPoint] = {}
        for keys in self._backwards(RecoveryPoint.record_type) if names else ():
            wanted = [key for key in keys if _id_of(key) in names]
            found |= {point.id: point for point in self._fetched(RecoveryPoint, wanted) if point.component is component}
            if len(found) == len(names):
                break
        return sorted(found.values(), key=lambda point: (point.moment, point.id))

    def point_at(self, component: Component, moment: datetime) -> RecoveryPoint:
        """The newest recovery point that holds nothing later than ``moment``.

        Raises:
            UsageError: there is none; the oldest one is named.
        """
        found = self.newest(
            RecoveryPoint,
            lambda point: point.component is component and point.recoverable_at <= moment,
            until=moment,
        )
        if found is None:
            first = self._oldest_point(component)
            oldest = f"the oldest, {first.id}, is of {format_time(first.recoverable_at)}" if first else "none yet"
            raise UsageError(
                f"{component} has no recovery point at or before {format_time(moment)}",
                mend=f"{oldest}; list all with `aivo-backup points {component}`",
            )
        return found

    def newest_point(self, component: Component) -> RecoveryPoint:
        """The newest recovery point.

        Raises:
            UsageError: there is none.
        """
        found = self.newest(RecoveryPoint, lambda point: point.component is component)
        if found is None:
            raise UsageError(
                f"{component} has no recovery point yet", mend=f"take one with `aivo-backup backup {component}`"
            )
        return found

    def newest(self, kind: type[R], fits: Callable[[R], bool], *, until: datetime | None = None) -> R | None:
        """The newest record that fits, day by day backwards; None when there is none.

        Args:
            until: no record after it fits, so none of a later day is read.
        """
        for keys in self._backwards(kind.record_type, until):
            fitting = [record for record in self._fetched(kind, keys) if fits(record)]
            if fitting:
                return fitting[-1]
        return None

    def restores(
        self, component: Component | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Restore]:
        """Restores of every purpose in ``[since, until)``, oldest first."""
        restores = told_once(self._read(Restore, since, until))
        return [restore for restore in restores if component in (None, restore.component)]

    def recoveries(
        self, purpose: Purpose | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Recovery]:
        """Recovery plans that were carried out in ``[since, until)``, oldest first; drills too."""
        return [entry for entry in self._read(Recovery, since, until) if purpose in (None, entry.purpose)]

    def registrations(
        self, component: Component | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Registration]:
        """Reconciliations in ``[since, until)``, oldest first."""
        return [entry for entry in self._read(Registration, since, until) if component in (None, entry.component)]

    def expiries(
        self, component: Component | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Expiry]:
        """Expiries in ``[since, until)``, oldest first."""
        expiries = told_once(self._read(Expiry, since, until))
        return [entry for entry in expiries if component in (None, entry.component)]

    def reports(self, *, since: datetime | None = None, until: datetime | None = None) -> list[Report]:
        """Reports in ``[since, until)``, oldest first."""
        return list(self._read(Report, since, until))

    def news(self, kind: type[R], *, since: datetime, known: Container[str]) -> list[R]:
        """Records of one kind from ``since`` on whose ids are not known yet, oldest first: for whoever asks again."""
        return self._read(kind, since, None, known)

    def _read(
        self, kind: type[R], since: datetime | None, until: datetime | None, known: Container[str] = ()
    ) -> list[R]:
        wanted = (key for key in self._keys(kind.record_type, since, until) if _id_of(key) not in known)
        return [
            record
            for record in self._fetched(kind, wanted)
            if (since is None or record.moment >= since) and (until is None or record.moment < until)
        ]

    def _fetched(self, kind: type[R], keys: Iterable[str]) -> list[R]:
        """The records under these keys, oldest first."""

        def read(key: str) -> R:
            with translated(f"s3://{self._read_bucket}/{key}"):
                body = self._read_s3.get_object(Bucket=self._read_bucket, Key=key)["Body"].read()
            return from_text(kind, body, where=key)

        # A year of half-hourly runs is 36,000 objects: one after the other they would outlive a function.
        with ThreadPoolExecutor(_READERS) as pool:
            return sorted(pool.map(read, keys), key=lambda record: (record.moment, record.id))

    def _oldest_point(self, component: Component) -> RecoveryPoint | None:
        for day in self._days(RecoveryPoint.record_type):
            keys = self._keys(RecoveryPoint.record_type, *_bounds(day, day))
            for point in self._fetched(RecoveryPoint, keys):
                if point.component is component:
                    return point
        return None

    def _backwards(self, record_type: str, until: datetime | None = None) -> Iterator[list[str]]:
        """Keys in groups of whole days, the newest group first, each of as many days as all before it and one more."""
        days = [day for day in self._days(record_type) if until is None or day <= f"{until.astimezone(UTC):%Y-%m-%d}"]
        size = 1
        while days:
            days, group = days[:-size], days[-size:]
            size *= 2
            yield list(self._keys(record_type, *_bounds(group[0], group[-1])))

    def _days(self, record_type: str) -> list[str]:
        """The days (``YYYY-MM-DD``) that have a record, oldest first: a thousand of them in one request."""
        prefix = f"records/{record_type}/"
        with translated(f"s3://{self._read_bucket}/{prefix}"):
            pages = self._read_s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._read_bucket, Prefix=prefix, Delimiter="/"
            )
            found = [entry.get("Prefix", "") for page in pages for entry in page.get("CommonPrefixes", [])]
        return [entry.removeprefix(f"{prefix}dt=").removesuffix("/") for entry in found]

    def _keys(self, record_type: str, since: datetime | None, until: datetime | None) -> Iterator[str]:
        prefix = f"records/{record_type}/"
        start_after = f"{prefix}dt={since.astimezone(UTC):%Y-%m-%d}" if since else prefix
        end = f"{prefix}dt={until.astimezone(UTC):%Y-%m-%d}/\x7f" if until else None
        with translated(f"s3://{self._read_bucket}/{prefix}"):
            pages = self._read_s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._read_bucket, Prefix=prefix, StartAfter=start_after
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    key = entry.get("Key", "")
                    if end is not None and key > end:
                        return
                    yield key
