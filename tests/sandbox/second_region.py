"""A second region's copy of a bucket, and the loss of the first."""

from typing import TYPE_CHECKING, cast

import boto3

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.literals import BucketLocationConstraintType
    from types_boto3_s3.type_defs import ReplicationRuleTypeDef


def copy_to(home: "S3Client", home_bucket: str, *, there: boto3.Session, bucket: str, key: str) -> None:
    """Makes ``bucket`` in the region of ``there``, and has everything in the home bucket copied to it under ``key``."""
    region = cast("BucketLocationConstraintType", there.region_name)
    there.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    for client, name in ((home, home_bucket), (there.client("s3"), bucket)):
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rule: ReplicationRuleTypeDef = {
        "ID": "all", "Priority": 1, "Status": "Enabled", "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
        "Destination": {
            "Bucket": f"arn:aws:s3:::{bucket}",
            "EncryptionConfiguration": {"ReplicaKmsKeyID": key},
        },
    }  # fmt: skip
    role = "arn:aws:iam::123456789012:role/replication"
    home.put_bucket_replication(Bucket=home_bucket, ReplicationConfiguration={"Role": role, "Rules": [rule]})


def wipe(client: "S3Client", bucket: str) -> None:
    """Every version of every object of a bucket is gone."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            client.delete_object(
                Bucket=bucket,
                Key=entry.get("Key", ""),
                VersionId=entry.get("VersionId", ""),
                BypassGovernanceRetention=True,
            )
