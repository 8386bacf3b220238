"""One scheduled time gives one report, locked and encrypted, whatever happens on the way."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.spool import Spool
from aivo_backup.errors import ConfigurationError, UnreachableError
from aivo_backup.evidence.build import Records
from aivo_backup.evidence.periods import Period
from aivo_backup.jobs.report import MadeReport, make_report
from aivo_backup.policy.environment import Component
from aivo_backup.stores.aws import MissingError
from tests.unit.conftest import EVIDENCE, SetClock
from tests.unit.evidence.generated import NOW, SCHEDULED, environment, flawless, restore

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

PREFIX = "reports/daily/daily-20261123T070000Z/"


@pytest.fixture
def kms_key() -> str:
    return "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture
def catalog(s3: "S3Client", spool: Spool, kms_key: str) -> Catalog:
    return Catalog(s3=s3, evidence=EVIDENCE, kms_key=kms_key, spool=spool)


@pytest.fixture
def make(s3: "S3Client", catalog: Catalog, clock: SetClock) -> Callable[..., MadeReport]:
    clock.now = NOW

    def make(**options: Any) -> MadeReport:
        wanted: dict[str, Any] = {"catalog": catalog, "period": Period.DAILY, "scheduled_for": SCHEDULED, **options}
        return make_report(s3=s3, environment=environment(), clock=clock, **wanted)

    return make


def fill(catalog: Catalog, records: Records) -> None:
    for kind in (records.runs, records.points, records.restores, records.registrations):
        for record in kind:
            catalog.append(record)


def versions(s3: "S3Client", prefix: str = "") -> list[str]:
    return [
        one.get("Key", "") for one in s3.list_object_versions(Bucket=EVIDENCE.bucket, Prefix=prefix).get("Versions", [])
    ]


def test_the_files_are_locked_encrypted_typed_and_as_the_record_says(
    make: Callable[..., MadeReport], catalog: Catalog, s3: "S3Client", kms_key: str
) -> None:
    fill(catalog, flawless(0.2))
    made = make()
    assert catalog.reports() == [made.record]
    assert [file.key for file in made.record.files] == [f"{PREFIX}report.json", f"{PREFIX}report.html"]
    types = ("application/json", "text/html; charset=utf-8")
    for file, content_type in zip(made.record.files, types, strict=True):
        answer = s3.get_object(Bucket=file.location, Key=file.key, VersionId=file.version_id)
        body = answer["Body"].read()
        assert len(body) == file.size_bytes
        assert base64.b64encode(hashlib.sha256(body).digest()).decode() == file.checksum
        assert answer["ContentType"] == content_type
        assert (answer.get("ServerSideEncryption"), answer.get("SSEKMSKeyId")) == ("aws:kms", kms_key)
        assert answer.get("ObjectLockMode") == "GOVERNANCE"
        assert answer["ObjectLockRetainUntilDate"] > answer["LastModified"] + timedelta(hours=23)


def test_a_second_call_finds_the_first_report(
    make: Callable[..., MadeReport], catalog: Catalog, s3: "S3Client", clock: SetClock
) -> None:
    fill(catalog, flawless(0.1))
    first = make()
    catalog.append(restore(Component.MINIO, SCHEDULED - timedelta(minutes=30)))
    clock.forward(90)
    assert make() == first
    assert versions(s3, "reports/") == [f"{PREFIX}report.html", f"{PREFIX}report.json"]
    assert len(versions(s3, "records/report/")) == 1


def test_a_report_that_died_half_way_is_completed_as_it_was_begun(
    make: Callable[..., MadeReport], catalog: Catalog, s3: "S3Client", clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = catalog.write_object

    def dies_at_the_page(key: str, body: bytes, content_type: str) -> str:
        if key.endswith(".html"):
            raise UnreachableError("the network is gone")
        return whole(key, body, content_type)

    with monkeypatch.context() as broken:
        broken.setattr(catalog, "write_object", dies_at_the_page)
        with pytest.raises(UnreachableError):
            make()
    assert versions(s3, "reports/") == [f"{PREFIX}report.json"]
    catalog.append(restore(Component.MINIO, SCHEDULED - timedelta(minutes=30)))
    clock.forward(3600)
    made = make()
    assert made.report.generated == NOW
    assert made.report.restores == ()
    assert made.record.generated == NOW


def test_of_two_at_once_the_first_to_write_counts_for_both(
    make: Callable[..., MadeReport], catalog: Catalog, s3: "S3Client", clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = catalog.write_object
    others: list[MadeReport] = []

    def beaten(key: str, body: bytes, content_type: str) -> str:
        if not others:
            with monkeypatch.context() as calm:
                calm.setattr(catalog, "write_object", whole)
                others.append(make())
            clock.forward(5)
        return whole(key, body, content_type)

    monkeypatch.setattr(catalog, "write_object", beaten)
    assert make() == others[0]
    assert versions(s3, "reports/") == [f"{PREFIX}report.html", f"{PREFIX}report.json"]


def test_copies_on_disk_are_the_same_bytes(make: Callable[..., MadeReport], s3: "S3Client", tmp_path: Path) -> None:
    made = make(folder=tmp_path / "reports")
    folder = tmp_path / "reports" / "daily-20261123T070000Z"
    assert made.on_disk == (folder / "report.json", folder / "report.html")
    for file, copy in zip(made.record.files, made.on_disk, strict=True):
        assert s3.get_object(Bucket=file.location, Key=file.key)["Body"].read() == copy.read_bytes()
    assert json.loads(made.on_disk[0].read_text())["verdict"] == "no evidence"


def test_a_folder_that_cannot_be_made_is_one_line_and_the_report_is_filed(
    make: Callable[..., MadeReport], catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match="name a folder that can be written"):
        make(folder=tmp_path / "taken")
    assert len(catalog.reports()) == 1


def test_records_outside_the_period_are_not_in_it(make: Callable[..., MadeReport], catalog: Catalog) -> None:
    catalog.append(restore(Component.MINIO, SCHEDULED - timedelta(hours=25)))
    catalog.append(restore(Component.POSTGRES, SCHEDULED - timedelta(hours=23)))
    catalog.append(restore(Component.OPENSEARCH, SCHEDULED))
    assert [one.restore.component for one in make().report.restores] == [Component.POSTGRES]


def test_no_bucket_is_a_missing_bucket_and_nothing_green(make: Callable[..., MadeReport]) -> None:
    boto3.resource("s3", region_name="us-east-1").Bucket(EVIDENCE.bucket).delete()
    with pytest.raises(MissingError, match=EVIDENCE.bucket) as raised:
        make()
    assert "\n" not in str(raised.value)
