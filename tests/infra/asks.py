"""What each role asks of AWS in its work, and what nobody may: one table for both judges.

``tests/infra/test_identity.py`` puts every entry to the policy evaluator, with the original documents of production;
``tests/sandbox/test_identity.py`` sends it for real, under the role's own session.
"""

from dataclasses import dataclass, field

from aivo_backup.policy.names import Role


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request of a role, against a bucket's object, a bucket, or a component's key."""

    action: str
    use: str
    key: str = ""
    context: dict[str, str] = field(default_factory=dict[str, str])


KMS_HEADER = "s3:x-amz-server-side-encryption"
KEY_HEADER = "s3:x-amz-server-side-encryption-aws-kms-key-id"
ONCE = {"s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
VIA_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com", "kms:CallerAccount": "333333333333"}
CIPHER = {"kms:EncryptionContext:aivo-backup": "pgbackrest-cipher-pass"}
RECORD = "records/backup-run/dt=2026-11-23/x.json"


def put(use: str, key: str, **context: str) -> Ask:
    """A request to store an object."""
    return Ask(action="s3:PutObject", use=use, key=key, context=dict(context))


_FILES_RECORD = (
    Ask(action="s3:PutObject", use="compliance", key=RECORD, context=ONCE),
    Ask(action="s3:PutObjectRetention", use="compliance", key=RECORD),
    Ask(action="kms:GenerateDataKey", use="compliance", context=VIA_S3),
)
_READS = tuple(
    ask
    for use in ("postgres", "minio", "opensearch")
    for ask in (
        Ask(action="s3:ListBucket", use=use),
        Ask(action="s3:GetObject", use=use, key="any/key"),
        Ask(action="s3:GetObjectVersion", use=use, key="any/key"),
        Ask(action="kms:Decrypt", use=use, context=VIA_S3),
    )
)
_READS_CATALOG = (
    Ask(action="s3:ListBucket", use="compliance"),
    Ask(action="s3:GetObject", use="compliance", key=RECORD),
    Ask(action="kms:Decrypt", use="compliance", context=VIA_S3),
)
_UNWRAPS = Ask(action="kms:Decrypt", use="postgres", context=CIPHER)

NEEDS: dict[Role, tuple[Ask, ...]] = {
    Role.POSTGRES_WRITER: (
        Ask(action="s3:ListBucket", use="postgres"),
        Ask(action="s3:GetObject", use="postgres", key="archive/aivo-postgres/archive.info"),
        Ask(action="s3:GetObject", use="postgres", key="envelope/cipher-pass.json"),
        put("postgres", "backup/aivo-postgres/20261123-010000F/backup.manifest"),
        put("postgres", "leases/postgres"),
        Ask(action="s3:AbortMultipartUpload", use="postgres", key="backup/aivo-postgres/x"),
        Ask(action="s3:DeleteObject", use="postgres", key="backup/aivo-postgres/20261123-010000F/leftover"),
        Ask(action="kms:GenerateDataKey", use="postgres", context=VIA_S3),
        _UNWRAPS,
        *_FILES_RECORD,
    ),
    Role.POSTGRES_ARCHIVER: (
        Ask(action="s3:ListBucket", use="postgres"),
        Ask(action="s3:GetObject", use="postgres", key="archive/aivo-postgres/archive.info"),
        put("postgres", "archive/aivo-postgres/15-1/0000000100000000/segment.zst"),
        Ask(action="s3:GetObject", use="postgres", key="backup/aivo-postgres/20261123-010000F/backup.manifest"),
        Ask(action="s3:GetObject", use="postgres", key="inventory/20261123-010000F.json"),
        Ask(action="kms:GenerateDataKey", use="postgres", context=VIA_S3),
        _UNWRAPS,
    ),
    Role.MINIO_WRITER: (
        Ask(action="s3:ListBucket", use="minio"),
        Ask(action="s3:GetObject", use="minio", key="metadata/minio/20261123_030000/manifest"),
        put("minio", "minio-data/bucket/key"),
        put("minio", "minio-long/0123"),
        put("minio", "metadata/minio/20261123_030000/manifest"),
        put("minio", "leases/minio"),
        Ask(action="s3:DeleteObject", use="minio", key="minio-data/bucket/key"),
        *_FILES_RECORD,
    ),
    Role.OPENSEARCH_WRITER: (
        Ask(action="s3:ListBucket", use="opensearch"),
        Ask(action="s3:GetObject", use="opensearch", key="leases/opensearch"),
        put("opensearch", "leases/opensearch"),
        *_FILES_RECORD,
    ),
    Role.OPENSEARCH_STORE: (
        Ask(action="s3:ListBucket", use="opensearch"),
        put("opensearch", "snapshots/index-1"),
        Ask(action="s3:DeleteObject", use="opensearch", key="snapshots/indices/x/0/__y"),
        Ask(action="kms:GenerateDataKey", use="opensearch", context=VIA_S3),
    ),
    Role.AGENT: (
        Ask(action="s3:ListBucket", use="postgres"),
        *(
            Ask(action=action, use=use)
            for use in ("postgres", "minio", "opensearch", "compliance")
            for action in ("kms:DescribeKey", "kms:ListGrants")
        ),
        *_READS_CATALOG,
        *_FILES_RECORD,
    ),
    Role.POSTGRES_EXPIRER: (
        Ask(action="s3:ListBucket", use="postgres"),
        Ask(action="s3:GetObject", use="postgres", key="backup/aivo-postgres/backup.info"),
        Ask(action="s3:GetObject", use="postgres", key="archive/aivo-postgres/15-1/00000002.history"),
        Ask(action="s3:GetObject", use="postgres", key="envelope/cipher-pass.json"),
        put("postgres", "backup/aivo-postgres/backup.info"),
        put("postgres", "leases/postgres"),
        Ask(action="s3:DeleteObject", use="postgres", key="backup/aivo-postgres/20261123-010000F/backup.manifest"),
        Ask(action="s3:DeleteObject", use="postgres", key="archive/aivo-postgres/15-1/0000000100000000/segment.zst"),
        Ask(action="s3:DeleteObject", use="postgres", key="inventory/20261123-010000F.json"),
        _UNWRAPS,
        *_READS_CATALOG,
        *_FILES_RECORD,
    ),
    Role.MINIO_EXPIRER: (
        Ask(action="s3:ListBucket", use="minio"),
        Ask(action="s3:GetObject", use="minio", key="metadata/minio/20261123_030000/summary.json"),
        put("minio", "leases/minio"),
        Ask(action="s3:DeleteObject", use="minio", key="metadata/minio/20261123_030000/summary.json"),
        *_READS_CATALOG,
        *_FILES_RECORD,
    ),
    Role.OPENSEARCH_EXPIRER: (
        Ask(action="s3:ListBucket", use="opensearch"),
        put("opensearch", "leases/opensearch"),
        *_READS_CATALOG,
        *_FILES_RECORD,
    ),
    Role.INITIALISER: (
        Ask(action="s3:ListBucket", use="postgres"),
        put("postgres", "envelope/cipher-pass.json"),
        put("postgres", "archive/aivo-postgres/archive.info"),
        put("postgres", "backup/aivo-postgres/backup.info"),
        Ask(action="kms:Encrypt", use="postgres", context=CIPHER),
        _UNWRAPS,
    ),
    Role.VERIFIER: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.RESTORE_TESTER: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.DRILLER: (
        *_READS,
        _UNWRAPS,
        *_READS_CATALOG,
        *_FILES_RECORD,
        put("dr-documents", "review/20270104T090000Z/review.md", **ONCE),
    ),
    Role.REGISTRAR: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.RESTORER: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.REPORTER: (
        *_READS_CATALOG,
        *_FILES_RECORD,
        Ask(action="s3:PutObject", use="compliance", key="reports/daily/x/report.html", context=ONCE),
    ),
    Role.SCHEDULER: (),
    Role.SECURITY_FORWARDER: (),
    Role.REPLICATOR: (
        *(Ask(action="s3:GetObjectVersionForReplication", use=use, key="any/key") for use in ("minio", "vault")),
        *(Ask(action="kms:Decrypt", use=use, context=VIA_S3) for use in ("minio", "compliance")),
    ),
}


USES = ("postgres", "minio", "opensearch", "compliance")
ATTACKS: tuple[Ask, ...] = (
    *(
        Ask(action=action, use=use, key="any/key")
        for use in USES
        for action in (
            "s3:BypassGovernanceRetention",
            "s3:DeleteObjectVersion",
            "s3:PutObjectAcl",
            "s3:PutObjectLegalHold",
        )
    ),
    *(
        Ask(action=action, use=use)
        for use in USES
        for action in (
            "s3:DeleteBucket",
            "s3:DeleteBucketPolicy",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutBucketPolicy",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
        )
    ),
    *(
        Ask(action=action, use=use, context=VIA_S3)
        for use in (*USES, "operations")
        for action in ("kms:CreateGrant", "kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion")
    ),
    # Evidence: hiding a record, and filing where none belongs.
    Ask(action="s3:DeleteObject", use="compliance", key=RECORD),
    put("compliance", "elsewhere/x", **ONCE),
)
"""What no statement allows anybody."""

CONDITIONAL_ATTACKS: tuple[Ask, ...] = (
    # Reading a key's data without S3 in between, or under a made-up purpose.
    *(Ask(action="kms:Decrypt", use=use) for use in USES),
    *(Ask(action="kms:Decrypt", use=use, context={"kms:EncryptionContext:aivo-backup": "other"}) for use in USES),
    # Evidence: overwriting it, and locking it beyond the promise.
    put("compliance", RECORD, **{"s3:ObjectCreationOperation": "true"}),
    Ask(
        action="s3:PutObjectRetention",
        use="compliance",
        key=RECORD,
        context={"s3:object-lock-remaining-retention-days": "2558"},
    ),
)
"""What only a condition stops: the sandbox's AWS API, which ignores conditions, cannot judge it; the evaluator does."""
