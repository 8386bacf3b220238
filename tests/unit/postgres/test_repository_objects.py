"""What we keep in the repository's bucket ourselves: the cipher envelope and the inventories; and the WAL listing."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import pytest

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError, VerificationError
from aivo_backup.stores.postgres.archive import Archive, archived_name
from aivo_backup.stores.postgres.envelope import ENVELOPE_KEY, RegionKey, open_pass, seal_new_pass
from aivo_backup.stores.postgres.info import parse_info
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.wal import Line, parse_lsn
from tests.unit.postgres.samples import FULL, stanza

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

BUCKET = "aivo-backup-postgres"
NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
SHA1 = "99250b3fcb1f3029e863435a59222cb2aa6cf23f"
INFO = parse_info(json.dumps(stanza(FULL)))
SET = f"backup/aivo-postgres/{FULL['label']}"
WAL = "archive/aivo-postgres/15-1/0000000100000000"


@pytest.fixture
def bucket(s3: "S3Client") -> "S3Client":
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return s3


def region_key(region: str) -> RegionKey:
    kms = boto3.client("kms", region_name=region)
    return RegionKey(kms=kms, key=kms.create_key()["KeyMetadata"].get("Arn", ""))


def put(s3: "S3Client", key: str, body: bytes = b"x") -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)


# The cipher envelope


def test_every_region_opens_the_same_pass_and_none_shows_it(bucket: "S3Client") -> None:
    keys = {region: region_key(region) for region in ("us-east-1", "eu-central-1")}
    assert seal_new_pass(bucket, bucket=BUCKET, keys=keys, now=NOW)
    opened = {open_pass(bucket, bucket=BUCKET, region=region, kms=key.kms) for region, key in keys.items()}
    assert len(opened) == 1
    (secret,) = opened
    assert len(secret) >= 64
    assert secret.encode() not in bucket.get_object(Bucket=BUCKET, Key=ENVELOPE_KEY)["Body"].read()


def test_the_pass_is_made_once(bucket: "S3Client") -> None:
    keys = {"us-east-1": region_key("us-east-1")}
    assert seal_new_pass(bucket, bucket=BUCKET, keys=keys, now=NOW)
    first = open_pass(bucket, bucket=BUCKET, region="us-east-1", kms=keys["us-east-1"].kms)
    put(bucket, f"{WAL}/something")
    assert not seal_new_pass(bucket, bucket=BUCKET, keys=keys, now=NOW)
    assert open_pass(bucket, bucket=BUCKET, region="us-east-1", kms=keys["us-east-1"].kms) == first
    with pytest.raises(Exception, match="PreconditionFailed"):
        bucket.put_object(Bucket=BUCKET, Key=ENVELOPE_KEY, Body=b"{}", IfNoneMatch="*")


def test_no_new_pass_over_an_encrypted_repository(bucket: "S3Client") -> None:
    put(bucket, f"{WAL}/something")
    with pytest.raises(RefusedError, match="bring back that object's last version"):
        seal_new_pass(bucket, bucket=BUCKET, keys={"us-east-1": region_key("us-east-1")}, now=NOW)
    assert not bucket.list_objects_v2(Bucket=BUCKET, Prefix="envelope/").get("Contents")


def test_an_envelope_that_is_missing_foreign_or_broken(bucket: "S3Client") -> None:
    key = region_key("us-east-1")
    with pytest.raises(ConfigurationError, match="aivo-backup init postgres"):
        open_pass(bucket, bucket=BUCKET, region="us-east-1", kms=key.kms)
    seal_new_pass(bucket, bucket=BUCKET, keys={"us-east-1": key}, now=NOW)
    with pytest.raises(ConfigurationError, match="use one of us-east-1"):
        open_pass(bucket, bucket=BUCKET, region="eu-west-1", kms=key.kms)
    put(bucket, ENVELOPE_KEY, b"not json")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        open_pass(bucket, bucket=BUCKET, region="us-east-1", kms=key.kms)
    put(bucket, ENVELOPE_KEY, b'{"format": 1}')
    with pytest.raises(ConfigurationError, match="is missing"):
        open_pass(bucket, bucket=BUCKET, region="us-east-1", kms=key.kms)


def test_a_missing_bucket_is_not_a_missing_envelope(bucket: "S3Client") -> None:
    with pytest.raises(BackupError, match="bucket does not exist"):
        seal_new_pass(bucket, bucket="nowhere", keys={}, now=NOW)


# The inventories


@pytest.fixture
def inventories(bucket: "S3Client") -> Inventories:
    put(bucket, f"{SET}/backup.manifest", b"manifest")
    put(bucket, f"{SET}/backup.manifest.copy", b"manifest")
    put(bucket, f"{SET}/bundle/1", b"bundle")
    for number in (1, 2, 3, 4):
        put(bucket, f"{WAL}/00000001000000000000000{number}-{SHA1}.zst", b"wal")
    put(bucket, f"{WAL}/000000010000000000000002.00000028.backup")
    return Inventories(s3=bucket, bucket=BUCKET, stanza="aivo-postgres")


def test_an_inventory_lists_the_set_and_the_wal_that_makes_it_consistent(inventories: Inventories) -> None:
    inventory = inventories.read(inventories.take(INFO.sets[0]))
    assert [entry.key for entry in inventory.objects] == [
        f"{SET}/backup.manifest",
        f"{SET}/backup.manifest.copy",
        f"{SET}/bundle/1",
        f"{WAL}/000000010000000000000002-{SHA1}.zst",
        f"{WAL}/000000010000000000000003-{SHA1}.zst",
    ]
    assert all(entry.version_id and entry.etag and entry.size_bytes for entry in inventory.objects)
    assert [bool(entry.sha256) for entry in inventory.objects] == [True, True, False, False, False]
    assert inventories.differences(inventory) == []


@pytest.mark.parametrize("name", ["backup.manifest", "bundle/1"])
def test_what_vanished_changed_or_shrank_is_named(bucket: "S3Client", inventories: Inventories, name: str) -> None:
    inventory = inventories.read(inventories.take(INFO.sets[0]))
    key, body = f"{SET}/{name}", bucket.get_object(Bucket=BUCKET, Key=f"{SET}/{name}")["Body"].read()
    bucket.delete_object(Bucket=BUCKET, Key=key)
    assert inventories.differences(inventory) == [f"{key} is gone"]
    put(bucket, key, body[::-1])
    assert inventories.differences(inventory)[0].startswith(f"{key} was replaced")
    put(bucket, key, b"")
    assert inventories.differences(inventory) == [f"{key} has 0 bytes instead of {len(body)}"]


def test_a_vanished_wal_segment_is_named(bucket: "S3Client", inventories: Inventories) -> None:
    inventory = inventories.read(inventories.take(INFO.sets[0]))
    key = f"{WAL}/000000010000000000000003-{SHA1}.zst"
    bucket.delete_object(Bucket=BUCKET, Key=key)
    assert inventories.differences(inventory) == [f"{key} is gone"]


def test_an_inventory_is_bound_to_its_record(bucket: "S3Client", inventories: Inventories) -> None:
    artefact = inventories.take(INFO.sets[0])
    put(bucket, artefact.key, b'{"forged": true}')
    assert inventories.read(artefact).label == FULL["label"]
    with pytest.raises(VerificationError, match="not the one that was recorded"):
        inventories.read(replace(artefact, checksum="sha256:0"))
    # The listing knows no checksum, but takes the first version.
    assert inventories.stored()[FULL["label"]].version_id == artefact.version_id
    bucket.delete_object(Bucket=BUCKET, Key=artefact.key, VersionId=artefact.version_id)
    with pytest.raises(VerificationError, match="is gone"):
        inventories.read(artefact)


def test_an_empty_object_is_no_backup(bucket: "S3Client", inventories: Inventories) -> None:
    put(bucket, f"{SET}/bundle/2", b"")
    with pytest.raises(BackupError, match="bundle/2 empty"):
        inventories.take(INFO.sets[0])


# The WAL archive


def archive(s3: "S3Client", *names: str) -> Archive:
    for name in names:
        put(s3, f"archive/aivo-postgres/15-1/{name[:16]}/{name}-{SHA1}.zst")
    return Archive(s3=s3, bucket=BUCKET, stanza="aivo-postgres")


def segment(timeline: int, number: int) -> str:
    return f"{timeline:08X}00000000{number:08X}"


def test_a_gap_is_named(bucket: "S3Client") -> None:
    held = archive(bucket, *(segment(1, number) for number in (1, 2, 3, 5, 6, 8)))
    missing = held.missing(INFO.sets[0], Line(timeline=1), segment(1, 8))
    assert missing == [segment(1, 4), segment(1, 7)]


def test_the_newest_segment_is_that_of_the_line(bucket: "S3Client") -> None:
    """Timeline 1 went on to segment 9, but recovery left it in segment 5."""
    held = archive(bucket, *(segment(1, number) for number in range(1, 10)))
    line = Line(timeline=2, switches=((1, parse_lsn("0/5000100")),))
    newest = held.newest(INFO, line)
    assert newest is not None
    # Timeline 2 has archived nothing yet: what counts is what lies before the switch.
    assert newest.name == segment(1, 4)
    archive(bucket, segment(2, 5), segment(2, 6))
    newest = held.newest(INFO, line)
    assert newest is not None
    assert newest.name == segment(2, 6)
    assert held.missing(INFO.sets[0], line, newest.name) == []
    assert held.newest(INFO, Line(timeline=1)) is not None


def test_the_newest_segment_by_the_listing_alone(bucket: "S3Client") -> None:
    assert archive(bucket).newest_listed() is None
    held = archive(bucket, segment(1, 0xFE), segment(1, 0xFF), "000000010000000100000000")
    put(bucket, "archive/aivo-postgres/archive.info")
    put(bucket, "archive/aivo-postgres/15-1/00000002.history")
    newest = held.newest_listed()
    assert newest is not None
    assert newest.name == "000000010000000100000000"
    put(bucket, f"archive/aivo-postgres/16-2/0000000100000000/{segment(1, 7)}-{SHA1}.zst")
    newest = held.newest_listed()
    assert newest is not None
    assert newest.name == segment(1, 7)


def test_what_postgres_says_it_archived() -> None:
    assert archived_name("000000010000000000000005") == "000000010000000000000005"
    assert archived_name("000000010000000000000005.00000028.backup") == "000000010000000000000005"
    assert archived_name("00000002.history") == ""
    assert archived_name("") == ""
