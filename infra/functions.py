"""The Lambda functions: restore tests, registration, reports."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import (
    OPERATIONS,
    PROJECT,
    SETTINGS_VARIABLE,
    STATE_VARIABLE,
    Function,
    Role,
    failed_events_queue,
    function_name,
    secret_name,
    settings_parameter,
)
from infra.access import SECRET_READERS
from infra.identity import FUNCTION_ROLES
from infra.settings import Settings
from infra.tags import aws_tags

# What AWS allows; a restore test that needs longer is a Job in the cluster.
_TIMEOUT_SECONDS = 900
_RUNTIME = "python3.11"
_FAILED_EVENTS_KEPT_SECONDS = 14 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class FunctionsArgs:
    """What the functions depend on.

    Attributes:
        role_arns: role to ARN; holds those of :data:`infra.identity.FUNCTION_ROLES`.
    """

    settings: Settings
    role_arns: Mapping[Role, pulumi.Output[str]]
    key_arns: Mapping[str, pulumi.Output[str]]


class Functions(pulumi.ComponentResource):
    """The functions, their log groups and the queue of what they failed on.

    Attributes:
        arns: function to ARN.
        failed_events: the dead-letter queue.
    """

    arns: Mapping[Function, pulumi.Output[str]]
    failed_events: aws.sqs.Queue

    def __init__(self, name: str, args: FunctionsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Functions", name, None, opts)
        self._args = args
        self._key = args.key_arns[OPERATIONS]
        self.failed_events = self._build_queue()
        for secret in sorted({secret for secrets in SECRET_READERS.values() for secret in secrets}):
            self._build_secret(secret)
        self.arns = {function: self._build_function(function) for function in Function}
        self.register_outputs({"arns": {function.value: arn for function, arn in self.arns.items()}})

    def _build_queue(self) -> aws.sqs.Queue:
        settings = self._args.settings
        return aws.sqs.Queue(
            "failed-events",
            name=failed_events_queue(settings.environment),
            kms_master_key_id=self._key,
            message_retention_seconds=_FAILED_EVENTS_KEPT_SECONDS,
            tags=aws_tags(settings, component="functions", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _build_secret(self, secret: str) -> None:
        settings = self._args.settings
        # The value is put there by whoever owns the store: in Pulumi it would be in the state.
        aws.secretsmanager.Secret(
            f"{secret}-secret",
            name=secret_name(settings.environment, secret),
            kms_key_id=self._key,
            tags=aws_tags(settings, component=secret, data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _build_function(self, function: Function) -> pulumi.Output[str]:
        settings, role = self._args.settings, FUNCTION_ROLES[function]
        name = function_name(settings.environment, function)
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/lambda/{name}",
            retention_in_days=settings.functions.log_retention_days,
            kms_key_id=self._key,
            tags=aws_tags(settings, component=function.value, data_class="audit"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        image = settings.functions.image
        resource = aws.lambda_.Function(
            name,
            name=name,
            description=f"{PROJECT}: {function.value}",
            role=self._args.role_arns[role],
            package_type="Image" if image else "Zip",
            image_uri=image or None,
            image_config={"commands": [function.handler]} if image else None,
            code=None if image else _source_archive(),
            handler=None if image else function.handler,
            runtime=None if image else _RUNTIME,
            timeout=_TIMEOUT_SECONDS,
            memory_size=settings.functions.memory_megabytes,
            ephemeral_storage={"size": settings.functions.scratch_megabytes},
            reserved_concurrent_executions=settings.functions.reserved_concurrency,
            environment={"variables": self._variables(function)},
            kms_key_arn=self._key,
            dead_letter_config={"target_arn": self.failed_events.arn},
            tracing_config={"mode": "Active" if settings.functions.tracing else "PassThrough"},
            vpc_config=(
                {
                    "subnet_ids": list(settings.functions.subnets),
                    "security_group_ids": list(settings.functions.security_groups),
                }
                if settings.functions.subnets
                else None
            ),
            tags=aws_tags(settings, component=function.value, data_class="none"),
            # The group must be there first, or Lambda makes one without retention and without our key.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs]),
        )
        return resource.arn

    def _variables(self, function: Function) -> dict[str, pulumi.Input[str]]:
        settings = self._args.settings
        return {
            SETTINGS_VARIABLE: f"ssm:{settings_parameter(settings.environment)}",
            # The only folder that a function may write to.
            STATE_VARIABLE: "/tmp/aivo-backup",  # noqa: S108
            "POWERTOOLS_SERVICE_NAME": function.value,
            "POWERTOOLS_METRICS_NAMESPACE": PROJECT,
            "POWERTOOLS_LOG_LEVEL": "INFO",
        }


def _source_archive() -> pulumi.Archive:
    return pulumi.AssetArchive(
        {"lambdas": pulumi.FileArchive("lambdas"), "aivo_backup": pulumi.FileArchive("aivo_backup")}
    )
