"""An environment read from its second region: its buckets and keys, a catalog that reads there and files at home."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from aivo_backup import composition
from aivo_backup.catalog.catalog import record_key
from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.composition import App
from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import BackupKind, Component, Environment, SecondRegion
from aivo_backup.stores.postgres.envelope import ENVELOPE_KEY, seal_new_pass
from tests.unit.conftest import EVIDENCE, SetClock
from tests.unit.evidence.generated import environment as generated_environment

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

THERE = "us-west-2"
COPIES = {use: f"copy-{use}" for use in (*Component, "compliance")}


@pytest.fixture
def settings(s3: "S3Client") -> Environment:
    """Home and second region, each with its keys; the copies' buckets are there."""
    plain = generated_environment()
    keys = {
        region: boto3.client("kms", region_name=region).create_key()["KeyMetadata"].get("Arn", "")
        for region in (plain.region, THERE)
    }
    for name in COPIES.values():
        s3.create_bucket(Bucket=name)
    return replace(
        plain,
        evidence=EVIDENCE,
        restore_role="",
        keys=dict.fromkeys((*Component, "compliance"), keys[plain.region]),
        replica=SecondRegion(region=THERE, buckets=COPIES, keys=dict.fromkeys(COPIES, keys[THERE])),
    )


@pytest.fixture
def app(settings: Environment, tmp_path: Path) -> Iterator[App]:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings.to_json()))
    # Undone before moto is: it has variables of these names while it stands in, which must not be what is left.
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
            patch.setenv(name, value)
        yield composition.open_environment(
            {
                composition.SETTINGS: str(file),
                composition.STATE: str(tmp_path / "state"),
                composition.SECRETS: str(tmp_path),
                "AWS_REGION": "us-east-1",
            }
        )


def point(clock: SetClock) -> RecoveryPoint:
    return RecoveryPoint(
        id="20261122-010000F",
        component=Component.POSTGRES,
        kind=BackupKind.FULL,
        run_id="run",
        started=clock() - timedelta(minutes=5),
        recoverable_at=clock(),
        size_bytes=1,
    )


def test_the_cipher_pass_is_opened_with_the_second_regions_key_alone(app: App, s3: "S3Client", clock: SetClock) -> None:
    bucket = app.environment.bucket(Component.POSTGRES)
    assert seal_new_pass(s3, bucket=bucket, keys=app.region_keys(), now=clock())
    at_home = app.repository_access.cipher_pass()
    body = s3.get_object(Bucket=bucket, Key=ENVELOPE_KEY)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=ENVELOPE_KEY)
    s3.put_object(Bucket=COPIES[Component.POSTGRES], Key=ENVELOPE_KEY, Body=body)
    access = app.from_replica.for_restores.repository_access
    assert access.cipher_pass() == at_home
    assert (access.bucket, access.region, access.behind_sidecar) == (COPIES[Component.POSTGRES], THERE, False)
    assert access.kms_key == app.environment.replica.keys[Component.POSTGRES]
    assert app.from_replica.aws.region_name == THERE


def test_a_pass_that_is_there_is_wrapped_for_a_region_that_came_later(
    app: App, s3: "S3Client", clock: SetClock
) -> None:
    bucket, keys = app.environment.bucket(Component.POSTGRES), app.region_keys()
    home = {app.environment.region: keys[app.environment.region]}
    assert seal_new_pass(s3, bucket=bucket, keys=home, now=clock())
    before = app.repository_access.cipher_pass()
    assert not seal_new_pass(s3, bucket=bucket, keys=keys, now=clock())
    wrapped = json.loads(s3.get_object(Bucket=bucket, Key=ENVELOPE_KEY)["Body"].read())
    assert set(wrapped["wrapped"]) == {app.environment.region, THERE}
    assert app.repository_access.cipher_pass() == before
    # Nothing is written when nothing is missing.
    etag = s3.head_object(Bucket=bucket, Key=ENVELOPE_KEY)["ETag"]
    assert not seal_new_pass(s3, bucket=bucket, keys=keys, now=clock())
    assert s3.head_object(Bucket=bucket, Key=ENVELOPE_KEY)["ETag"] == etag


def test_the_catalog_is_read_there_and_written_at_home_or_kept(app: App, s3: "S3Client", clock: SetClock) -> None:
    record = point(clock)
    s3.put_object(Bucket=COPIES["compliance"], Key=record_key(record), Body=json.dumps(to_json(record)))
    catalog = app.from_replica.catalog
    assert catalog.newest_point(Component.POSTGRES) == record
    assert app.catalog.points() == []
    newer = replace(record, id="20261122-020000F")
    catalog.append(newer)
    assert app.catalog.points() == [newer]
    assert catalog.points() == [record]
    # The home region is gone: that is why the copy is read, so it stops nothing, and the record is not lost.
    for entry in s3.list_object_versions(Bucket=EVIDENCE.bucket).get("Versions", []):
        s3.delete_object(
            Bucket=EVIDENCE.bucket,
            Key=entry.get("Key", ""),
            VersionId=entry.get("VersionId", ""),
            BypassGovernanceRetention=True,
        )
    s3.delete_bucket(Bucket=EVIDENCE.bucket)
    catalog.append(replace(record, id="20261122-030000F"))
    assert [file.name for file in (app.state / "spool").iterdir()] == [
        "records~recovery-point~dt=2026-11-22~20261122-030000F.json"
    ]


def test_an_environment_without_a_second_region_says_so(app: App) -> None:
    alone = replace(app, environment=replace(app.environment, replica=SecondRegion()))
    with pytest.raises(ConfigurationError, match="has no second region: set aivo-backup:replica"):
        _ = alone.from_replica
    assert list(alone.region_keys()) == [alone.environment.region]
