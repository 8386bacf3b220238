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
from infra.packages import PACKAGED, Packages, built, path_of
from infra.settings import Settings
from infra.tags import aws_tags

NEEDS_IMAGE = {
    Function.VERIFY_RESTORE: "restores with pgBackRest, and starts a PostgreSQL server on what came back",
    Function.REGISTER_SNAPSHOT: "asks pgBackRest what its encrypted repository holds",
    Function.COMPLIANCE_REPORT: "draws plots: matplotlib and numpy alone fill a zip package",
}
"""Why a function runs from the image; one that is not named here runs from its zip package."""

# What AWS allows; a restore test that needs longer is a Job in the cluster.
TIMEOUT_SECONDS = 900
# The runtime client in the image: it asks Lambda for events and calls the handler that the command names.
_IMAGE_ENTRY_POINT = ("python3", "-m", "awslambdaric")
# The longest that SQS offers: whoever was away for a week still finds what was given up.
_FAILED_EVENTS_KEPT_SECONDS = 14 * 24 * 3600
# A store that did not answer may answer a minute later; what fails twice is for a person, and each try is a whole
# restore. Ids of records come from the schedule's own time or the start, so a second try spoils nothing.
_RETRIES = 1
# An event that waited longer is too late to be that day's proof; it goes to the queue, and the alarm off.
_OLDEST_EVENT_SECONDS = 2 * 3600


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
        self._packages = built() if needs_packages(args.settings) else None
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
        code = _code(settings, function, self._packages)
        resource = aws.lambda_.Function(
            name,
            name=name,
            description=f"{PROJECT}: {function.value}",
            role=self._args.role_arns[role],
            package_type="Zip" if code.package else "Image",
            image_uri=code.image or None,
            image_config=(
                {"entry_points": list(_IMAGE_ENTRY_POINT), "commands": [function.handler]} if code.image else None
            ),
            code=pulumi.FileArchive(code.package) if code.package else None,
            source_code_hash=code.package_hash or None,
            handler=function.handler if code.package else None,
            runtime=code.runtime or None,
            timeout=TIMEOUT_SECONDS,
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
        # The scheduler hands an event over and is done; what happens when the function then fails is Lambda's to know.
        aws.lambda_.FunctionEventInvokeConfig(
            f"{name}-retries",
            function_name=resource.name,
            maximum_retry_attempts=_RETRIES,
            maximum_event_age_in_seconds=_OLDEST_EVENT_SECONDS,
            opts=pulumi.ResourceOptions(parent=resource),
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


@dataclass(frozen=True, kw_only=True)
class _Code:
    """What a function runs: an image by digest, or a package with its hash and the runtime that it was made for."""

    image: str = ""
    package: str = ""
    package_hash: str = ""
    runtime: str = ""


def needs_packages(settings: Settings) -> bool:
    """Whether a function of the environment runs from its zip package, so that those have to be built first."""
    return any(_zipped(settings, function) for function in Function)


def _zipped(settings: Settings, function: Function) -> bool:
    return function not in NEEDS_IMAGE or (settings.functions.zipped and function in PACKAGED)


def _code(settings: Settings, function: Function, packages: Packages | None) -> _Code:
    if packages is None or not _zipped(settings, function):
        return _Code(image=settings.functions.image)
    return _Code(
        package=path_of(function),
        package_hash=packages.packages[function.value].source_code_hash,
        runtime=packages.runtime,
    )
