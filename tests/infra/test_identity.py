"""What each role can and cannot do, by AWS's own rules, with the original documents and their conditions."""

import pytest

from aivo_backup.policy.names import Role
from tests.infra.asks import ATTACKS, CIPHER, CONDITIONAL_ATTACKS, KEY_HEADER, KMS_HEADER, NEEDS, VIA_S3, Ask, put
from tests.infra.conftest import PlanOf
from tests.infra.evaluator import Request, allowed
from tests.infra.plans import Plan


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


@pytest.mark.parametrize("role", Role)
def test_each_role_can_do_its_work(prod: Plan, role: Role) -> None:
    refused = [ask for ask in NEEDS[role] if not _decide(prod, role, ask)]
    assert refused == []


@pytest.mark.parametrize("role", Role)
def test_no_role_can_do_what_is_on_the_list_of_attacks(prod: Plan, role: Role) -> None:
    assert [ask for ask in (*ATTACKS, *CONDITIONAL_ATTACKS) if _decide(prod, role, ask)] == []


@pytest.mark.parametrize("role", Role)
def test_what_a_role_may_put_it_may_put_under_our_key_and_over_tls_only(prod: Plan, role: Role) -> None:
    for ask in NEEDS[role]:
        if ask.action != "s3:PutObject":
            continue
        ours = {KMS_HEADER: "aws:kms", KEY_HEADER: prod.outputs["keys"][ask.use]}
        assert _decide(prod, role, Ask(action=ask.action, use=ask.use, key=ask.key, context={**ask.context, **ours}))
        for wrong in (
            {KMS_HEADER: "AES256"},
            {KMS_HEADER: "aws:kms", KEY_HEADER: "arn:aws:kms:us-east-1:999999999999:key/theirs"},
            {"s3:x-amz-server-side-encryption-customer-algorithm": "AES256"},
            {"aws:SecureTransport": "false"},
            {"s3:TlsVersion": "1.1"},
        ):
            attack = Ask(action=ask.action, use=ask.use, key=ask.key, context={**ask.context, **wrong})
            assert not _decide(prod, role, attack), wrong


@pytest.mark.parametrize(
    "role",
    [
        *(role for role in Role if role.value.endswith(("-writer", "-expirer"))),
        Role.POSTGRES_ARCHIVER,
        Role.REPORTER,
    ],
)
def test_a_writer_reads_no_other_store(prod: Plan, role: Role) -> None:
    own = role.value.partition("-")[0]
    for use in {"postgres", "minio", "opensearch"} - {own}:
        for ask in (
            Ask(action="s3:ListBucket", use=use),
            Ask(action="s3:GetObject", use=use, key="any/key"),
            put(use, "minio-data/x"),
            Ask(action="kms:Decrypt", use=use, context=VIA_S3),
        ):
            assert not _decide(prod, role, ask)


_EXPIRES = {
    Role.POSTGRES_EXPIRER: ("postgres", "archive/x", "inventory/x"),
    Role.MINIO_EXPIRER: ("minio", "metadata/minio/x"),
    # The cluster's own nodes delete the files, for the login that may ask for it.
    Role.OPENSEARCH_STORE: ("opensearch", "snapshots/x"),
}
_MARKED = tuple(
    (use, key)
    for use, keys in {
        "postgres": ("archive/x", "inventory/x", "envelope/x", "leases/x"),
        "minio": ("metadata/minio/x", "leases/x"),
        "opensearch": ("snapshots/x", "leases/x"),
    }.items()
    for key in keys
)


@pytest.mark.parametrize("role", Role)
def test_only_the_expirer_of_a_store_ends_its_points(prod: Plan, role: Role) -> None:
    use, *keys = _EXPIRES.get(role, ("",))
    may = {
        (marked, key)
        for marked, key in _MARKED
        if _decide(prod, role, Ask(action="s3:DeleteObject", use=marked, key=key))
    }
    assert may == {(use, key) for key in keys}


@pytest.mark.parametrize("role", [Role.POSTGRES_EXPIRER, Role.MINIO_EXPIRER, Role.OPENSEARCH_EXPIRER])
def test_an_expirer_writes_no_data(prod: Plan, role: Role) -> None:
    for use, key in (
        ("postgres", "archive/x"),
        ("postgres", "envelope/x"),
        ("postgres", "inventory/x"),
        ("minio", "minio-data/x"),
        ("minio", "metadata/minio/x"),
        ("opensearch", "snapshots/x"),
    ):
        assert not _decide(prod, role, put(use, key))
    assert not _decide(prod, role, Ask(action="s3:DeleteObject", use="minio", key="minio-data/x"))


@pytest.mark.parametrize("role", [Role.VERIFIER, Role.RESTORE_TESTER, Role.REGISTRAR, Role.RESTORER, Role.AGENT])
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
            assert not _decide(prod, role, put(use, key))
            assert not _decide(prod, role, Ask(action="s3:DeleteObject", use=use, key=key))


def test_only_the_initialiser_touches_the_cipher_pass(prod: Plan) -> None:
    for role in set(Role) - {Role.INITIALISER}:
        assert not _decide(prod, role, put("postgres", "envelope/cipher-pass.json"))
        assert not _decide(prod, role, Ask(action="kms:Encrypt", use="postgres", context=CIPHER))


_THERE = {"kms:ViaService": "s3.us-west-2.amazonaws.com"}
_IN_THE_SECOND_REGION: list[tuple[Role, str, dict[str, str], bool]] = [
    (Role.RESTORER, "kms:Decrypt", _THERE, True),
    (Role.RESTORER, "kms:Decrypt", CIPHER, True),
    (Role.RESTORER, "kms:Encrypt", CIPHER, False),
    (Role.RESTORER, "kms:GenerateDataKey", _THERE, False),
    (Role.INITIALISER, "kms:Encrypt", CIPHER, True),
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
