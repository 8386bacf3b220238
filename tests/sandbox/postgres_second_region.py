"""A second region for a lab's repository: bucket, key, replication, and an engine that knows nothing of the first."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3

from aivo_backup.stores.port import silent
from aivo_backup.stores.postgres.envelope import RegionKey, open_pass
from aivo_backup.stores.postgres.setup import make_envelope
from aivo_backup.stores.postgres.store import PostgresStore
from tests.sandbox.postgres_lab import Lab

if TYPE_CHECKING:
    from types_boto3_s3.literals import BucketLocationConstraintType
    from types_boto3_s3.type_defs import ReplicationRuleTypeDef


@dataclass(kw_only=True)
class SecondRegion:
    """The region and what is in it. ``aws`` is a session there."""

    lab: Lab
    aws: boto3.Session
    region: "BucketLocationConstraintType" = "us-west-2"
    key: str = field(default="", init=False)

    @property
    def bucket(self) -> str:
        return f"{self.lab.bucket}-there"

    def build(self) -> None:
        """Makes bucket, key and replication, and wraps the cipher pass as `init` does."""
        lab = self.lab
        kms = self.aws.client("kms")
        self.key = kms.create_key()["KeyMetadata"].get("Arn", "")
        self.aws.client("s3").create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": self.region}
        )
        lab.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        rule: ReplicationRuleTypeDef = {
            "ID": "all", "Priority": 1, "Status": "Enabled", "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Enabled"},
            "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
            "Destination": {
                "Bucket": f"arn:aws:s3:::{self.bucket}",
                "EncryptionConfiguration": {"ReplicaKmsKeyID": self.key},
            },
        }  # fmt: skip
        role = "arn:aws:iam::123456789012:role/replication"
        lab.s3.put_bucket_replication(Bucket=lab.bucket, ReplicationConfiguration={"Role": role, "Rules": [rule]})
        keys = {
            lab.region: RegionKey(kms=lab.kms, key=lab.kms_key),
            self.region: RegionKey(kms=kms, key=self.key),
        }
        make_envelope(lab.s3, bucket=lab.bucket, keys=keys, now=datetime.now(UTC), progress=silent)

    def cipher_pass(self, bucket: str) -> str:
        """The repository's pass, opened with this region's key."""
        return open_pass(self.aws.client("s3"), bucket=bucket, region=self.region, kms=self.aws.client("kms"))

    def store(self) -> PostgresStore:
        """The engine on the copy, which is given nothing of the home region."""
        access = replace(
            self.lab.access,
            bucket=self.bucket,
            region=self.region,
            kms_key=self.key,
            cipher_pass=lambda: self.cipher_pass(self.bucket),
            behind_sidecar=False,
        )
        return self.lab.store(access=access, s3=self.aws.client("s3"))

    def lose_home(self) -> None:
        """Every version of every object of the home bucket is gone."""
        s3, bucket = self.lab.s3, self.lab.bucket
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for entry in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                s3.delete_object(Bucket=bucket, Key=entry.get("Key", ""), VersionId=entry.get("VersionId", ""))
