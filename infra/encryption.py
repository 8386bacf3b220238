"""Customer-managed KMS keys: one per component, one for compliance, one for operations.

A key per component means that reading one store's backups takes a permission on that store's key, and that a key
disabled by mistake stops one store, not three.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import (
    CIPHER_CONTEXT,
    COMPLIANCE,
    OPERATIONS,
    PROJECT,
    SIGNING,
    Role,
    key_alias,
    role_arn,
    security_topic,
)
from infra.access import LOOKS_AT_KEY, SECRET_READERS, SETTINGS_READERS, Grant, grants_on
from infra.bucket_policies import trail_arn
from infra.documents import Statement, document
from infra.settings import Settings
from infra.tags import aws_tags

DATA_KEYS = (*(component.value for component in Component), COMPLIANCE)

# Everything an administrator needs, and nothing that reads or writes data.
_ADMINISTRATION = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)
# What CloudWatch Logs asks for to encrypt a group and read it again.
_LOG_ACTIONS = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
_THIS_KEY = ("*",)
_CIPHER_CONTEXT = {f"kms:EncryptionContext:{name}": value for name, value in CIPHER_CONTEXT.items()}
_THIS_KEY_REASON = "in a key policy, * means this key"


@dataclass(frozen=True, kw_only=True)
class EncryptionArgs:
    """What the keys depend on."""

    settings: Settings


class Encryption(pulumi.ComponentResource):
    """The keys and their aliases.

    Attributes:
        arns: component, ``compliance`` and ``operations`` to the key's ARN.
        signing_arn: the asymmetric key's ARN.
    """

    arns: Mapping[str, pulumi.Output[str]]
    signing_arn: pulumi.Output[str]

    def __init__(self, name: str, args: EncryptionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Encryption", name, None, opts)
        self._settings = args.settings
        keys = {use: self._build_key(use, data_key_policy(args.settings, use)) for use in DATA_KEYS}
        keys[OPERATIONS] = self._build_key(OPERATIONS, operations_key_policy(args.settings))
        self.arns = {use: key.arn for use, key in keys.items()}
        self.signing_arn = self._build_signing_key()
        self.register_outputs({"arns": self.arns})

    def _build_key(self, use: str, policy: str) -> aws.kms.Key:
        settings = self._settings
        key = aws.kms.Key(
            f"{use}-key",
            description=f"{PROJECT} {settings.environment}: {use}",
            enable_key_rotation=True,
            deletion_window_in_days=settings.key_deletion_days,
            policy=policy,
            tags=aws_tags(settings, component=use, data_class="none"),
            # A key that is gone takes every backup under it along: Pulumi must refuse to delete it.
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )
        self._build_alias(use, key)
        return key

    def _build_alias(self, use: str, key: aws.kms.Key) -> None:
        aws.kms.Alias(
            f"{use}-key-alias",
            name=key_alias(self._settings.environment, use),
            target_key_id=key.key_id,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _build_signing_key(self) -> pulumi.Output[str]:
        settings = self._settings
        key = aws.kms.Key(
            f"{SIGNING}-key",
            description=f"{PROJECT} {settings.environment}: seals evidence",
            key_usage="SIGN_VERIFY",
            # Its public half verifies offline with any tool; KMS cannot rotate it, which keeps old seals verifiable.
            customer_master_key_spec="ECC_NIST_P256",
            deletion_window_in_days=settings.key_deletion_days,
            policy=signing_key_policy(settings),
            tags=aws_tags(settings, component=SIGNING, data_class="none"),
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )
        self._build_alias(SIGNING, key)
        return key.arn


def data_key_policy(settings: Settings, use: str) -> str:
    """The policy of a key that encrypts a bucket.

    Roles are named in conditions, not as principals: a role that was deleted and made again keeps its ARN, but a
    principal would be turned into the old role's id and never match again.
    """
    by_s3 = {"kms:ViaService": f"s3.{settings.region}.amazonaws.com", "kms:CallerAccount": settings.account_id}
    grants = grants_on(use)
    copying = [Role.REPLICATOR] if settings.replica.region else []
    readers = _arns(settings, [role for role, grant in grants.items() if grant.reads or grant.writes] + copying)
    writers = _arns(settings, [role for role, grant in grants.items() if grant.writes])
    statements = [
        *_administration(settings, settings.account_id),
        _use(settings, "ReadThroughS3", readers, ("kms:Decrypt", "kms:DescribeKey"), by_s3),
        _use(settings, "WriteThroughS3", writers, ("kms:GenerateDataKey",), by_s3),
        *_envelope(settings, grants),
    ]
    if looking := _arns(settings, [role for role, grant in grants.items() if grant.looks_at_key]):
        statements.append(_use(settings, "LookAtKey", looking, LOOKS_AT_KEY, {}))
    if use == COMPLIANCE and settings.audit_trail:
        statements.append(_trail(settings))
    return document(statements)


def replica_key_policy(settings: Settings, use: str) -> str:
    """The policy of a key in the second region: replication encrypts, who restores decrypts.

    The cipher pass is wrapped under it too, so that the copy of the repository can be read with this key alone.
    """
    region, account = settings.replica.region, settings.replica.account_id or settings.account_id
    by_s3 = {"kms:ViaService": f"s3.{region}.amazonaws.com"}
    replicator, restoring = (_arns(settings, roles) for roles in ([Role.REPLICATOR], list(replica_readers(use))))
    return document(
        [
            *_administration(settings, account),
            _use(settings, "ReplicationEncrypts", replicator, ("kms:Encrypt", "kms:GenerateDataKey"), by_s3),
            _use(settings, "RestoreDecrypts", restoring, ("kms:Decrypt", "kms:DescribeKey"), by_s3),
            *(_envelope(settings, _replica_grants()) if use == Component.POSTGRES.value else []),
        ]
    )


def replica_readers(use: str) -> tuple[Role, ...]:
    """Who reads a bucket's copy in the second region: who restores in need, and who proves it every quarter."""
    # A Job on the database's volume has the database's own identity (docs/adr/0012-restores-in-the-cluster.md).
    return (Role.RESTORER, Role.DRILLER, *([Role.POSTGRES_ARCHIVER] if use == Component.POSTGRES.value else []))


