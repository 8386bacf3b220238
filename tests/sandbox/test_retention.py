"""The provisioned jobs that expire and prune, in their own pods, under their own roles, with IAM enforced.

PostgreSQL's repository is one of nine weeks, made without waiting for them (``tests/unit/retention/repository.py``) and
encrypted by pgBackRest itself. MinIO's points are named after moments
long past; for OpenSearch's, what is kept is shortened to nothing.
"""

import json
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import yaml

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Check, Expiry, Purpose, Restore, RunStatus
from aivo_backup.catalog.spool import Spool
from aivo_backup.errors import AccessDeniedError
from aivo_backup.policy.environment import BackupKind, Component, Environment
from aivo_backup.stores.minio import MinioStore, S3ObjectStore
from aivo_backup.stores.minio.points import point_name
from aivo_backup.stores.opensearch import PartialSnapshotError, connect
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.port import silent
from aivo_backup.stores.postgres.access import Credentials, RepositoryAccess
from aivo_backup.stores.postgres.envelope import RegionKey, open_pass
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.setup import make_envelope
from aivo_backup.stores.process import run
from sandbox import pods
from sandbox.servers.opensearch import OpenSearchProxy
from sandbox.state import Sandbox
from tests.sandbox.lone import JOB, Provisioned, write_job
from tests.sandbox.opensearch_world import made
from tests.unit.retention.histories import Author, History, Lucky
from tests.unit.retention.oracle import Promise, broken_promises, outlived
from tests.unit.retention.repository import data_files, info_files, left_of

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

FULL, INCREMENTAL = BackupKind.FULL, BackupKind.INCREMENTAL
DAYS = 63
_SETTINGS = "configmap-aivo-backup-settings.yaml"


@pytest.fixture
def lone(provisioned: Provisioned) -> Sandbox:
    return provisioned.sandbox


@contextmanager
def changed_settings(lone: Sandbox, **changes: Mapping[str, object]) -> Generator[None]:
    """Settings that every pod sees while the block runs."""
    file = lone.home / "kubernetes" / _SETTINGS
    before = file.read_text(encoding="utf-8")
    manifest = yaml.safe_load(before)
    settings = json.loads(manifest["data"]["settings.json"])
    for component, values in changes.items():
        settings[component] |= values
    manifest["data"]["settings.json"] = json.dumps(settings)
    file.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


def environment(lone: Sandbox) -> Environment:
    manifest = yaml.safe_load((lone.home / "kubernetes" / _SETTINGS).read_text(encoding="utf-8"))
    return Environment.from_json(json.loads(manifest["data"]["settings.json"]), where=_SETTINGS)


def catalog(lone: Sandbox, folder: Path) -> Catalog:
    settings = environment(lone)
    return Catalog(
        s3=lone.aws().client("s3"),
        evidence=settings.evidence,
        kms_key=settings.key("compliance"),
        spool=Spool(folder / "spool"),
    )


def keys(lone: Sandbox, bucket: str, prefix: str = "") -> set[str]:
    pages = lone.aws().client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry.get("Key", "") for page in pages for entry in page.get("Contents", [])}


def versions(lone: Sandbox, bucket: str, prefix: str = "") -> set[str]:
    """Keys of which a version is there, also below a delete marker."""
    pages = lone.aws().client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return {entry.get("Key", "") for page in pages for entry in page.get("Versions", [])}


def job(lone: Sandbox, name: str) -> str:
    done = pods.run_cronjob(lone, name)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def expired(lone: Sandbox, folder: Path, component: Component) -> Expiry:
    """The record that the run just left."""
    return catalog(lone, folder).expiries(component)[-1]


def forge(lone: Sandbox, history: History) -> None:
    """Puts a repository of that history into the provisioned bucket."""
    settings, aws = environment(lone), lone.aws()
    s3, kms, bucket = aws.client("s3"), aws.client("kms"), settings.bucket(Component.POSTGRES)
    key = settings.key(Component.POSTGRES)
    region = settings.region
    make_envelope(s3, bucket=bucket, keys={region: RegionKey(kms=kms, key=key)}, now=datetime.now(UTC), progress=silent)
    access = RepositoryAccess(
        bucket=bucket,
        region=region,
        kms_key=key,
        endpoint_url=lone.aws_url,
        ca_file=str(lone.ca_file),
        credentials=lambda: Credentials(
            key=lone.secret("aws-admin", "access-key-id"), secret=lone.secret("aws-admin", "secret-access-key")
        ),
        cipher_pass=lambda: open_pass(s3, bucket=bucket, region=region, kms=kms),
    )
    state = lone.home / "forged"
    pgbackrest = Runners(settings=settings.postgres, access=access, certificates=state, state=state).repository()
    for path, text in info_files(history, cipher_pass="of this test alone").items():
        done = run(pgbackrest.argv("repo-put", path), environment=pgbackrest.environment(), stdin=text)
        assert done.exit_code == 0, done.tail()
    inventories = [f"inventory/{entry.label}.json" for entry in history.sets if not entry.references]

    def put(path: str) -> None:
        s3.put_object(Bucket=bucket, Key=path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, [*data_files(history), *inventories]))


