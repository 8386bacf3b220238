"""Bucket policies. All of them only deny, but for the log bucket: what is allowed, role policies allow."""

from collections.abc import Sequence

from aivo_backup.policy.names import ACCESS_LOGS_PREFIX, RECORDS_PREFIX, REPORTS_PREFIX
from infra.documents import ANYONE, Statement, document

_PUT = ("s3:PutObject",)


def data_bucket_policy(bucket: str, key_arn: str) -> str:
    """The policy of a component's bucket."""
    return document([*_transport(bucket), *_encryption(bucket, key_arn)])


def compliance_bucket_policy(bucket: str, key_arn: str, *, lock_days: int) -> str:
    """The policy of the compliance bucket: records are written once, and no lock is longer than was promised."""
    objects = f"arn:aws:s3:::{bucket}/*"
    evidence = tuple(f"arn:aws:s3:::{bucket}/{prefix}*" for prefix in (RECORDS_PREFIX, REPORTS_PREFIX))
    return document(
        [
            *_transport(bucket),
            *_encryption(bucket, key_arn),
            Statement(
                sid="WriteRecordsOnce",
                effect="Deny",
                principals=ANYONE,
                actions=_PUT,
                resources=evidence,
                # S3 counts only requests that create an object; the parts of a multipart upload carry no condition.
                conditions={"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
            ),
            Statement(
                sid="NoDeleteMarkers",
                effect="Deny",
                principals=ANYONE,
                # After a delete marker, a second write-once put of the same key would succeed.
                actions=("s3:DeleteObject",),
                resources=evidence,
            ),
            Statement(
                sid="NoLockBeyondRetention",
                effect="Deny",
                principals=ANYONE,
                actions=("s3:PutObjectRetention",),
                resources=(objects,),
                conditions={"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": str(lock_days)}},
            ),
        ]
    )


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
            conditions={"Null": {key_header: "false"}, "StringNotEquals": {key_header: key_arn}},
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
