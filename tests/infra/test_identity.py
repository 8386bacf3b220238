"""What each role can and cannot do, by AWS's own rules, with the original documents and their conditions."""

import pytest

from aivo_backup.policy.names import Role, key_of
from sandbox.plan import register
from tests.infra.asks import ATTACKS, CIPHER, CONDITIONAL_ATTACKS, KEY_HEADER, KMS_HEADER, NEEDS, VIA_S3, Ask, put
from tests.infra.conftest import PlanOf
from tests.infra.evaluator import Request, allowed
from tests.infra.plans import Plan


def _principal(plan: Plan, role: Role) -> str:
    return f"arn:aws:iam::{plan.settings()['account_id']}:role/aivo-backup-{plan.stack}-{role.value}"


def _decide(plan: Plan, role: Role, ask: Ask) -> bool:
    (policy,) = [entry for entry in plan.all(":RolePolicy") if entry.name == f"{role.value}-policy"]
    if ask.action.startswith("kms:"):
        resource = plan.outputs["keys"][ask.use]
        resource_policy = plan.one("kms/key:Key", f"{ask.use}-key").document()
    else:
        resource = f"arn:aws:s3:::{plan.outputs['buckets'][ask.use]}" + (f"/{ask.key}" if ask.key else "")
        resource_policy = plan.one(":BucketPolicy", f"{ask.use}-policy").document()
    request = Request(principal=_principal(plan, role), action=ask.action, resource=resource, context=ask.context)
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
        ours = {KMS_HEADER: "aws:kms", KEY_HEADER: prod.outputs["keys"][key_of(ask.use)]}
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


@pytest.mark.parametrize(
    "role", [Role.VERIFIER, Role.RESTORE_TESTER, Role.DRILLER, Role.REGISTRAR, Role.RESTORER, Role.AGENT]
)
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
_IN_THE_SECOND_REGION: list[tuple[Role, str, str, dict[str, str], bool]] = [
    (Role.RESTORER, "kms:Decrypt", "postgres", _THERE, True),
    (Role.RESTORER, "kms:Decrypt", "postgres", CIPHER, True),
    (Role.RESTORER, "kms:Encrypt", "postgres", CIPHER, False),
    (Role.RESTORER, "kms:GenerateDataKey", "postgres", _THERE, False),
    (Role.RESTORER, "kms:Decrypt", "minio", _THERE, True),
    # A Job on the database's volume restores under the database's identity, and reads its repository alone.
    (Role.POSTGRES_ARCHIVER, "kms:Decrypt", "postgres", _THERE, True),
    (Role.POSTGRES_ARCHIVER, "kms:Decrypt", "postgres", CIPHER, True),
    (Role.POSTGRES_ARCHIVER, "kms:Decrypt", "postgres", {}, False),
    (Role.POSTGRES_ARCHIVER, "kms:Encrypt", "postgres", CIPHER, False),
    (Role.POSTGRES_ARCHIVER, "kms:GenerateDataKey", "postgres", _THERE, False),
    *((Role.POSTGRES_ARCHIVER, "kms:Decrypt", use, _THERE, False) for use in ("minio", "opensearch", "compliance")),
    *((Role.DRILLER, "kms:Decrypt", use, _THERE, True) for use in ("postgres", "minio", "opensearch", "compliance")),
    (Role.DRILLER, "kms:Decrypt", "postgres", CIPHER, True),
    (Role.DRILLER, "kms:GenerateDataKey", "postgres", _THERE, False),
    (Role.INITIALISER, "kms:Encrypt", "postgres", CIPHER, True),
    (Role.INITIALISER, "kms:Encrypt", "postgres", {}, False),
    (Role.INITIALISER, "kms:Decrypt", "postgres", _THERE, False),
]


@pytest.mark.parametrize(("role", "action", "use", "context", "verdict"), _IN_THE_SECOND_REGION, ids=str)
def test_the_second_regions_key_alone_opens_the_copy(
    plan_of: PlanOf, role: Role, action: str, use: str, context: dict[str, str], verdict: bool
) -> None:
    """Who restores reads the copies and the cipher pass there; the initialiser wraps the pass; nothing more."""
    plan = plan_of("prod")
    resource = plan.settings()["replica"]["keys"][use]
    request = Request(principal=_principal(plan, role), action=action, resource=resource, context=context)
    policy = plan.one(":RolePolicy", f"{role.value}-replica-policy").document()
    key = plan.one("kms/key:Key", f"{use}-replica-key").document()
    assert allowed(request, identity=[policy], resource_policy=key) is verdict


_COPIES: list[tuple[Role, str, str, str, bool]] = [
    *(
        (Role.RESTORER, action, use, key, True)
        for use in ("postgres", "minio", "opensearch", "compliance")
        for action, key in (("s3:ListBucket", ""), ("s3:GetObject", "any/key"), ("s3:GetObjectVersion", "any/key"))
    ),
    (Role.POSTGRES_ARCHIVER, "s3:ListBucket", "postgres", "", True),
    *(
        (Role.POSTGRES_ARCHIVER, "s3:GetObject", "postgres", key, True)
        for key in (
            "archive/aivo-postgres/archive.info",
            "backup/aivo-postgres/backup.info",
            "envelope/cipher-pass.json",
            "inventory/20261123-010000F.json",
        )
    ),
    (Role.POSTGRES_ARCHIVER, "s3:GetObject", "postgres", "leases/postgres", False),
    *(
        (Role.POSTGRES_ARCHIVER, action, use, key, False)
        for use in ("minio", "opensearch", "compliance")
        for action, key in (("s3:ListBucket", ""), ("s3:GetObject", "any/key"))
    ),
    *(
        (role, action, "postgres", "archive/x", False)
        for role in (Role.RESTORER, Role.POSTGRES_ARCHIVER)
        for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion")
    ),
]
"""Role, action, copy, key (none: the bucket itself), and whether it may."""


@pytest.fixture(scope="module")
def vaulted() -> Plan:
    """Production, its copies in a vault account."""
    role = "arn:aws:iam::444444444444:role/backup-vault"
    replica = {"account_id": "444444444444", "provisioning_role": role}
    return Plan.of("prod", register("prod", overrides={"aivo-backup:replica": replica}))


@pytest.mark.parametrize(("role", "action", "use", "key", "verdict"), _COPIES, ids=str)
def test_who_restores_reads_the_copies_and_changes_nothing(
    prod: Plan, vaulted: Plan, role: Role, action: str, use: str, key: str, verdict: bool
) -> None:
    def judged(plan: Plan, *, by_identity: bool = True, by_bucket: bool = True) -> bool:
        resource = f"arn:aws:s3:::{plan.settings()['replica']['buckets'][use]}" + (f"/{key}" if key else "")
        policy = plan.one(":RolePolicy", f"{role.value}-replica-policy").document()
        return allowed(
            Request(principal=_principal(plan, role), action=action, resource=resource),
            identity=[policy] if by_identity else [],
            resource_policy=plan.one(":BucketPolicy", f"{use}-replica-policy").document() if by_bucket else None,
        )

    assert judged(prod) is verdict
    # Across accounts both must allow by themselves: the role's own policy, and the vault's bucket.
    assert (judged(vaulted, by_bucket=False) and judged(vaulted, by_identity=False)) is verdict
