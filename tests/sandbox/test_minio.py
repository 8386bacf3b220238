"""MinIO for real: the engine between the sandbox's MinIO and its S3, over TLS, with real files."""

import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.errors import AccessDeniedError, RefusedError, UnreachableError
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import BackupKind, Component, MinioSettings
from aivo_backup.stores import port
from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.minio import Change, LeanS3ObjectStore, MinioStore, RestoreRequest, S3ObjectStore, Selection
from aivo_backup.stores.minio.objects import Attributes
from sandbox.data.minio import DOCUMENTS, LARGE_KEY, LIBRARY, change_minio, load_minio
from sandbox.state import REGION, Sandbox
from tests.unit.minio.contract import BUCKET, PAGE, ObjectStoreContract

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

FILES = 150
LARGE_BYTES = 12 * 1024 * 1024 + 1


def minio_store(sandbox: Sandbox, *, secret_key: str = "", endpoint: str = "") -> LeanS3ObjectStore:
    """The sandbox's MinIO, or what is wrong on purpose."""
    session = boto3.Session(
        aws_access_key_id=sandbox.secret("minio-source", "access-key"),
        aws_secret_access_key=secret_key or sandbox.secret("minio-source", "secret-key"),
        region_name=REGION,
    )
    client = s3_client(session, endpoint_url=endpoint or sandbox.minio_url, ca_file=str(sandbox.ca_file))
    return LeanS3ObjectStore(client, session=session, ca_file=str(sandbox.ca_file))


def aws_store(sandbox: Sandbox, *, encryption_key: str = "") -> LeanS3ObjectStore:
    """The sandbox's S3, as its administrator."""
    session = sandbox.aws()
    return LeanS3ObjectStore(
        s3_client(session), session=session, ca_file=str(sandbox.ca_file), encryption_key=encryption_key
    )


