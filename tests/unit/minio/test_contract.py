"""Both implementations of the port that need no server keep its contract."""

from typing import TYPE_CHECKING

import pytest

from aivo_backup.stores.minio.s3 import S3ObjectStore
from tests.unit.minio.contract import BUCKET, PAGE, ObjectStoreContract
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
