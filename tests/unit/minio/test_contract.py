"""Every implementation of the port keeps its contract; the sandbox's tests hold the real MinIO to it."""

from typing import TYPE_CHECKING

import boto3
import pytest
import urllib3

from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.minio.lean import LeanS3ObjectStore
from aivo_backup.stores.minio.objects import Attributes
from aivo_backup.stores.minio.s3 import S3ObjectStore
from tests.unit.minio.contract import BUCKET, PAGE, ObjectStoreContract, put
from tests.unit.minio.memory import MemoryStore

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


class TestMemory(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.create_bucket(BUCKET)
        return store


class TestS3(ObjectStoreContract):
    """The adapter, against moto in this process."""

    # Moto looks at the conditions of whole writes alone.
    looks_at_conditions_of_uploads = False

    @pytest.fixture
    def store(self, s3: "S3Client") -> S3ObjectStore:
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        return S3ObjectStore(s3, encryption_key="arn:aws:kms:us-east-1:123456789012:key/minio", page=PAGE)

    def test_everything_is_written_under_the_key(self, s3: "S3Client", store: S3ObjectStore) -> None:
        self.test_attributes_come_back_as_they_were_given(store)
        for key in ("whole", "parts"):
            head = s3.head_object(Bucket=BUCKET, Key=key)
            assert head.get("ServerSideEncryption") == "aws:kms"
            assert head.get("SSEKMSKeyId") == "arn:aws:kms:us-east-1:123456789012:key/minio"


class TestLeanS3(ObjectStoreContract):
    """The adapter without boto3, over a socket to moto."""

    looks_at_conditions_of_uploads = False

    @pytest.fixture
    def store(self, endpoint: str) -> LeanS3ObjectStore:
        session = boto3.Session("id", "secret", region_name="us-east-1")
        urllib3.request("POST", f"{endpoint}/moto-api/reset")
        client = s3_client(session, endpoint_url=endpoint)
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        return LeanS3ObjectStore(
            client, session=session, encryption_key="arn:aws:kms:us-east-1:123456789012:key/minio", page=PAGE
        )

    def test_everything_is_written_under_the_key(self, store: LeanS3ObjectStore) -> None:
        self.test_attributes_come_back_as_they_were_given(store)
        for key in ("whole", "parts"):
            head = store.client.head_object(Bucket=BUCKET, Key=key)
            assert head.get("ServerSideEncryption") == "aws:kms"
            assert head.get("SSEKMSKeyId") == "arn:aws:kms:us-east-1:123456789012:key/minio"

    def test_metadata_in_another_encoding_comes_back_byte_for_byte(self, store: LeanS3ObjectStore) -> None:
        """Some clients send UTF-8, which HTTP reads as Latin-1; boto3 would refuse to send it again."""
        attributes = Attributes(content_type="text/plain", metadata={"who": "J\u00c3\u00bcrgen"})
        put(store, "key", b"", attributes)
        assert store.info(BUCKET, "key").attributes == attributes