def erase(client: "S3Client", bucket: str) -> None:
    """Empties a bucket of every version, and removes it."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        named: list[ObjectIdentifierTypeDef] = [
            {"Key": item.get("Key", ""), "VersionId": item.get("VersionId", "")} for item in found
        ]
        if named:
            client.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=upload.get("Key", ""), UploadId=upload.get("UploadId", ""))
    client.delete_bucket(Bucket=bucket)


@pytest.fixture
def made() -> Iterator[list[tuple["S3Client", str]]]:
    """Buckets that a test made; gone afterwards."""
    buckets: list[tuple[S3Client, str]] = []
    yield buckets
    for client, bucket in buckets:
        erase(client, bucket)


def emptied(client: "S3Client", made: list[tuple["S3Client", str]]) -> "S3Client":
    """The contract needs one name, and the tests of this folder share servers: its bucket is made anew each time."""
    for bucket in (BUCKET, "contract-second"):
        if bucket in {item.get("Name") for item in client.list_buckets().get("Buckets", [])}:
            erase(client, bucket)
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    made.append((client, BUCKET))
    return client


class TestMinioKeepsTheContract(ObjectStoreContract):
    # MinIO lists uploads under way by their whole key alone. As a target it would keep those of a killed run, which
    # it clears by itself after a day.
    uploads_prefix = "left/behind"

    @pytest.fixture(params=["boto3", "lean"])
    def store(
        self, request: pytest.FixtureRequest, sandbox: Sandbox, made: list[tuple["S3Client", str]]
    ) -> S3ObjectStore:
        lean = minio_store(sandbox)
        lean.page = PAGE
        client = emptied(lean.client, made)
        return lean if request.param == "lean" else S3ObjectStore(client, page=PAGE)


class TestTheAwsApiKeepsTheContract(ObjectStoreContract):
    # Moto looks at the conditions of whole writes alone; only a source, which is never moto, is written so in parts.
    looks_at_conditions_of_uploads = False

    @pytest.fixture(params=["boto3", "lean"])
    def store(
        self, request: pytest.FixtureRequest, sandbox: Sandbox, made: list[tuple["S3Client", str]]
    ) -> S3ObjectStore:
        lean = aws_store(sandbox)
        lean.page = PAGE
        client = emptied(lean.client, made)
        return lean if request.param == "lean" else S3ObjectStore(client, page=PAGE)


@dataclass
class World:
    """Source buckets and a backup bucket of one test."""

    sandbox: Sandbox
    prefix: str
    origin: LeanS3ObjectStore
    target_store: LeanS3ObjectStore
    settings: MinioSettings
    key: str
    now: datetime

    @property
    def source(self) -> "S3Client":
        return self.origin.client

    @property
    def target(self) -> "S3Client":
        return self.target_store.client

    @property
    def documents(self) -> str:
        return f"{self.prefix}{DOCUMENTS}"

    @property
    def library(self) -> str:
        return f"{self.prefix}{LIBRARY}"

    @property
    def bucket(self) -> str:
        return f"{self.prefix}backup"

    @property
    def store(self) -> MinioStore:
        return MinioStore(
            settings=self.settings,
            source=self.origin,
            target=self.target_store,
            bucket=self.bucket,
            clock=lambda: self.now,
        )

    def beat(self) -> None:
        body = f'{{"at": "{format_time(self.now)}"}}'.encode()
        self.source.put_object(Bucket=self.settings.heartbeat_bucket, Key="heartbeat.json", Body=body)

    def backup(self, kind: BackupKind) -> port.TakenBackup:
        self.now += timedelta(minutes=1)
        self.beat()
        return self.store.backup(kind, now=self.now, progress=port.silent)

    def tested(self, taken: port.TakenBackup) -> port.TestedRestore:
        point = RecoveryPoint(
            id=taken.point,
            component=Component.MINIO,
            kind=BackupKind.FULL,
            run_id="test",
            started=taken.recoverable_at,
            recoverable_at=taken.recoverable_at,
            size_bytes=taken.size_bytes,
            inventory=taken.inventory,
            facts=taken.facts,
        )
        return self.store.restore_test(
            point, scratch=Path("unused"), now=self.now, stopwatch=port.Stopwatch(), progress=port.silent
        )

    def contents(self, bucket: str) -> dict[str, tuple[str, Attributes]]:
        """Key to ETag and attributes."""
        listed = list(self.origin.objects(bucket))
        with ThreadPoolExecutor(8) as pool:
            infos = list(pool.map(self.origin.info, [bucket] * len(listed), [item.key for item in listed]))
        return {item.key: (item.etag, info.attributes) for item, info in zip(listed, infos, strict=True)}


def failed(tested: port.TestedRestore) -> dict[str, str]:
    return {check.name: check.detail for check in tested.checks if not check.passed}


@pytest.fixture(scope="module")
def world(sandbox: Sandbox) -> Generator[World]:
    """Real files in MinIO, once for this module."""
    prefix = f"t{uuid.uuid4().hex[:8]}-"
    key = sandbox.aws().client("kms").create_key()["KeyMetadata"].get("Arn", "")
    origin, target_store = minio_store(sandbox), aws_store(sandbox, encryption_key=key)
    source, target = origin.client, target_store.client
    settings = MinioSettings(
        endpoint=sandbox.minio_url,
        buckets=(f"{prefix}heartbeat", f"{prefix}{DOCUMENTS}", f"{prefix}{LIBRARY}"),
        heartbeat_bucket=f"{prefix}heartbeat",
        part_bytes=8 * 1024 * 1024,
        bytes_in_flight=32 * 1024 * 1024,
        verify_share=1.0,
    )
    world = World(
        sandbox=sandbox,
        prefix=prefix,
        origin=origin,
        target_store=target_store,
        settings=settings,
        key=key,
        now=datetime.now(UTC).replace(microsecond=0),
    )
    source.create_bucket(Bucket=settings.heartbeat_bucket)
    target.create_bucket(Bucket=world.bucket)
    target.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Enabled"})
    load_minio(source, files=FILES, large_bytes=LARGE_BYTES, prefix=prefix)
    yield world
    erase(target, world.bucket)
    for name in source.list_buckets().get("Buckets", []):
        if name.get("Name", "").startswith(prefix):
            erase(source, name.get("Name", ""))


def test_full_change_increment_and_every_way_back(world: World) -> None:
    full = world.backup(BackupKind.FULL)
    first = world.contents(world.documents)
    assert full.facts[f"objects.{world.documents}"] == len(first)
    assert full.facts[f"objects.{world.library}"] == len(world.contents(world.library))
    assert full.facts["heartbeat"] == format_time(world.now)
    head = world.target.head_object(Bucket=world.bucket, Key=f"minio-data/{world.library}/{LARGE_KEY}")
    assert (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) == ("aws:kms", world.key)

    change = change_minio(world.source, share=0.05, prefix=world.prefix)
    increment = world.backup(BackupKind.INCREMENTAL)
    second = world.contents(world.documents)
    assert increment.depends_on == (full.point,)
    assert increment.bytes_transferred < full.bytes_transferred / 20
    for taken in (full, increment):
        tested = world.tested(taken)
        assert failed(tested) == {}
    assert [point.point for point in world.store.held_points()] == [full.point, increment.point]

    key = change.overwritten[0]
    one = RestoreRequest(point=full.point, selection=Selection(bucket=world.documents, key=key), overwrite_newer=True)
    assert world.store.restore(one).changes == {Change.REPLACE_NEWER: 1}
    assert world.contents(world.documents) == second | {key: first[key]}

    whole = RestoreRequest(
        point=full.point, selection=Selection(bucket=world.documents), overwrite_newer=True, exact=True
    )
    plan = world.store.plan_restore(whole)
    assert (plan.changes[Change.CREATE], plan.changes[Change.REMOVE]) == (len(change.deleted), len(change.added))
    assert world.contents(world.documents) == second | {key: first[key]}, "a plan changes nothing"
    assert world.store.restore(whole).changes == plan.changes
    assert world.contents(world.documents) == first
    assert world.store.restore(whole).changes == {Change.EQUAL: len(first)}

    elsewhere = RestoreRequest(
        point=increment.point, selection=Selection(bucket=world.documents), target_bucket=f"{world.prefix}copy"
    )
    assert world.store.restore(elsewhere).creates_bucket
    assert world.contents(f"{world.prefix}copy") == second
    library = RestoreRequest(
        point=full.point, selection=Selection(bucket=world.library), target_bucket=f"{world.prefix}copy-library"
    )
    assert world.store.restore(library).bytes_written == full.facts[f"bytes.{world.library}"]
    assert world.store.restore(library).bytes_written == 0
    again = world.backup(BackupKind.INCREMENTAL)
    assert again.facts[f"objects.{world.documents}"] == len(first)


def test_metadata_alone_is_carried(world: World) -> None:
    world.backup(BackupKind.FULL)
    key = sorted(world.contents(world.documents))[0]
    world.source.copy_object(
        Bucket=world.documents,
        Key=key,
        CopySource={"Bucket": world.documents, "Key": key},
        MetadataDirective="REPLACE",
        ContentType="text/x-changed",
        Metadata={"reviewed": "yes"},
    )
    taken = world.backup(BackupKind.INCREMENTAL)
    world.store.restore(
        RestoreRequest(
            point=taken.point,
            selection=Selection(bucket=world.documents, key=key),
            target_bucket=f"{world.prefix}metadata",
        )
    )
    _, attributes = world.contents(f"{world.prefix}metadata")[key]
    assert (attributes.content_type, attributes.metadata) == ("text/x-changed", {"reviewed": "yes"})


@pytest.mark.parametrize("large", [True, False])
def test_a_byte_flipped_at_rest_in_the_named_version_is_found_by_name(world: World, *, large: bool) -> None:
    taken = world.backup(BackupKind.FULL)
    bucket = world.library if large else world.documents
    key = LARGE_KEY if large else next(key for key in world.contents(bucket) if key.startswith("usr"))
    target_key = f"minio-data/{bucket}/{key}"
    version = world.target.head_object(Bucket=world.bucket, Key=target_key).get("VersionId", "")
    control = world.sandbox.aws_control
    flipped = control.flip_byte(world.bucket, target_key, version_id=version)
    assert f"{bucket}/{key}" in failed(world.tested(taken))["content"]
    # The second flip of the same byte puts it right again, for the tests that follow.
    control.flip_byte(world.bucket, target_key, version_id=version, offset=flipped.offset)
    assert failed(world.tested(taken)) == {}


def test_a_source_that_was_emptied_is_not_followed(world: World) -> None:
    world.backup(BackupKind.FULL)
    narrowed = replace(world, settings=replace(world.settings, buckets=(world.settings.heartbeat_bucket,)))
    before = len(list(world.target_store.versions(world.bucket)))
    with pytest.raises(RefusedError, match="are gone at the source"):
        narrowed.backup(BackupKind.INCREMENTAL)
    assert len(list(world.target_store.versions(world.bucket))) == before
    world.now = narrowed.now


def test_wrong_credentials_and_a_dead_endpoint_are_said_in_one_line(world: World, sandbox: Sandbox) -> None:
    refused = replace(world.store, source=minio_store(sandbox, secret_key="wrong-secret"))
    with pytest.raises(AccessDeniedError, match=sandbox.minio_url):
        refused.backup(BackupKind.FULL, now=world.now + timedelta(minutes=1), progress=port.silent)
    dead = replace(world.store, source=minio_store(sandbox, endpoint="https://localhost:1"))
    with pytest.raises(UnreachableError, match="https://localhost:1"):
        dead.backup(BackupKind.FULL, now=world.now + timedelta(minutes=1), progress=port.silent)
