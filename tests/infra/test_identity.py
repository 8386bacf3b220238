"""What each role can and cannot do, by AWS's own rules, with the original documents and their conditions.

The first part tests the evaluator itself, on the cases that AWS's documentation states.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from aivo_backup.policy.names import Role
from tests.infra.conftest import PlanOf
from tests.infra.evaluator import Request, allowed
from tests.infra.plans import Document, Plan

_ANYONE = "arn:aws:iam::333333333333:role/somebody"


def _document(**statement: Any) -> Document:
    return {"Version": "2012-10-17", "Statement": [{"Sid": "S", "Effect": "Allow", **statement}]}


def _asks(action: str = "s3:GetObject", resource: str = "arn:aws:s3:::b/k", **context: str) -> Request:
    return Request(
        principal=_ANYONE,
        action=action,
        resource=resource,
        context={name.replace("__", ":").replace("_", "-"): value for name, value in context.items()},
    )


@pytest.mark.parametrize(
    ("condition", "context", "verdict"),
    [
        ({"StringEquals": {"aws:x": "a"}}, {"aws__x": "a"}, True),
        ({"StringEquals": {"aws:x": ["a", "b"]}}, {"aws__x": "b"}, True),
        ({"StringEquals": {"aws:x": "a"}}, {"aws__x": "A"}, False),
        ({"StringEquals": {"aws:x": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:x": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:x": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:x": ["a", "b"]}}, {"aws__x": "b"}, False),
        ({"StringNotEqualsIfExists": {"aws:x": "a"}}, {}, True),
        ({"Null": {"aws:x": "true"}}, {}, True),
        ({"Null": {"aws:x": "false"}}, {}, False),
        ({"Null": {"aws:x": "false"}, "StringNotEquals": {"aws:x": "a"}}, {"aws__x": "b"}, True),
        ({"ArnLike": {"aws:x": "arn:aws:iam::1:role/*"}}, {"aws__x": "arn:aws:iam::1:role/a/b"}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {}, False),
        ({"NumericLessThan": {"s3:TlsVersion": "1.2"}}, {"s3__TlsVersion": "1.1"}, True),
    ],
)
def test_evaluator_reads_conditions_as_aws_does(condition: Document, context: dict[str, str], verdict: bool) -> None:
    document = _document(Action="s3:GetObject", Resource="*", Condition=condition)
    assert allowed(_asks(**context), identity=[document]) is verdict


def test_evaluator_denies_by_default_and_by_any_deny() -> None:
    allow = _document(Action="s3:*", Resource="arn:aws:s3:::b/*")
    deny = _document(Effect="Deny", Action="s3:Get*", Resource="*")
    assert not allowed(_asks(), identity=[])
    assert allowed(_asks(), identity=[allow])
    assert not allowed(_asks(), identity=[allow, deny])
    assert not allowed(
        _asks(), identity=[allow], resource_policy=_document(**{**deny["Statement"][0], "Principal": "*"})
    )
    assert not allowed(_asks(resource="arn:aws:s3:::other/k"), identity=[allow])


def test_evaluator_wants_both_policies_for_a_key() -> None:
    asked = _asks("kms:Decrypt", "arn:aws:kms:us-east-1:333333333333:key/k")
    own = _document(Action="kms:Decrypt", Resource="*")
    key = _document(Action="kms:Decrypt", Resource="*", Principal={"AWS": "arn:aws:iam::333333333333:root"})
    assert allowed(asked, identity=[own], resource_policy=key)
    assert not allowed(
        asked, identity=[own], resource_policy=_document(Action="kms:Encrypt", Resource="*", Principal="*")
    )
    assert not allowed(asked, identity=[], resource_policy=key)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request of a role, against a bucket's object, a bucket, or a component's key."""

    action: str
    use: str
    key: str = ""
    context: dict[str, str] = field(default_factory=dict[str, str])