def _replica_grants() -> Mapping[Role, Grant]:
    """Of those who open or make the cipher pass at home, the ones who do so in the second region."""
    grants, readers = grants_on(Component.POSTGRES.value), replica_readers(Component.POSTGRES.value)
    return {role: replace(grants[role], unwraps=role in readers) for role in (Role.INITIALISER, *readers)}


def signing_key_policy(settings: Settings) -> str:
    """The policy of the signing key: anybody in the account may have the public half; who signs is added with it."""
    public_half = Statement(
        sid="PublicHalf",
        principals={"AWS": _root(settings.account_id)},
        actions=("kms:DescribeKey", "kms:GetPublicKey", "kms:Verify"),
        resources=_THIS_KEY,
        wildcard_reason=_THIS_KEY_REASON,
    )
    return document([*_administration(settings, settings.account_id), public_half])


def operations_key_policy(settings: Settings) -> str:
    """The policy of the key for log groups, queues, topics, the settings parameter and secrets."""
    account, region = settings.account_id, settings.region
    log_groups = f"arn:aws:logs:{region}:{account}:log-group:/aws/lambda/{PROJECT}-*"
    topic = f"arn:aws:sns:{region}:{account}:{security_topic(settings.environment)}"
    via = tuple(f"{service}.{region}.amazonaws.com" for service in ("ssm", "secretsmanager", "sqs", "lambda"))
    users = _arns(settings, sorted({*SETTINGS_READERS, *SECRET_READERS, Role.SCHEDULER}))
    return document(
        [
            *_administration(settings, settings.account_id),
            _use(
                settings,
                "UseThroughServices",
                users,
                ("kms:Decrypt", "kms:GenerateDataKey"),
                {"kms:ViaService": via, "kms:CallerAccount": account},
            ),
            Statement(
                sid="LogGroups",
                principals={"Service": f"logs.{region}.amazonaws.com"},
                actions=_LOG_ACTIONS,
                resources=_THIS_KEY,
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups}},
                wildcard_reason=_THIS_KEY_REASON,
            ),
            Statement(
                sid="AlarmsToTopics",
                principals={"Service": "cloudwatch.amazonaws.com"},
                actions=("kms:Decrypt", "kms:GenerateDataKey"),
                resources=_THIS_KEY,
                conditions={
                    "StringEquals": {"aws:SourceAccount": account},
                    "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{region}:{account}:alarm:{PROJECT}-*"},
                },
                wildcard_reason=_THIS_KEY_REASON,
            ),
            Statement(
                sid="SecurityRulesToTopic",
                principals={"Service": "events.amazonaws.com"},
                actions=("kms:Decrypt", "kms:GenerateDataKey"),
                resources=_THIS_KEY,
                # KMS sees neither the rule nor its account when EventBridge publishes, and would refuse without a
                # sound; what it sees is the topic, whose own policy names the rules.
                conditions={"StringEquals": {"kms:EncryptionContext:aws:sns:topicArn": topic}},
                wildcard_reason=_THIS_KEY_REASON,
            ),
        ]
    )


