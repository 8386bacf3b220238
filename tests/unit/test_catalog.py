"""The catalog writes once, loses nothing, and reads back what was written."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from aivo_backup.catalog.catalog import Catalog, record_key
from aivo_backup.catalog.records import BackupRun, RunStatus
from aivo_backup.catalog.spool import Spool
from aivo_backup.errors import ConfigurationError, UnreachableError, UsageError
from aivo_backup.policy.environment import BackupKind, Component
from tests.unit.conftest import EVIDENCE

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


def run_record(name: str, hour: int, error: str = "") -> BackupRun:
    return BackupRun(
        id=name,
        component=Component.POSTGRES,
        kind=BackupKind.FULL,
        job="postgresql-backup-full",
        started=datetime(2026, 11, 22, hour, 0, 0, 123456, tzinfo=UTC),
        finished=datetime(2026, 11, 22, hour, 5, tzinfo=UTC),
        status=RunStatus.FAILED if error else RunStatus.SUCCEEDED,
        error=error,
        version="0",
    )


def test_a_record_is_filed_by_type_and_day_and_read_back_whole(catalog: Catalog) -> None:
    record = run_record("a", 1, error="the disk is full")
    catalog.append(record)
    assert record_key(record) == "records/backup-run/dt=2026-11-22/a.json"
    assert catalog.runs() == [record]


def test_a_record_is_written_once_and_the_first_one_stays(catalog: Catalog) -> None:
    catalog.append(run_record("a", 1))
    catalog.append(run_record("a", 1, error="a later lie"))
    assert [run.error for run in catalog.runs()] == [""]


def test_a_record_is_locked_and_checksummed(catalog: Catalog, s3: "S3Client") -> None:
    record = run_record("a", 1)
    catalog.append(record)
    head = s3.head_object(Bucket=EVIDENCE.bucket, Key=record_key(record), ChecksumMode="ENABLED")
    assert head.get("ObjectLockMode") == "GOVERNANCE"
    assert head.get("ChecksumSHA256")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=EVIDENCE.bucket, Key=record_key(record), VersionId=head.get("VersionId", ""))


def test_reading_keeps_to_the_half_open_period_oldest_first(catalog: Catalog) -> None:
    for name, hour in (("c", 3), ("a", 1), ("b", 2)):
        catalog.append(run_record(name, hour))
    since, until = run_record("", 1).started, run_record("", 3).started
    assert [run.id for run in catalog.runs(since=since, until=until)] == ["a", "b"]
    assert [run.id for run in catalog.runs(Component.MINIO)] == []


def test_an_undeliverable_record_waits_and_comes_late(catalog: Catalog, s3: "S3Client", spool: Spool) -> None:
    lost = Catalog(s3=s3, evidence=EVIDENCE, kms_key="alias/aws/s3", spool=spool)
    lost._evidence = type(EVIDENCE)(bucket="gone", lock_mode=EVIDENCE.lock_mode, lock_days=1)  # pyright: ignore[reportPrivateUsage] -- the bucket vanishes under it
    with pytest.raises(UnreachableError, match="the next run delivers it"):
        lost.append(run_record("a", 1))
    assert [key for _, key, _ in spool.waiting()] == ["records/backup-run/dt=2026-11-22/a.json"]
    assert catalog.deliver_spooled() == 1
    assert [run.late for run in catalog.runs()] == [True]
    assert list(spool.waiting()) == []


def test_a_point_that_does_not_exist_is_named(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="postgres has no recovery point '20200101-000000F': newest: none yet"):
        catalog.point(Component.POSTGRES, "20200101-000000F")


def test_a_damaged_record_is_named(catalog: Catalog, s3: "S3Client") -> None:
    body = {**json.loads('{"id": "x"}'), "colour": "red"}
    s3.put_object(Bucket=EVIDENCE.bucket, Key="records/backup-run/dt=2026-11-22/x.json", Body=json.dumps(body))
    with pytest.raises(Exception, match=r"records/backup-run/dt=2026-11-22/x\.json\.colour is not a known key"):
        catalog.runs()


def test_a_record_that_is_no_json_is_named(catalog: Catalog, s3: "S3Client") -> None:
    s3.put_object(Bucket=EVIDENCE.bucket, Key="records/backup-run/dt=2026-11-22/x.json", Body=b"x")
    with pytest.raises(ConfigurationError, match=r"records/backup-run/dt=2026-11-22/x\.json is not JSON"):
        catalog.runs()