def test_postgresql_expire_keeps_what_is_promised_of_nine_weeks_and_nothing_else(lone: Sandbox, tmp_path: Path) -> None:
    author = Author(Lucky(), now=datetime.now(UTC).replace(microsecond=0) - timedelta(days=DAYS, minutes=1))
    for _ in range(DAYS):
        author.day()
    # One increment of the third week was restore-tested, and no other set.
    at = next(at for at, entry in enumerate(author.sets) if at > 14 and entry.references)
    author.sets[at] = proven = replace(author.sets[at], verified=True)
    history = replace(author.history(), now=datetime.now(UTC))
    forge(lone, history)
    test = Restore(
        id=f"postgres-test-{proven.label}",
        component=Component.POSTGRES,
        purpose=Purpose.TEST,
        recovery_point=proven.label,
        started=proven.ended + timedelta(hours=4),
        finished=proven.ended + timedelta(hours=4),
        target_time=proven.ended,
        checks=(Check(name="content", passed=True, detail="all of it"),),
    )
    catalog(lone, tmp_path).append(test)
    bucket = environment(lone).bucket(Component.POSTGRES)
    before = versions(lone, bucket)

    said = job(lone, "postgresql-expire")

    left = left_of(history, keys(lone, bucket))
    assert list(broken_promises(history, left, Promise())) == []
    assert list(outlived(history, left, Promise())) == []
    gone = {entry.label for entry in history.sets} - {entry.label for entry in left.sets}
    record = expired(lone, tmp_path, Component.POSTGRES)
    assert (record.status, set(record.removed), record.kept) == (RunStatus.SUCCEEDED, gone, len(left.sets))
    assert record.job == "postgresql-expire"
    assert proven in left.sets
    assert f"{len(gone)} gone, {len(left.sets)} stay" in said
    fulls = [entry for entry in left.sets if not entry.references]
    assert len(fulls) == 7 + 1, "seven, and the base of the proven one"
    assert keys(lone, bucket, "inventory/") == {f"inventory/{entry.label}.json" for entry in fulls}
    assert versions(lone, bucket) >= before, "nothing but delete markers"


def test_minio_prune_removes_manifests_whose_days_are_over_and_no_data(lone: Sandbox, tmp_path: Path) -> None:
    settings, s3 = environment(lone), lone.aws().client("s3")
    bucket = settings.bucket(Component.MINIO)
    for key in keys(lone, bucket, "metadata/minio/"):
        s3.delete_object(Bucket=bucket, Key=key)
    source = minio(lone)
    source.create_bucket(Bucket="papers")
    store = MinioStore(
        settings=replace(settings.minio, buckets=("papers",)),
        source=S3ObjectStore(source),
        target=S3ObjectStore(s3, encryption_key=settings.key(Component.MINIO)),
        bucket=bucket,
        clock=lambda: datetime.now(UTC),
    )
    now = datetime.now(UTC)
    taken: list[str] = []
    for hours, kind in ((31 * 24, FULL), (70, FULL), (60, INCREMENTAL), (1, INCREMENTAL)):
        source.put_object(Bucket="papers", Key=f"{hours} hours ago", Body=b"words")
        taken.append(store.backup(kind, now=now - timedelta(hours=hours), progress=silent).point)
    month, base, increment, newest = taken
    # What a run that was killed left: no summary, so no point. And something that no run has put there.
    dead = point_name(now - timedelta(days=2))
    s3.put_object(Bucket=bucket, Key=f"metadata/minio/{dead}/part-00000.jsonl.gz", Body=b"half")
    s3.put_object(Bucket=bucket, Key="metadata/minio/README.txt", Body=b"not ours")
    data, everything = keys(lone, bucket, "minio-data/"), versions(lone, bucket)

    job(lone, "minio-prune")

    left = {key.split("/")[2] for key in keys(lone, bucket, "metadata/minio/")}
    assert left == {base, newest, "README.txt"}
    record = expired(lone, tmp_path, Component.MINIO)
    assert (record.status, set(record.removed), record.kept) == (RunStatus.SUCCEEDED, {month, increment, dead}, 2)
    assert keys(lone, bucket, "minio-data/") == data
    assert versions(lone, bucket) >= everything, "nothing but delete markers"
    assert [point.point for point in store.held_points()] == [base, newest]