_KMS_HEADER = "s3:x-amz-server-side-encryption"
_KEY_HEADER = "s3:x-amz-server-side-encryption-aws-kms-key-id"
_ONCE = {"s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
_VIA_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com", "kms:CallerAccount": "333333333333"}
_CIPHER = {"kms:EncryptionContext:aivo-backup": "pgbackrest-cipher-pass"}
_RECORD = "records/backup-run/dt=2026-11-23/x.json"


def _decide(plan: Plan, role: Role, ask: Ask) -> bool:
    settings = plan.settings()
    (policy,) = [entry for entry in plan.all(":RolePolicy") if entry.name == f"{role.value}-policy"]
    arn = f"arn:aws:iam::{settings['account_id']}:role/aivo-backup-{plan.stack}-{role.value}"
    if ask.action.startswith("kms:"):
        resource = plan.outputs["keys"][ask.use]
        resource_policy = plan.one("kms/key:Key", f"{ask.use}-key").document()
    else:
        resource = f"arn:aws:s3:::{plan.outputs['buckets'][ask.use]}" + (f"/{ask.key}" if ask.key else "")
        resource_policy = plan.one(":BucketPolicy", f"{ask.use}-policy").document()
    request = Request(principal=arn, action=ask.action, resource=resource, context=ask.context)
    return allowed(request, identity=[policy.document()], resource_policy=resource_policy)


def _put(use: str, key: str, **context: str) -> Ask:
    return Ask(action="s3:PutObject", use=use, key=key, context=dict(context))


_FILES_RECORD = (
    Ask(action="s3:PutObject", use="compliance", key=_RECORD, context=_ONCE),
    Ask(action="s3:PutObjectRetention", use="compliance", key=_RECORD),
    Ask(action="kms:GenerateDataKey", use="compliance", context=_VIA_S3),
)
_READS = tuple(
    ask
    for use in ("postgres", "minio", "opensearch")
    for ask in (
        Ask(action="s3:ListBucket", use=use),
        Ask(action="s3:GetObject", use=use, key="any/key"),
        Ask(action="s3:GetObjectVersion", use=use, key="any/key"),
        Ask(action="kms:Decrypt", use=use, context=_VIA_S3),
    )
)
_READS_CATALOG = (
    Ask(action="s3:ListBucket", use="compliance"),
    Ask(action="s3:GetObject", use="compliance", key=_RECORD),
    Ask(action="kms:Decrypt", use="compliance", context=_VIA_S3),
)
_UNWRAPS = Ask(action="kms:Decrypt", use="postgres", context=_CIPHER)

NEEDS: dict[Role, tuple[Ask, ...]] = {
    Role.POSTGRES_WRITER: (
        Ask(action="s3:ListBucket", use="postgres"),
        Ask(action="s3:GetObject", use="postgres", key="archive/aivo-postgres/archive.info"),
        Ask(action="s3:GetObject", use="postgres", key="envelope/cipher-pass.json"),
        _put("postgres", "backup/aivo-postgres/20261123-010000F/backup.manifest"),
        _put("postgres", "leases/postgres"),
        Ask(action="s3:AbortMultipartUpload", use="postgres", key="backup/aivo-postgres/x"),
        Ask(action="s3:DeleteObject", use="postgres", key="backup/aivo-postgres/20261123-010000F/leftover"),
        Ask(action="kms:GenerateDataKey", use="postgres", context=_VIA_S3),
        _UNWRAPS,
        *_FILES_RECORD,
    ),
    Role.POSTGRES_ARCHIVER: (
        Ask(action="s3:ListBucket", use="postgres"),
        Ask(action="s3:GetObject", use="postgres", key="archive/aivo-postgres/archive.info"),
        _put("postgres", "archive/aivo-postgres/15-1/0000000100000000/segment.zst"),
        Ask(action="kms:GenerateDataKey", use="postgres", context=_VIA_S3),
        _UNWRAPS,
    ),
    Role.MINIO_WRITER: (
        Ask(action="s3:ListBucket", use="minio"),
        Ask(action="s3:GetObject", use="minio", key="metadata/minio/20261123_030000/manifest"),
        _put("minio", "minio-data/bucket/key"),
        _put("minio", "minio-long/0123"),
        _put("minio", "metadata/minio/20261123_030000/manifest"),
        _put("minio", "leases/minio"),
        Ask(action="s3:DeleteObject", use="minio", key="minio-data/bucket/key"),
        *_FILES_RECORD,
    ),
    Role.OPENSEARCH_WRITER: (
        Ask(action="s3:ListBucket", use="opensearch"),
        Ask(action="s3:GetObject", use="opensearch", key="leases/opensearch"),
        _put("opensearch", "leases/opensearch"),
        *_FILES_RECORD,
    ),
    Role.OPENSEARCH_STORE: (
        Ask(action="s3:ListBucket", use="opensearch"),
        _put("opensearch", "snapshots/index-1"),
        Ask(action="s3:DeleteObject", use="opensearch", key="snapshots/indices/x/0/__y"),
        Ask(action="kms:GenerateDataKey", use="opensearch", context=_VIA_S3),
    ),
    Role.AGENT: (Ask(action="s3:ListBucket", use="postgres"), *_READS_CATALOG),
    Role.INITIALISER: (
        Ask(action="s3:ListBucket", use="postgres"),
        _put("postgres", "envelope/cipher-pass.json"),
        _put("postgres", "archive/aivo-postgres/archive.info"),
        _put("postgres", "backup/aivo-postgres/backup.info"),
        Ask(action="kms:Encrypt", use="postgres", context=_CIPHER),
        _UNWRAPS,
    ),
    Role.VERIFIER: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.REGISTRAR: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.RESTORER: (*_READS, _UNWRAPS, *_READS_CATALOG, *_FILES_RECORD),
    Role.REPORTER: (
        *_READS_CATALOG,
        *_FILES_RECORD,
        Ask(action="s3:PutObject", use="compliance", key="reports/daily/x/report.html", context=_ONCE),
    ),
    Role.SCHEDULER: (),
    Role.REPLICATOR: (
        *(Ask(action="s3:GetObjectVersionForReplication", use=use, key="any/key") for use in ("minio", "vault")),
        *(Ask(action="kms:Decrypt", use=use, context=_VIA_S3) for use in ("minio", "compliance")),
    ),
}


@pytest.mark.parametrize("role", Role)
def test_each_role_can_do_its_work(prod: Plan, role: Role) -> None:
    refused = [ask for ask in NEEDS[role] if not _decide(prod, role, ask)]
    assert refused == []


_USES = ("postgres", "minio", "opensearch", "compliance")
ATTACKS: tuple[Ask, ...] = (
    *(
        Ask(action=action, use=use, key="any/key")
        for use in _USES
        for action in (
            "s3:BypassGovernanceRetention",
            "s3:DeleteObjectVersion",
            "s3:PutObjectAcl",
            "s3:PutObjectLegalHold",
        )
    ),
    *(
        Ask(action=action, use=use)
        for use in _USES
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
        Ask(action=action, use=use, context=_VIA_S3)
        for use in (*_USES, "operations")
        for action in ("kms:CreateGrant", "kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion")
    ),
    # Reading a key's data without S3 in between, or under a made-up purpose.
    *(Ask(action="kms:Decrypt", use=use) for use in _USES),
    *(Ask(action="kms:Decrypt", use=use, context={"kms:EncryptionContext:aivo-backup": "other"}) for use in _USES),
    # Evidence: overwriting, hiding, and locking beyond the promise.
    _put("compliance", _RECORD, **{"s3:ObjectCreationOperation": "true"}),
    Ask(action="s3:DeleteObject", use="compliance", key=_RECORD),
    Ask(
        action="s3:PutObjectRetention",
        use="compliance",
        key=_RECORD,
        context={"s3:object-lock-remaining-retention-days": "2558"},
    ),
    _put("compliance", "elsewhere/x", **_ONCE),
)


@pytest.mark.parametrize("role", Role)
def test_no_role_can_do_what_is_on_the_list_of_attacks(prod: Plan, role: Role) -> None:
    assert [ask for ask in ATTACKS if _decide(prod, role, ask)] == []


@pytest.mark.parametrize("role", Role)
def test_what_a_role_may_put_it_may_put_under_our_key_and_over_tls_only(prod: Plan, role: Role) -> None:
    for ask in NEEDS[role]:
        if ask.action != "s3:PutObject":
            continue
        ours = {_KMS_HEADER: "aws:kms", _KEY_HEADER: prod.outputs["keys"][ask.use]}
        assert _decide(prod, role, Ask(action=ask.action, use=ask.use, key=ask.key, context={**ask.context, **ours}))
        for wrong in (
            {_KMS_HEADER: "AES256"},
            {_KMS_HEADER: "aws:kms", _KEY_HEADER: "arn:aws:kms:us-east-1:999999999999:key/theirs"},
            {"s3:x-amz-server-side-encryption-customer-algorithm": "AES256"},
            {"aws:SecureTransport": "false"},
            {"s3:TlsVersion": "1.1"},
        ):
            attack = Ask(action=ask.action, use=ask.use, key=ask.key, context={**ask.context, **wrong})
            assert not _decide(prod, role, attack), wrong


@pytest.mark.parametrize(
    "role", [Role.POSTGRES_WRITER, Role.POSTGRES_ARCHIVER, Role.MINIO_WRITER, Role.OPENSEARCH_WRITER, Role.REPORTER]
)
def test_a_writer_reads_no_other_store(prod: Plan, role: Role) -> None:
    own = role.value.partition("-")[0]
    for use in {"postgres", "minio", "opensearch"} - {own}:
        for ask in (
            Ask(action="s3:ListBucket", use=use),
            Ask(action="s3:GetObject", use=use, key="any/key"),
            _put(use, "minio-data/x"),
            Ask(action="kms:Decrypt", use=use, context=_VIA_S3),
        ):
            assert not _decide(prod, role, ask)


@pytest.mark.parametrize("role", [Role.VERIFIER, Role.REGISTRAR, Role.RESTORER, Role.AGENT])
def test_whoever_reads_every_store_writes_none(prod: Plan, role: Role) -> None:
    for use in ("postgres", "minio", "opensearch"):
        for key in (
            "archive/x",
            "backup/x",
            "minio-data/x",
            "metadata/minio/x",
            "snapshots/x",
            "envelope/x",
            "leases/x",
        ):
            assert not _decide(prod, role, _put(use, key))
            assert not _decide(prod, role, Ask(action="s3:DeleteObject", use=use, key=key))


def test_only_the_initialiser_touches_the_cipher_pass(prod: Plan) -> None:
    for role in set(Role) - {Role.INITIALISER}:
        assert not _decide(prod, role, _put("postgres", "envelope/cipher-pass.json"))
        assert not _decide(prod, role, Ask(action="kms:Encrypt", use="postgres", context=_CIPHER))


_THERE = {"kms:ViaService": "s3.us-west-2.amazonaws.com"}
_IN_THE_SECOND_REGION: list[tuple[Role, str, dict[str, str], bool]] = [
    (Role.RESTORER, "kms:Decrypt", _THERE, True),
    (Role.RESTORER, "kms:Decrypt", _CIPHER, True),
    (Role.RESTORER, "kms:Encrypt", _CIPHER, False),
    (Role.RESTORER, "kms:GenerateDataKey", _THERE, False),
    (Role.INITIALISER, "kms:Encrypt", _CIPHER, True),
    (Role.INITIALISER, "kms:Encrypt", {}, False),
    (Role.INITIALISER, "kms:Decrypt", _THERE, False),
]


@pytest.mark.parametrize(("role", "action", "context", "verdict"), _IN_THE_SECOND_REGION, ids=str)
def test_the_second_regions_key_alone_opens_the_copy(
    plan_of: PlanOf, role: Role, action: str, context: dict[str, str], verdict: bool
) -> None:
    """The restorer reads the copies and the cipher pass there; the initialiser wraps the pass; nothing more."""
    plan = plan_of("prod")
    request = Request(
        principal=f"arn:aws:iam::{plan.settings()['account_id']}:role/aivo-backup-prod-{role.value}",
        action=action,
        resource=plan.settings()["replica"]["keys"]["postgres"],
        context=context,
    )
    policy = plan.one(":RolePolicy", f"{role.value}-replica-policy").document()
    key = plan.one("kms/key:Key", "postgres-replica-key").document()
    assert allowed(request, identity=[policy], resource_policy=key) is verdict
