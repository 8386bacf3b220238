"""Bucket policies. They only deny, but for the deliveries of AWS's own logs: what is allowed, role policies allow."""

from collections.abc import Sequence

from aivo_backup.policy.names import ACCESS_LOGS_PREFIX, Role, role_arn, trail_name
from infra.documents import ANYONE, Statement, document
from infra.settings import Settings

_PUT = ("s3:PutObject",)


def data_bucket_policy(bucket: str, key_arn: str) -> str:
    """The policy of a component's bucket."""
    return document([*_transport(bucket), *_encryption(bucket, key_arn)])


def locked_bucket_policy(bucket: str, key_arn: str, *, lock_days: int) -> str:
    """The policy of a locked bucket: objects are written once, and no lock is longer than was promised."""
    objects = (f"arn:aws:s3:::{bucket}/*",)
    write_once = Statement(
        sid="WriteOnce",
        effect="Deny",
        principals=ANYONE,
        actions=_PUT,
        resources=objects,
        # S3 counts only requests that create an object; the parts of a multipart upload carry no condition.
        conditions={"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    )
    return document(
        [*_transport(bucket), *_encryption(bucket, key_arn), write_once, *_kept_as_promised(bucket, lock_days)]
    )


def audit_bucket_policy(settings: Settings, bucket: str, key_arn: str, *, lock_days: int) -> str:
    """The policy of the audit bucket: CloudTrail writes, for our trail only."""
    trail = trail_arn(settings)
    own_trail = {"StringEquals": {"aws:SourceArn": trail, "aws:SourceAccount": settings.account_id}}
    cloudtrail = {"Service": "cloudtrail.amazonaws.com"}
    return document(
        [
            *_transport(bucket),
            *_encryption(bucket, key_arn),
            *_kept_as_promised(bucket, lock_days),
            Statement(
                sid="TrailLooksAtTheBucket",
                principals=cloudtrail,
                actions=("s3:GetBucketAcl",),
                resources=(f"arn:aws:s3:::{bucket}",),
                conditions=own_trail,
            ),
            Statement(
                sid="TrailDelivery",
                principals=cloudtrail,
                actions=_PUT,
                resources=(f"arn:aws:s3:::{bucket}/AWSLogs/{settings.account_id}/*",),
                conditions=own_trail,
            ),
        ]
    )


def replica_bucket_policy(settings: Settings, bucket: str, key_arn: str, *, readers: Sequence[Role]) -> str:
    """The policy of a copy: S3's replication writes it, and nobody else.

    Args:
        readers: the home account's roles that restore from it.
    """
    statements = [
        *_transport(bucket),
        *_encryption(bucket, key_arn),
        Statement(
            sid="OnlyReplicationWrites",
            effect="Deny",
            principals=ANYONE,
            # Replication has actions of its own (s3:ReplicateObject), which this leaves alone.
            actions=("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"),
            resources=(f"arn:aws:s3:::{bucket}/*",),
        ),
    ]
    if settings.replica.account_id:
        statements += _copies_from_home(settings, bucket, readers)
    return document(statements)


def _copies_from_home(settings: Settings, bucket: str, readers: Sequence[Role]) -> list[Statement]:
    """A bucket of another account lets our replication in, and who restores; within one account the roles' own policies
    are enough."""
    replicator = role_arn(settings.account_id, settings.environment, Role.REPLICATOR)
    home = {"AWS": f"arn:aws:iam::{settings.account_id}:root"}
    only = {"ArnEquals": {"aws:PrincipalArn": replicator}}
    restoring = tuple(role_arn(settings.account_id, settings.environment, role) for role in readers)
    return [
        Statement(
            sid="CopiesFromHome",
            principals=home,
            actions=(
                "s3:ObjectOwnerOverrideToBucketOwner",
                "s3:ReplicateDelete",
                "s3:ReplicateObject",
                "s3:ReplicateTags",
            ),
            resources=(f"arn:aws:s3:::{bucket}/*",),
            conditions=only,
        ),
        Statement(
            sid="VersioningIsLookedAt",
            principals=home,
            actions=("s3:GetBucketVersioning",),
            resources=(f"arn:aws:s3:::{bucket}",),
            conditions=only,
        ),
        Statement(
            sid="ReadFromHome",
            principals=home,
            actions=(
                "s3:GetBucketLocation",
                "s3:GetObject",
                "s3:GetObjectVersion",
                "s3:ListBucket",
                "s3:ListBucketVersions",
            ),
            resources=(f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"),
            conditions={"ArnEquals": {"aws:PrincipalArn": restoring}},
        ),
    ]


def trail_arn(settings: Settings) -> str:
    """The ARN of the environment's trail."""
    name = trail_name(settings.environment)
    return f"arn:aws:cloudtrail:{settings.region}:{settings.account_id}:trail/{name}"


def log_bucket_policy(bucket: str, *, sources: Sequence[str], account_id: str) -> str:
    """The policy of the log bucket: S3's log delivery may write, on behalf of our own buckets only."""
    return document(
        [
            *_transport(bucket),
            Statement(
                sid="AccessLogDelivery",
                principals={"Service": "logging.s3.amazonaws.com"},
                actions=_PUT,
                resources=(f"arn:aws:s3:::{bucket}/{ACCESS_LOGS_PREFIX}*",),
                conditions={
                    "StringEquals": {"aws:SourceAccount": account_id},
                    "ArnEquals": {"aws:SourceArn": tuple(f"arn:aws:s3:::{source}" for source in sources)},
                },
            ),
        ]
    )


def _kept_as_promised(bucket: str, lock_days: int) -> list[Statement]:
    objects = (f"arn:aws:s3:::{bucket}/*",)
    return [
        Statement(
            sid="NoDeleteMarkers",
            effect="Deny",
            principals=ANYONE,
            # After a delete marker, a second write-once put of the same key would succeed.
            actions=("s3:DeleteObject",),
            resources=objects,
        ),
        Statement(
            sid="NoLockBeyondRetention",
            effect="Deny",
            principals=ANYONE,
            actions=("s3:PutObjectRetention",),
            resources=objects,
            conditions={"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": str(lock_days)}},
        ),
    ]


def _transport(bucket: str) -> list[Statement]:
    everything = (f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*")
    return [
        Statement(
            sid="OnlyOverTls",
            effect="Deny",
            principals=ANYONE,
            actions=("s3:*",),
            resources=everything,
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        ),
        Statement(
            sid="OnlyModernTls",
            effect="Deny",
            principals=ANYONE,
            actions=("s3:*",),
            resources=everything,
            conditions={"NumericLessThan": {"s3:TlsVersion": "1.2"}},
        ),
    ]


def _encryption(bucket: str, key_arn: str) -> list[Statement]:
    """Denies every encryption but our key.

    A request that names no key is let through: the bucket's default is our key. The ``Null`` tests are what lets it
    through, because a negated operator, with or without ``IfExists``, is true for a key that is absent.
    """
    objects = (f"arn:aws:s3:::{bucket}/*",)
    header = "s3:x-amz-server-side-encryption"
    key_header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    return [
        Statement(
            sid="NoOtherEncryption",
            effect="Deny",
            principals=ANYONE,
            actions=_PUT,
            resources=objects,
            conditions={"Null": {header: "false"}, "StringNotEquals": {header: "aws:kms"}},
        ),
        Statement(
            sid="NoOtherKey",
            effect="Deny",
            principals=ANYONE,
            actions=_PUT,
            resources=objects,
            conditions={"Null": {key_header: "false"}, "ArnNotEquals": {key_header: key_arn}},
        ),
        Statement(
            sid="NoCustomerProvidedKeys",
            effect="Deny",
            principals=ANYONE,
            # Objects under a key that only the caller has are lost to us: ransom attacks work this way.
            actions=_PUT,
            resources=objects,
            conditions={"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}},
        ),
    ]
