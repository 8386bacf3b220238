"""Buckets and what is set on them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sandbox.provision.resources import Clients, Document, Realiser, Resource
from sandbox.provision.weakening import weakened_bucket_policy
from sandbox.provision.words import api_form, json_form, tag_list, tag_map

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

# S3 refuses to hear the name of this one region when a bucket is made.
_UNNAMED_REGION = "us-east-1"
_ABSENT = {
    "404",
    "NoSuchBucket",
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchTagSet",
    "ObjectLockConfigurationNotFoundError",
    "OwnershipControlsNotFoundError",
    "ReplicationConfigurationNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
}


class Bucket(Realiser):
    """A bucket with its tags; Object Lock can only be had from the start."""

    kind = "aws:s3/bucket:Bucket"

    def name(self, resource: Resource) -> str:
        return resource.text("bucket")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"tags": resource.tags}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        name = self.name(resource)
        if _unless_absent(lambda: aws.s3.head_bucket(Bucket=name)) is None:
            return None
        tagging = _unless_absent(lambda: aws.s3.get_bucket_tagging(Bucket=name))
        return {"tags": tag_map(tagging["TagSet"] if tagging else [])}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        name = self.name(resource)
        if current is None:
            locked = bool(resource.inputs.get("objectLockEnabled", False))
            if aws.region == _UNNAMED_REGION:
                aws.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
            else:
                where: Any = {"LocationConstraint": aws.region}
                aws.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked, CreateBucketConfiguration=where)
        if wanted["tags"]:
            aws.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tag_list(wanted["tags"])})
        else:
            aws.s3.delete_bucket_tagging(Bucket=name)

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        return name, {
            "arn": f"arn:aws:s3:::{name}",
            "region": aws.region,
            "bucketDomainName": f"{name}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{name}.s3.{aws.region}.amazonaws.com",
        }


@dataclass(frozen=True, kw_only=True)
class BucketSetting(Realiser):
    """One thing that is set on a bucket: its own resource in the program, one get and one put in the API.

    Attributes:
        wants: the program's properties to the API's form.
        gets: what is set on a bucket, in the same form; raises S3's own error when nothing is.
        puts: sets it.
    """

    kind: str
    wants: Callable[[Resource], Any]
    gets: "Callable[[S3Client, str], Any]"
    puts: "Callable[[S3Client, str, Any], object]"

    def name(self, resource: Resource) -> str:
        return resource.text("bucket")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"setting": self.wants(resource)}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        held = _unless_absent(lambda: self.gets(aws.s3, self.name(resource)))
        return {"setting": held} if held else None

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        self.puts(aws.s3, self.name(resource), wanted["setting"])

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return self.name(resource), {}


class Replication(BucketSetting):
    """Replication rules. The sandbox's AWS API keeps all of a rule, carries all of it out, and shows a part."""

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        self.puts(aws.s3, self.name(resource), _replication(resource))


def _unless_absent(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _ABSENT:
            return None
        raise


def _lifecycle_rules(resource: Resource) -> list[Document]:
    rules: list[Document] = api_form(resource.inputs["rules"])
    return [{**rule, "Filter": rule.get("Filter") or {"Prefix": ""}} for rule in rules]


def _encryption_rules(resource: Resource) -> list[Document]:
    rules: list[Document] = api_form(resource.inputs["rules"])
    # The sandbox's AWS API does not keep which encryption a bucket refuses; bucket policies say it too.
    held = ("ApplyServerSideEncryptionByDefault", "BucketKeyEnabled")
    return [{"BucketKeyEnabled": False} | {key: rule[key] for key in held if key in rule} for rule in rules]


def _object_lock(resource: Resource) -> Document:
    lock: Document = {"ObjectLockEnabled": resource.inputs.get("objectLockEnabled") or "Enabled"}
    rule = resource.inputs.get("rule")
    return {**lock, "Rule": api_form(rule)} if rule else lock


def _held_object_lock(s3: "S3Client", bucket: str) -> Document:
    held: Document = dict(s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"])
    # The unit that is not used comes back as 0; a bucket that only could be locked, with no unit at all.
    retention = {key: value for key, value in held.pop("Rule", {}).get("DefaultRetention", {}).items() if value}
    return {**held, "Rule": {"DefaultRetention": retention}} if retention else {}


def _replication(resource: Resource) -> Document:
    return {"Role": resource.text("role"), "Rules": api_form(resource.inputs["rules"])}


def _shown(configuration: Any) -> Document:
    hidden = ("DeleteMarkerReplication", "SourceSelectionCriteria")
    rules = [{key: value for key, value in rule.items() if key not in hidden} for rule in configuration["Rules"]]
    return {"Role": configuration["Role"], "Rules": rules}


def _logging(resource: Resource) -> Document:
    return {"TargetBucket": resource.text("targetBucket"), "TargetPrefix": resource.inputs.get("targetPrefix") or ""}


def _public_access(resource: Resource) -> dict[str, bool]:
    names = ("blockPublicAcls", "ignorePublicAcls", "blockPublicPolicy", "restrictPublicBuckets")
    return {name[:1].upper() + name[1:]: bool(resource.inputs.get(name, False)) for name in names}


REALISERS: tuple[Realiser, ...] = (
    Bucket(),
    BucketSetting(
        kind="aws:s3/bucketVersioning:BucketVersioning",
        wants=lambda resource: resource.inputs["versioningConfiguration"]["status"],
        gets=lambda s3, bucket: s3.get_bucket_versioning(Bucket=bucket).get("Status"),
        puts=lambda s3, bucket, status: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": status}
        ),
    ),
    BucketSetting(
        kind="aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        wants=_encryption_rules,
        gets=lambda s3, bucket: s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"],
        puts=lambda s3, bucket, rules: s3.put_bucket_encryption(
            Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules}
        ),
    ),
    BucketSetting(
        kind="aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        wants=_lifecycle_rules,
        gets=lambda s3, bucket: s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"],
        puts=lambda s3, bucket, rules: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": rules}
        ),
    ),
    BucketSetting(
        kind="aws:s3/bucketPolicy:BucketPolicy",
        wants=lambda resource: weakened_bucket_policy(json_form(resource.inputs["policy"])),
        gets=lambda s3, bucket: json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]),
        puts=lambda s3, bucket, policy: s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy)),
    ),
    BucketSetting(
        kind="aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        wants=_public_access,
        gets=lambda s3, bucket: s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"],
        puts=lambda s3, bucket, block: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block),
    ),
    BucketSetting(
        kind="aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        wants=lambda resource: [api_form(resource.inputs["rule"])],
        gets=lambda s3, bucket: s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"],
        puts=lambda s3, bucket, rules: s3.put_bucket_ownership_controls(
            Bucket=bucket, OwnershipControls={"Rules": rules}
        ),
    ),
    BucketSetting(
        kind="aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration",
        wants=_object_lock,
        gets=_held_object_lock,
        puts=lambda s3, bucket, lock: s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock),
    ),
    Replication(
        kind="aws:s3/bucketReplicationConfig:BucketReplicationConfig",
        wants=lambda resource: _shown(_replication(resource)),
        gets=lambda s3, bucket: _shown(s3.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]),
        puts=lambda s3, bucket, rules: s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=rules),
    ),
    BucketSetting(
        kind="aws:s3/bucketLogging:BucketLogging",
        wants=_logging,
        gets=lambda s3, bucket: s3.get_bucket_logging(Bucket=bucket).get("LoggingEnabled"),
        puts=lambda s3, bucket, target: s3.put_bucket_logging(
            Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": target}
        ),
    ),
)
