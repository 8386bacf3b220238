"""Lambda functions and their log groups."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, cast

import pulumi

from aivo_backup.errors import ConfigurationError
from sandbox.provision.resources import Clients, Document, Realiser, Resource

_DEFAULT_TIMEOUT_SECONDS = 3
_DEFAULT_MEGABYTES = 128
_DEFAULT_SCRATCH_MEGABYTES = 512


class Function(Realiser):
    """A function: its code or image, its configuration and tags.

    The dead-letter queue is not compared: the sandbox's AWS API keeps it nowhere.
    """

    kind = "aws:lambda/function:Function"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        inputs = resource.inputs
        image = inputs.get("imageUri")
        return {
            "code": hashlib.sha256(image.encode()).hexdigest() if image else _digest(self._archive(aws, resource)),
            "package": inputs.get("packageType") or "Zip",
            "handler": inputs.get("handler"),
            "command": (inputs.get("imageConfig") or {}).get("commands") or [],
            "runtime": inputs.get("runtime"),
            "role": resource.text("role"),
            "description": inputs.get("description") or "",
            "timeout": inputs.get("timeout") or _DEFAULT_TIMEOUT_SECONDS,
            "memory": inputs.get("memorySize") or _DEFAULT_MEGABYTES,
            "scratch": (inputs.get("ephemeralStorage") or {}).get("size") or _DEFAULT_SCRATCH_MEGABYTES,
            "variables": (inputs.get("environment") or {}).get("variables") or {},
            "key": inputs.get("kmsKeyArn"),
            "tracing": (inputs.get("tracingConfig") or {}).get("mode") or "PassThrough",
            "concurrency": _concurrency(inputs.get("reservedConcurrentExecutions")),
            "tags": resource.tags,
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            answer = aws.functions.get_function(FunctionName=self.name(resource))
        except aws.functions.exceptions.ResourceNotFoundException:
            return None
        held = cast("Mapping[str, Any]", answer["Configuration"])
        return {
            "code": held["CodeSha256"],
            "package": held["PackageType"],
            "handler": held.get("Handler") or None,
            "command": held.get("ImageConfigResponse", {}).get("ImageConfig", {}).get("Command") or [],
            "runtime": held.get("Runtime") or None,
            "role": held["Role"],
            "description": held.get("Description", ""),
            "timeout": held["Timeout"],
            "memory": held["MemorySize"],
            "scratch": held["EphemeralStorage"]["Size"],
            "variables": held.get("Environment", {}).get("Variables", {}),
            "key": held.get("KMSKeyArn"),
            "tracing": held.get("TracingConfig", {}).get("Mode", "PassThrough"),
            "concurrency": answer.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
            "tags": dict(answer.get("Tags", {})),
        }

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        name = self.name(resource)
        if current is not None:
            # Half of the configuration cannot be updated in the sandbox's AWS API, and nothing hangs on the function.
            aws.functions.delete_function(FunctionName=name)
        optional: Document = {"Handler": wanted["handler"], "Runtime": wanted["runtime"], "KMSKeyArn": wanted["key"]}
        optional["DeadLetterConfig"] = _dead_letters(resource)
        if wanted["command"]:
            optional["ImageConfig"] = {"Command": wanted["command"]}
        image = resource.inputs.get("imageUri")
        aws.functions.create_function(
            FunctionName=name,
            Role=wanted["role"],
            Code={"ImageUri": image} if image else {"ZipFile": self._archive(aws, resource)},
            PackageType=wanted["package"],
            Description=wanted["description"],
            Timeout=wanted["timeout"],
            MemorySize=wanted["memory"],
            EphemeralStorage={"Size": wanted["scratch"]},
            Environment={"Variables": wanted["variables"]},
            TracingConfig={"Mode": wanted["tracing"]},
            Tags=wanted["tags"],
            **{key: value for key, value in optional.items() if value},
        )
        if wanted["concurrency"] is not None:
            aws.functions.put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=wanted["concurrency"]
            )

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        arn = aws.arn("lambda", f"function:{name}")
        return name, {"arn": arn, "qualifiedArn": f"{arn}:$LATEST", "version": "$LATEST"}

    @staticmethod
    def _archive(aws: Clients, resource: Resource) -> bytes:
        code = resource.inputs.get("code")
        if not isinstance(code, pulumi.FileArchive) or not (aws.checkout / code.path).is_file():
            raise ConfigurationError(
                f"{resource.kind} {resource.logical}: its code is neither an image nor a zip file of the checkout",
                mend="use FileArchive (see infra/packages.py) or imageUri",
            )
        return (aws.checkout / code.path).read_bytes()


class LogGroup(Realiser):
    """A log group with its retention, key and tags."""

    kind = "aws:cloudwatch/logGroup:LogGroup"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {
            "days": resource.inputs.get("retentionInDays") or None,
            "key": resource.inputs.get("kmsKeyId"),
            "tags": resource.tags,
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        name = self.name(resource)
        for group in aws.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]:
            if group.get("logGroupName") == name:
                tags = aws.logs.list_tags_for_resource(resourceArn=self._arn(aws, resource))["tags"]
                return {"days": group.get("retentionInDays"), "key": group.get("kmsKeyId"), "tags": dict(tags)}
        return None

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        name = self.name(resource)
        if current is not None and current["key"] != wanted["key"]:
            aws.logs.delete_log_group(logGroupName=name)  # the sandbox's AWS API cannot change a group's key
            current = None
        if current is None:
            key = {"kmsKeyId": wanted["key"]} if wanted["key"] else {}
            aws.logs.create_log_group(logGroupName=name, **key)
            current = {"tags": {}}
        if wanted["days"]:
            aws.logs.put_retention_policy(logGroupName=name, retentionInDays=wanted["days"])
        else:
            aws.logs.delete_retention_policy(logGroupName=name)
        arn = self._arn(aws, resource)
        stale = sorted(current["tags"].keys() - wanted["tags"].keys())
        if stale:
            aws.logs.untag_resource(resourceArn=arn, tagKeys=stale)
        if wanted["tags"]:
            aws.logs.tag_resource(resourceArn=arn, tags=wanted["tags"])

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return self.name(resource), {"arn": self._arn(aws, resource)}

    def _arn(self, aws: Clients, resource: Resource) -> str:
        return aws.arn("logs", f"log-group:{self.name(resource)}")


class EventInvokeConfig(Realiser):
    """How often Lambda calls a function again that failed, and how old an event may become."""

    kind = "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig"

    def name(self, resource: Resource) -> str:
        return resource.text("functionName")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        inputs = resource.inputs
        return {"retries": inputs.get("maximumRetryAttempts"), "oldest": inputs.get("maximumEventAgeInSeconds")}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            held = aws.functions.get_function_event_invoke_config(FunctionName=self.name(resource))
        except aws.functions.exceptions.ResourceNotFoundException:
            return None
        return {"retries": held.get("MaximumRetryAttempts"), "oldest": held.get("MaximumEventAgeInSeconds")}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        aws.functions.put_function_event_invoke_config(
            FunctionName=self.name(resource),
            MaximumRetryAttempts=wanted["retries"],
            MaximumEventAgeInSeconds=wanted["oldest"],
        )

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return self.name(resource), {}


def _concurrency(reserved: int | None) -> int | None:
    return None if reserved is None or reserved < 0 else reserved


def _dead_letters(resource: Resource) -> Document | None:
    letters: Document = resource.inputs.get("deadLetterConfig") or {}
    return {"TargetArn": letters["targetArn"]} if letters else None


def _digest(archive: bytes) -> str:
    return base64.b64encode(hashlib.sha256(archive).digest()).decode()


REALISERS: tuple[Realiser, ...] = (LogGroup(), Function(), EventInvokeConfig())