def test_opensearch_prune_deletes_what_retention_and_failed_runs_left(
    sandbox: Sandbox, lone: Sandbox, tmp_path: Path
) -> None:
    with made(sandbox) as world, proxied(sandbox, lone):
        red = f"{world.prefix}-red"
        nowhere = {"settings": {"number_of_replicas": 0, "index.routing.allocation.require._name": "nowhere"}}
        world.client.indices.create(index=red, body=nowhere, params={"wait_for_active_shards": "0"})
        with pytest.raises(PartialSnapshotError):
            world.backup(INCREMENTAL)
        world.cluster.delete(red, what="test")
        older, newest = world.backup(INCREMENTAL).id, world.backup(INCREMENTAL).id
        repository = world.settings.repository
        as_writer = Cluster(connect(lone.opensearch_url, str(lone.ca_file), *login(lone, "opensearch")))
        with pytest.raises(AccessDeniedError):
            as_writer.delete("_snapshot", repository, older, what="as the writer")
        settings = {name: value for name, value in asdict(world.settings).items() if name != "endpoint"}
        with changed_settings(lone, opensearch={**settings, "increment_retention_hours": 0}):
            job(lone, "opensearch-prune")
        listed = world.cluster.get("_snapshot", repository, "_all", what="test")["snapshots"]
        assert [entry["snapshot"] for entry in listed] == [newest]
    record = expired(lone, tmp_path, Component.OPENSEARCH)
    assert (record.status, record.kept) == (RunStatus.SUCCEEDED, 1)
    assert record.removed[1:] == (older,), "the partial one first"


def test_a_writers_identity_cannot_remove_a_manifest_and_the_expirers_cannot_remove_data(lone: Sandbox) -> None:
    bucket = environment(lone).bucket(Component.MINIO)
    s3 = lone.aws().client("s3")
    endpoint = {"AWS_ENDPOINT_URL": lone.aws_url, "AWS_CA_BUNDLE": str(lone.ca_file)}
    for template, kept, removed in (
        ("minio-backup", "metadata/minio/x", "minio-data/x"),
        ("minio-prune", "minio-data/x", "metadata/minio/x"),
    ):
        for key in (kept, removed):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        # One at a time: of the many keys of one request, the stand-in judges none by itself.
        tries = "".join(
            f"import boto3\ntry:\n boto3.client('s3').delete_object(Bucket='{bucket}', Key='{key}')\n"
            f"except Exception as error:\n print('{key}', error)\n"
            for key in (kept, removed)
        )
        write_job(lone, f'python -c "{tries}"', template=template)
        done = pods.run_cronjob(lone, JOB, endpoint)
        assert done.exit_code == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()] == [kept]
        assert "AccessDenied" in done.stdout
        assert keys(lone, bucket) & {kept, removed} == {kept}
        s3.delete_object(Bucket=bucket, Key=kept)


def minio(lone: Sandbox) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=lone.minio_url,
        verify=str(lone.ca_file),
        region_name="us-east-1",
        aws_access_key_id=lone.secret("minio-source", "access-key"),
        aws_secret_access_key=lone.secret("minio-source", "secret-key"),
    )


@contextmanager
def proxied(sandbox: Sandbox, lone: Sandbox) -> Generator[None]:
    """The lone sandbox's own proxy, with its logins and certificates, before the shared OpenSearch."""
    lone.remember(ports=asdict(replace(lone.ports, opensearch_direct=sandbox.ports.opensearch_direct)))
    lone.__dict__.pop("ports")
    endpoints = lone.endpoints_file.read_text(encoding="utf-8")
    proxy = OpenSearchProxy(lone)
    proxy.up()
    lone.endpoints_file.write_text(json.dumps({**json.loads(endpoints), "opensearch": lone.opensearch_url}))
    try:
        yield
    finally:
        proxy.stop()
        lone.endpoints_file.write_text(endpoints, encoding="utf-8")


def login(lone: Sandbox, secret: str) -> tuple[str, str]:
    return lone.secret(secret, "username"), lone.secret(secret, "password")
