"""A bucket of MinIO with a full backup, and `aivo-backup` as a person calls it on them."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aivo_backup.policy.environment import MinioSettings
from aivo_backup.stores.minio import LeanS3ObjectStore, MinioStore, RestoreRequest, Selection
from aivo_backup.stores.minio.reading import Patience
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, make_cli
from tests.sandbox.test_minio import erase, minio_store

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

PROGRAM = str(Path(sys.executable).with_name("aivo-backup"))
OBJECTS = 60
SMALL_BYTES = 20_000
LARGE_BYTES = 11 * 1024 * 1024 + 7
LARGE = "large.bin"
MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class World:
    """One source bucket with a full backup. Tests restore into buckets of their own, or put back what they change."""

    sandbox: Sandbox
    cli: Cli
    source: "S3Client"
    bucket: str
    settings: MinioSettings
    point: str

    def target(self, name: str) -> str:
        return f"{self.bucket}-{name}"

    def contents(self, bucket: str) -> dict[str, tuple[str, datetime]]:
        pages = self.source.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {
            entry.get("Key", ""): (entry.get("ETag", ""), entry.get("LastModified", datetime.now(UTC)))
            for page in pages
            for entry in page.get("Contents", [])
        }

    def bodies(self, bucket: str) -> dict[str, bytes]:
        keys = list(self.contents(bucket))

        def read(key: str) -> bytes:
            return self.source.get_object(Bucket=bucket, Key=key)["Body"].read()

        with ThreadPoolExecutor(8) as pool:
            return dict(zip(keys, pool.map(read, keys), strict=True))

    def restore(self, *arguments: str) -> tuple[str, ...]:
        return ("restore", "minio", "--bucket", self.bucket, *arguments)

    def answer(self, *arguments: str) -> Any:
        done = self.cli.call(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def changes(self, *arguments: str) -> dict[str, int]:
        answer = self.answer(*self.restore(*arguments))
        return answer["detail"]["changes"] if "detail" in answer else answer["changes"]

    def engine(self, *, backup: LeanS3ObjectStore, target: LeanS3ObjectStore, seconds: float) -> MinioStore:
        return MinioStore(
            settings=self.settings,
            source=target,
            target=backup,
            bucket=f"minio-{self.cli.folder.name}",
            clock=lambda: datetime.now(UTC),
            patience=Patience(seconds=seconds),
        )

    def request(self, target: str) -> RestoreRequest:
        return RestoreRequest(point=self.point, selection=Selection(bucket=self.bucket), target_bucket=target)


def new_world(sandbox: Sandbox, folder: Path) -> Generator[World]:
    """A bucket of a module's own, with a backup."""
    source = minio_store(sandbox).client
    bucket = f"c{secrets.token_hex(5)}"
    cli = make_cli(sandbox, folder)
    settings = MinioSettings(
        endpoint="https://minio",
        buckets=(bucket,),
        heartbeat_bucket=f"{bucket}-heartbeat",
        part_bytes=5 * MIB,
        bytes_in_flight=16 * MIB,
        transfers=4,
    )
    held = json.loads((cli.folder / "settings.json").read_text())
    cli.edit(
        "settings.json",
        minio={
            **held["minio"],
            "buckets": [bucket],
            "heartbeat_bucket": settings.heartbeat_bucket,
            "part_bytes": settings.part_bytes,
            "bytes_in_flight": settings.bytes_in_flight,
            "transfers": settings.transfers,
        },
    )
    for name in (bucket, settings.heartbeat_bucket):
        source.create_bucket(Bucket=name)
    source.put_object(Bucket=settings.heartbeat_bucket, Key="heartbeat.json", Body=b'{"at": "2026-01-01T00:00:00Z"}')

    def put(number: int) -> None:
        key = f"folder-{number % 3}/{number:04d}"
        source.put_object(Bucket=bucket, Key=key, Body=number.to_bytes(2, "big") * (SMALL_BYTES // 2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(OBJECTS)))
    source.put_object(Bucket=bucket, Key=LARGE, Body=os.urandom(LARGE_BYTES))
    done = cli.run("backup", "minio", "--type", "full")
    assert done.code == 0, done.err
    # The other store that is restored to: here the same server, under another secret's name.
    shutil.copytree(cli.folder / "secrets" / "minio-source", cli.folder / "secrets" / "elsewhere")
    point = json.loads(cli.call("points", "minio", "--json").stdout)[-1]["id"]
    yield World(sandbox=sandbox, cli=cli, source=source, bucket=bucket, settings=settings, point=point)
    for held_bucket in source.list_buckets().get("Buckets", []):
        if held_bucket.get("Name", "").startswith(bucket):
            erase(source, held_bucket.get("Name", ""))