def _administration(settings: Settings, account: str) -> list[Statement]:
    root = _root(account)
    if not settings.administrators:
        return [
            Statement(
                sid="Administration",
                principals={"AWS": root},
                actions=_ADMINISTRATION,
                resources=_THIS_KEY,
                wildcard_reason=_THIS_KEY_REASON,
            )
        ]
    return [
        Statement(
            sid="Administration",
            principals={"AWS": root},
            actions=_ADMINISTRATION,
            resources=_THIS_KEY,
            conditions={"ArnLike": {"aws:PrincipalArn": settings.administrators}},
            wildcard_reason=_THIS_KEY_REASON,
        ),
        # Without this way back, a key whose administrators are all gone could never be managed again.
        Statement(
            sid="AccountRootUserKeepsTheWayBack",
            principals={"AWS": root},
            actions=("kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"),
            resources=_THIS_KEY,
            conditions={"ArnEquals": {"aws:PrincipalArn": root}},
            wildcard_reason=_THIS_KEY_REASON,
        ),
    ]


def _trail(settings: Settings) -> Statement:
    account = settings.account_id
    return Statement(
        sid="TrailEncrypts",
        principals={"Service": "cloudtrail.amazonaws.com"},
        actions=("kms:DescribeKey", "kms:GenerateDataKey"),
        resources=_THIS_KEY,
        conditions={
            "StringEquals": {"aws:SourceArn": trail_arn(settings)},
            "StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": f"arn:aws:cloudtrail:*:{account}:trail/*"},
        },
        wildcard_reason=_THIS_KEY_REASON,
    )


def _envelope(settings: Settings, grants: Mapping[Role, Grant]) -> list[Statement]:
    unwrapping = _arns(settings, [role for role, grant in grants.items() if grant.unwraps])
    wrapping = _arns(settings, [role for role, grant in grants.items() if grant.wraps])
    statements: list[Statement] = []
    if unwrapping:
        statements.append(_use(settings, "UnwrapCipherPass", unwrapping, ("kms:Decrypt",), _CIPHER_CONTEXT))
    if wrapping:
        statements.append(_use(settings, "WrapCipherPass", wrapping, ("kms:Encrypt",), _CIPHER_CONTEXT))
    return statements


def _use(
    settings: Settings,
    sid: str,
    roles: tuple[str, ...],
    actions: tuple[str, ...],
    also: Mapping[str, str | tuple[str, ...]],
) -> Statement:
    # The account as principal hands the decision on to role policies as well: both must allow.
    conditions: dict[str, Mapping[str, str | tuple[str, ...]]] = {"ArnEquals": {"aws:PrincipalArn": roles}}
    if also:
        conditions["StringEquals"] = also
    return Statement(
        sid=sid,
        principals={"AWS": _root(settings.account_id)},
        actions=actions,
        resources=_THIS_KEY,
        conditions=conditions,
        wildcard_reason=_THIS_KEY_REASON,
    )


def _root(account: str) -> str:
    return f"arn:aws:iam::{account}:root"


def _arns(settings: Settings, roles: list[Role]) -> tuple[str, ...]:
    return tuple(role_arn(settings.account_id, settings.environment, role) for role in roles)
