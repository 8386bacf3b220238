"""What a realiser is: the one class per resource type that makes a resource true in the sandbox's AWS API."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3

from aivo_backup.errors import BackupError, ConfigurationError

if TYPE_CHECKING:
    from types_boto3_cloudwatch.client import CloudWatchClient
    from types_boto3_iam.client import IAMClient
    from types_boto3_kms.client import KMSClient
    from types_boto3_lambda.client import LambdaClient
    from types_boto3_logs.client import CloudWatchLogsClient
    from types_boto3_s3.client import S3Client
    from types_boto3_scheduler.client import EventBridgeSchedulerClient
    from types_boto3_secretsmanager.client import SecretsManagerClient
    from types_boto3_sns.client import SNSClient
    from types_boto3_sqs.client import SQSClient
    from types_boto3_ssm.client import SSMClient

Document = dict[str, Any]
"""A resource's properties in the API's own words, or a part of them."""


class Clients:
    """The AWS clients of the administrator, each made when it is first asked for, and what realisers look up locally.

    Attributes:
        administrator: the ARN of the session's identity.
        checkout: where the sources of functions are.
        secrets_folder: the sandbox's values of the secrets, a folder each with a file per key.
        found_keys: of this run, KMS key ids by the name that the sandbox gave them; asking takes a call for each key.
    """

    def __init__(
        self, session: boto3.Session, *, account: str, administrator: str, checkout: Path, secrets_folder: Path
    ) -> None:
        self.session = session
        self.account = account
        self.administrator = administrator
        self.checkout = checkout
        self.secrets_folder = secrets_folder
        self.found_keys: dict[str, str] = {}

    @property
    def region(self) -> str:
        """The region of the session."""
        return self.session.region_name or ""

    def arn(self, service: str, rest: str) -> str:
        """An ARN of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{rest}"

    @cached_property
    def s3(self) -> "S3Client":
        """Amazon S3."""
        return self.session.client("s3")

    @cached_property
    def kms(self) -> "KMSClient":
        """Key Management Service."""
        return self.session.client("kms")

    @cached_property
    def iam(self) -> "IAMClient":
        """Identity and Access Management."""
        return self.session.client("iam")

    @cached_property
    def functions(self) -> "LambdaClient":
        """AWS Lambda."""
        return self.session.client("lambda")

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """CloudWatch Logs."""
        return self.session.client("logs")

    @cached_property
    def cloudwatch(self) -> "CloudWatchClient":
        """CloudWatch metrics and alarms."""
        return self.session.client("cloudwatch")

    @cached_property
    def sqs(self) -> "SQSClient":
        """Simple Queue Service."""
        return self.session.client("sqs")

    @cached_property
    def sns(self) -> "SNSClient":
        """Simple Notification Service."""
        return self.session.client("sns")

    @cached_property
    def scheduler(self) -> "EventBridgeSchedulerClient":
        """EventBridge Scheduler."""
        return self.session.client("scheduler")

    @cached_property
    def ssm(self) -> "SSMClient":
        """Systems Manager."""
        return self.session.client("ssm")

    @cached_property
    def secrets(self) -> "SecretsManagerClient":
        """Secrets Manager."""
        return self.session.client("secretsmanager")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource as the program registers it.

    Attributes:
        kind: Pulumi's type token, for example ``aws:s3/bucket:Bucket``.
        logical: its name within the program.
        inputs: its properties, keys in camelCase, every value known.
        region: of its provider; the account's own when empty.
    """

    kind: str
    logical: str
    inputs: Mapping[str, Any]
    region: str = ""

    def text(self, key: str) -> str:
        """A property that must be there.

        Raises:
            ConfigurationError: it is not.
        """
        value = self.inputs.get(key)
        if not isinstance(value, str) or not value:
            raise ConfigurationError(
                f"{self.kind} {self.logical}: {key} is missing", mend="set it in the program; the sandbox makes up none"
            )
        return value

    @property
    def tags(self) -> dict[str, str]:
        """Its tags; empty when it has none."""
        return dict(cast("Mapping[str, str]", self.inputs.get("tags") or {}))


class Change(StrEnum):
    """What realising a resource came to."""

    CREATED = "created"
    CORRECTED = "corrected"
    UNCHANGED = "unchanged"


class Realiser(ABC):
    """Makes one type of resource true. Stateless: everything is looked up by physical name, every time.

    Attributes:
        kind: the type token that it handles.
    """

    kind: str

    @abstractmethod
    def name(self, resource: Resource) -> str:
        """The physical name, by which it is looked up and reported."""

    @abstractmethod
    def wanted(self, aws: Clients, resource: Resource) -> Document:
        """The properties that it must have, in the same form as :meth:`read` gives them."""

    @abstractmethod
    def read(self, aws: Clients, resource: Resource) -> Document | None:
        """The properties that it has now; None when it does not exist."""

    @abstractmethod
    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        """Creates it (``current`` is None) or corrects it."""

    @abstractmethod
    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        """Its Pulumi id, and the outputs beyond its inputs that the program may ask for. It exists by now."""


@dataclass(frozen=True, kw_only=True)
class Realised:
    """A resource that is now as the program says."""

    change: Change
    name: str
    id: str
    outputs: Document


def realise(realiser: Realiser, aws: Clients, resource: Resource) -> Realised:
    """Creates what is missing, corrects what differs, leaves what is equal.

    Raises:
        BackupError: the API accepted the properties and does not hold them.
    """
    name = realiser.name(resource)
    wanted = realiser.wanted(aws, resource)
    current = realiser.read(aws, resource)
    change = Change.UNCHANGED if current == wanted else Change.CREATED if current is None else Change.CORRECTED
    if change is not Change.UNCHANGED:
        realiser.write(aws, resource, wanted, current)
        held = realiser.read(aws, resource)
        if held != wanted:
            # Without this, such a resource would be "corrected" at every run and never be right.
            raise BackupError(
                f"{resource.kind} {name}: the sandbox's AWS API does not hold {differing(wanted, held or {})}",
                mend=f"correct its realiser for {resource.kind}",
            )
    identity, outputs = realiser.identify(aws, resource)
    return Realised(change=change, name=name, id=identity, outputs={**resource.inputs, **outputs, "id": identity})


def differing(wanted: Document, held: Document) -> str:
    """The names of the properties that differ, for a message."""
    return ", ".join(sorted(key for key in {*wanted, *held} if wanted.get(key) != held.get(key)))
