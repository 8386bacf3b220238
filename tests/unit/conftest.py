"""What unit tests share: AWS in this process, a clock that is set by hand, and a store that is told what to do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from moto.moto_server.threaded_moto_server import ThreadedMotoServer  # pyright: ignore[reportMissingTypeStubs] - moto types itself, and says so only of some modules

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.spool import Spool
from aivo_backup.policy.environment import EvidenceSettings, LockMode

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

EVIDENCE = EvidenceSettings(bucket="aivo-backup-compliance", lock_mode=LockMode.GOVERNANCE, lock_days=1)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> "Iterator[S3Client]":
    # What leads elsewhere: a variable, and a file that names an endpoint.
    for variable in (
        "AWS_ENDPOINT_URL",
        "AWS_CA_BUNDLE",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    ):
        monkeypatch.delenv(variable, raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=EVIDENCE.bucket, ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket="aivo-backup-postgres")
        yield client


@pytest.fixture(scope="session")
def endpoint() -> "Iterator[str]":
    """moto on a port of its own, with the state of this process: for clients other than boto3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def catalog(s3: "S3Client", spool: Spool) -> Catalog:
    return Catalog(s3=s3, evidence=EVIDENCE, kms_key="alias/aws/s3", spool=spool)
