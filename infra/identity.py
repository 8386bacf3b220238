"""One IAM role per job and per function. What each may do with data is in :mod:`infra.access`."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import RepositoryType
from aivo_backup.policy.names import (
    CIPHER_CONTEXT,
    COMPLIANCE,
    EXPIRERS,
    OPERATIONS,
    PROJECT,
    WRITERS,
    Function,
    Role,
    failed_events_queue,
    function_name,
    key_of,
    role_name,
    schedule_group,
    secret_name,
    service_account,
    settings_parameter,
)
from infra.access import GRANTS, LOOKS_AT_KEY, SECRET_READERS, SETTINGS_READERS, Grant
from infra.documents import Statement, document
from infra.settings import Settings
from infra.tags import aws_tags

FUNCTION_ROLES = {
    Function.VERIFY_RESTORE: Role.VERIFIER,
    Function.REGISTER_SNAPSHOT: Role.REGISTRAR,
    Function.COMPLIANCE_REPORT: Role.REPORTER,
}
POD_ROLES = (*WRITERS.values(), *EXPIRERS.values(), Role.RESTORE_TESTER, Role.DRILLER, Role.AGENT)
"""Roles whose pods run in our namespace under a service account of ours."""

# Restores of large stores take hours; AWS's default session of one hour would end in the middle.
_OPERATOR_SESSION_SECONDS = 4 * 3600
_TOKEN_AUDIENCE = "sts.amazonaws.com"  # noqa: S105 - the audience of a token, not a token


@dataclass(frozen=True, kw_only=True)
class IdentityArgs:
    """What the roles depend on.

    Attributes:
        key_arns: use to KMS key ARN.
        bucket_names: use to bucket name.
    """

    settings: Settings
    key_arns: Mapping[str, pulumi.Output[str]]
    bucket_names: Mapping[str, str]


class Identity(pulumi.ComponentResource):
    """The roles.

    Attributes:
        arns: role to ARN.
        names: role to name.
    """

    arns: Mapping[Role, pulumi.Output[str]]
    names: Mapping[Role, pulumi.Output[str]]

    def __init__(self, name: str, args: IdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Identity", name, None, opts)
        self._settings = args.settings
        roles = [role for role in Role if _has_subject(args.settings, role)]
        resources = {role: self._build_role(role, args) for role in roles}
        self.arns = {role: resource.arn for role, resource in resources.items()}
        self.names = {role: resource.name for role, resource in resources.items()}
        self.register_outputs({"arns": {role.value: arn for role, arn in self.arns.items()}})

    def _build_role(self, role: Role, args: IdentityArgs) -> aws.iam.Role:
        settings = self._settings
        resource = aws.iam.Role(
            role.value,
            name=role_name(settings.environment, role),
            assume_role_policy=trust_policy(settings, role),
            max_session_duration=_OPERATOR_SESSION_SECONDS if role in (Role.RESTORER, Role.INITIALISER) else 3600,
            tags=aws_tags(settings, component=role.value, data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.iam.RolePolicy(
            f"{role.value}-policy",
            name="access",
            role=resource.name,
            policy=pulumi.Output.all(**args.key_arns).apply(
                lambda arns: role_policy(settings, role, key_arns=arns, bucket_names=args.bucket_names)
            ),
            opts=pulumi.ResourceOptions(parent=resource),
        )
        return resource


def _has_subject(settings: Settings, role: Role) -> bool:
    """Whether anybody could take on the role: no role waits around for a subject that does not exist."""
    if role is Role.REPLICATOR:
        return False  # made with the replica, whose keys it needs
    if role is Role.SECURITY_FORWARDER:
        return settings.replica.ours
    if role is Role.OPENSEARCH_STORE:
        return settings.opensearch.repository_type is RepositoryType.S3
    return True


def trust_policy(settings: Settings, role: Role) -> str:
    """Who may take on a role: one service account, one AWS service for one source, or the named operators."""
    if role in (*POD_ROLES, Role.POSTGRES_ARCHIVER, Role.OPENSEARCH_STORE):
        return document([_trust_service_account(settings, role)])
    if role in (Role.RESTORER, Role.INITIALISER):
        return document([_trust_operators(settings)])
    region, account = settings.region, settings.account_id
    if role is Role.SECURITY_FORWARDER:
        service = "events.amazonaws.com"
        source = f"arn:aws:events:{settings.replica.region}:{account}:rule/{PROJECT}-{settings.environment}-*"
        conditions = {"StringEquals": {"aws:SourceAccount": account}, "ArnLike": {"aws:SourceArn": source}}
    elif role is Role.SCHEDULER:
        service = "scheduler.amazonaws.com"
        source = f"arn:aws:scheduler:{region}:{account}:schedule-group/{schedule_group(settings.environment)}"
        conditions = {"StringEquals": {"aws:SourceAccount": account}, "ArnLike": {"aws:SourceArn": source}}
    else:
        # Lambda sends no source ARN when it takes on an execution role; the account is what it can be held to.
        service = "lambda.amazonaws.com"
        conditions = {"StringEquals": {"aws:SourceAccount": account}}
    return document(
        [Statement(sid="Service", actions=("sts:AssumeRole",), principals={"Service": service}, conditions=conditions)]
    )


def _trust_service_account(settings: Settings, role: Role) -> Statement:
    cluster = settings.cluster
    namespace, account = {
        Role.POSTGRES_ARCHIVER: (cluster.store_namespace, cluster.postgres_service_account),
        Role.OPENSEARCH_STORE: (cluster.store_namespace, cluster.opensearch_service_account),
    }.get(role, (cluster.namespace, service_account(role)))
    return Statement(
        sid="ServiceAccount",
        actions=("sts:AssumeRoleWithWebIdentity",),
        principals={"Federated": f"arn:aws:iam::{settings.account_id}:oidc-provider/{cluster.oidc_provider}"},
        conditions={
            "StringEquals": {
                f"{cluster.oidc_provider}:sub": f"system:serviceaccount:{namespace}:{account}",
                f"{cluster.oidc_provider}:aud": _TOKEN_AUDIENCE,
            }
        },
    )


def _trust_operators(settings: Settings) -> Statement:
    return Statement(
        sid="Operators",
        actions=("sts:AssumeRole",),
        # The account as principal plus a condition: an operator's role that is made again still matches.
        principals={"AWS": f"arn:aws:iam::{settings.account_id}:root"},
        conditions={"ArnLike": {"aws:PrincipalArn": settings.operators}} if settings.operators else {},
    )


def role_policy(settings: Settings, role: Role, *, key_arns: Mapping[str, str], bucket_names: Mapping[str, str]) -> str:
    """What a role may do."""
    statements = [
        statement
        for grant in GRANTS[role]
        for statement in [
            *(_bucket_statements(grant, bucket_names[grant.use]) if grant.touches_bucket else []),
            *_key_statements(settings, grant, key_arns),
        ]
    ]
    statements += _operations_statements(settings, role, key_arns[OPERATIONS])
    for function, function_role in FUNCTION_ROLES.items():
        if function_role is role:
            statements += _function_statements(settings, function)
    if role in (Role.VERIFIER, Role.RESTORER) and settings.cluster.name:
        statements.append(_cluster_statement(settings))
    if role is Role.SCHEDULER:
        statements += _scheduler_statements(settings)
    if role is Role.SECURITY_FORWARDER:
        statements.append(
            Statement(sid="HandToHomeRegion", actions=("events:PutEvents",), resources=(home_event_bus(settings),))
        )
    if role is Role.AGENT:
        statements.append(
            Statement(
                sid="ReadBucketSizes",
                actions=("cloudwatch:GetMetricStatistics",),
                resources=("*",),
                wildcard_reason="CloudWatch's metrics know no resources",
            )
        )
    return document(statements)


def _bucket_statements(grant: Grant, bucket: str) -> list[Statement]:
    title = _title(grant.use)
    arn = f"arn:aws:s3:::{bucket}"

    def objects(prefixes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{arn}/{prefix}*" for prefix in prefixes)

    statements = [
        Statement(
            sid=f"List{title}",
            # Without ListBucket, a missing object answers 403 instead of 404 and cannot be told from a refusal.
            actions=("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"),
            resources=(arn,),
        )
    ]
    if grant.reads:
        statements.append(
            Statement(
                sid=f"Read{title}", actions=("s3:GetObject", "s3:GetObjectVersion"), resources=objects(grant.reads)
            )
        )
    if grant.writes:
        lock = ("s3:PutObjectRetention",) if grant.use == COMPLIANCE else ()
        statements.append(
            Statement(
                sid=f"Write{title}",
                actions=("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject", *lock),
                resources=objects(grant.writes),
            )
        )
    if grant.removes:
        statements.append(
            Statement(sid=f"Mark{title}Deleted", actions=("s3:DeleteObject",), resources=objects(grant.removes))
        )
    return statements


def _title(use: str) -> str:
    # Of a statement's id, which takes letters and digits alone.
    return "".join(word.capitalize() for word in use.split("-"))


def _key_statements(settings: Settings, grant: Grant, key_arns: Mapping[str, str]) -> list[Statement]:
    title = _title(grant.use)
    key = (key_arns[key_of(grant.use)],)
    actions = ("kms:Decrypt", "kms:DescribeKey", *(("kms:GenerateDataKey",) if grant.writes else ()))
    statements: list[Statement] = []
    if grant.touches_bucket:
        statements.append(
            Statement(
                sid=f"Key{title}ThroughS3",
                actions=actions,
                resources=key,
                conditions={"StringEquals": {"kms:ViaService": f"s3.{settings.region}.amazonaws.com"}},
            )
        )
    if grant.looks_at_key:
        statements.append(Statement(sid=f"LookAtKey{title}", actions=LOOKS_AT_KEY, resources=key))
    context = {"StringEquals": {f"kms:EncryptionContext:{name}": value for name, value in CIPHER_CONTEXT.items()}}
    for wanted, sid, action in (
        (grant.unwraps, "UnwrapCipherPass", "kms:Decrypt"),
        (grant.wraps, "WrapCipherPass", "kms:Encrypt"),
    ):
        if wanted:
            statements.append(Statement(sid=sid, actions=(action,), resources=key, conditions=context))
    return statements


def _operations_statements(settings: Settings, role: Role, key_arn: str) -> list[Statement]:
    region, account, environment = settings.region, settings.account_id, settings.environment
    statements: list[Statement] = []
    if role in SETTINGS_READERS:
        parameter = f"arn:aws:ssm:{region}:{account}:parameter{settings_parameter(environment)}"
        statements.append(Statement(sid="ReadSettings", actions=("ssm:GetParameter",), resources=(parameter,)))
    if secrets := SECRET_READERS.get(role):
        arns = tuple(
            # Secrets Manager appends six random characters to the name.
            f"arn:aws:secretsmanager:{region}:{account}:secret:{secret_name(environment, secret)}-??????"
            for secret in secrets
        )
        statements.append(Statement(sid="ReadSecrets", actions=("secretsmanager:GetSecretValue",), resources=arns))
    if role in SETTINGS_READERS or role is Role.SCHEDULER:
        via = tuple(f"{service}.{region}.amazonaws.com" for service in ("ssm", "secretsmanager", "sqs", "lambda"))
        statements.append(
            Statement(
                sid="KeyOperationsThroughServices",
                actions=("kms:Decrypt", "kms:GenerateDataKey"),
                resources=(key_arn,),
                conditions={"StringEquals": {"kms:ViaService": via}},
            )
        )
    return statements


def _function_statements(settings: Settings, function: Function) -> list[Statement]:
    region, account = settings.region, settings.account_id
    name = function_name(settings.environment, function)
    statements = [
        Statement(
            sid="WriteOwnLog",
            actions=("logs:CreateLogStream", "logs:PutLogEvents"),
            resources=(f"arn:aws:logs:{region}:{account}:log-group:/aws/lambda/{name}:*",),
        ),
        Statement(
            sid="KeepFailedEvents",
            actions=("sqs:SendMessage",),
            resources=(f"arn:aws:sqs:{region}:{account}:{failed_events_queue(settings.environment)}",),
        ),
    ]
    if settings.functions.tracing:
        statements.append(
            Statement(
                sid="Trace",
                actions=("xray:PutTelemetryRecords", "xray:PutTraceSegments"),
                resources=("*",),
                wildcard_reason="X-Ray's write actions know no resources",
            )
        )
    if settings.functions.subnets:
        ec2 = f"arn:aws:ec2:{region}:{account}"
        statements += [
            Statement(
                sid="LookUpInterfaces",
                actions=("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"),
                resources=("*",),
                wildcard_reason="EC2's describing actions know no resources",
            ),
            # Lambda makes interfaces whose ids nobody knows beforehand, in the subnets and groups that it was given.
            Statement(
                sid="JoinVpc",
                actions=("ec2:CreateNetworkInterface",),
                resources=(
                    f"{ec2}:network-interface/*",
                    *(f"{ec2}:subnet/{subnet}" for subnet in settings.functions.subnets),
                    *(f"{ec2}:security-group/{group}" for group in settings.functions.security_groups),
                ),
            ),
            Statement(
                sid="KeepOwnInterfaces",
                actions=(
                    "ec2:AssignPrivateIpAddresses",
                    "ec2:DeleteNetworkInterface",
                    "ec2:UnassignPrivateIpAddresses",
                ),
                resources=(f"{ec2}:network-interface/*",),
            ),
        ]
    return statements


def _cluster_statement(settings: Settings) -> Statement:
    # Where the cluster's API is; what may be done there is the access entry's and the role binding's to say.
    cluster = f"arn:aws:eks:{settings.region}:{settings.account_id}:cluster/{settings.cluster.name}"
    return Statement(sid="FindCluster", actions=("eks:DescribeCluster",), resources=(cluster,))


def home_event_bus(settings: Settings) -> str:
    """The ARN of the account's own event bus in the home region, where AWS tells of calls."""
    return f"arn:aws:events:{settings.region}:{settings.account_id}:event-bus/default"


def _scheduler_statements(settings: Settings) -> list[Statement]:
    region, account, environment = settings.region, settings.account_id, settings.environment
    functions = tuple(
        f"arn:aws:lambda:{region}:{account}:function:{function_name(environment, function)}" for function in Function
    )
    return [
        Statement(sid="CallFunctions", actions=("lambda:InvokeFunction",), resources=functions),
        Statement(
            sid="KeepUndeliveredCalls",
            actions=("sqs:SendMessage",),
            resources=(f"arn:aws:sqs:{region}:{account}:{failed_events_queue(environment)}",),
        ),
    ]
