"""Invokes provisioned functions as EventBridge Scheduler and Lambda would: their input, variables, role and time limit.

Everything is read back from the AWS API: the schedule's target and input, the function's configuration. Its role is
assumed through STS, and the handler runs in a container of its own that holds those credentials and no others. A
function with a package runs from the package: neither the checkout nor an installed library is there. One with an
image runs in what the image holds.
"""

import base64
import json
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.names import schedule_group
from aivo_backup.stores.aws import translated
from sandbox import packages
from sandbox.pods.container import (
    Container,
    DeadlineError,
    Mount,
    Progress,
    endpoint_mounts,
    image_mounts,
    image_programs,
    run,
    system_mounts,
)
from sandbox.provision.provisioner import STACK
from sandbox.state import REGION, Sandbox

if TYPE_CHECKING:
    from types_boto3_sts.type_defs import CredentialsTypeDef

_PROVISION_FIRST = "provision the sandbox: `aivo-backup sandbox up`"
_EXCHANGE = "/var/run/function"
_TASK_ROOT = "/var/task"
_DRIVER = Path(__file__).with_name("function_driver.py")
_SESSION_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class FunctionError:
    """What a handler raised, as the Lambda service reports it: the exception's type and message."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One call of a function.

    Attributes:
        event: what the handler was given.
        answer: what it returned, as JSON data; None when it failed.
        error: what it raised; None when it returned.
        log: all that it wrote, in lines; also appended to ``.sandbox/logs/<function>.log``.
    """

    function: str
    event: Any
    answer: Any
    error: FunctionError | None
    log: tuple[str, ...]


def invoke_schedule(
    sandbox: Sandbox, name: str, *, scheduled_for: datetime, progress: Progress | None = None
) -> Invocation:
    """Does what EventBridge Scheduler does when a schedule is due: sends its input to its target.

    Args:
        name: the schedule, in the group of the stack `local`.
        scheduled_for: its own time (UTC), for the context attributes in its input.
        progress: called with each line that the function writes.

    Raises:
        ConfigurationError: there is no such schedule or function, or the schedule is disabled.
        UnreachableError: the AWS API does not answer.
    """
    scheduler = sandbox.aws().client("scheduler")
    group = schedule_group(STACK)
    with translated(f"schedule {name}"):
        try:
            schedule = scheduler.get_schedule(GroupName=group, Name=name)
        except scheduler.exceptions.ResourceNotFoundException as error:
            known = [entry.get("Name", "") for entry in scheduler.list_schedules(GroupName=group)["Schedules"]]
            mend = f"known: {', '.join(sorted(known))}" if known else _PROVISION_FIRST
            raise ConfigurationError(f"there is no schedule {name}", mend=mend) from error
    if schedule.get("State") == "DISABLED":
        raise ConfigurationError(f"the schedule {name} is disabled", mend="enable it, or provision the sandbox again")
    target = schedule["Target"]
    text = with_context(
        target.get("Input", "{}"), schedule_arn=schedule["Arn"], scheduled_for=scheduled_for, execution=_identifier()
    )
    return invoke(sandbox, target["Arn"].rpartition(":")[2], json.loads(text), progress=progress)


def with_context(text: str, *, schedule_arn: str, scheduled_for: datetime, execution: str) -> str:
    """A schedule's input with EventBridge's context attributes filled in.

    Args:
        scheduled_for: the schedule's own time, UTC.
        execution: the id of this execution.
    """
    attributes = {
        "schedule-arn": schedule_arn,
        "scheduled-time": scheduled_for.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "execution-id": execution,
        "attempt-number": "1",
    }
    for name, value in attributes.items():
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return text


def invoke(sandbox: Sandbox, function: str, event: object, *, progress: Progress | None = None) -> Invocation:
    """Calls a provisioned function and waits for it.

    Args:
        event: JSON data.
        progress: called with each line that the function writes.

    Raises:
        ConfigurationError: there is no such function.
        AccessDeniedError: its role does not trust the Lambda service.
        UnreachableError: the AWS API does not answer.
    """
    aws = sandbox.aws()
    client = aws.client("lambda")
    with translated(f"function {function}"):
        try:
            configuration = cast("Mapping[str, Any]", client.get_function_configuration(FunctionName=function))
        except client.exceptions.ResourceNotFoundException as error:
            raise ConfigurationError(f"there is no function {function}", mend=_PROVISION_FIRST) from error
    with translated(f"role of function {function}"):
        credentials = aws.client("sts").assume_role(
            RoleArn=configuration["Role"], RoleSessionName=function, DurationSeconds=_SESSION_SECONDS
        )["Credentials"]
    parent = sandbox.home / "functions"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{function}-", dir=parent))
    try:
        return _called(sandbox, configuration, credentials, event, scratch, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _called(
    sandbox: Sandbox,
    configuration: Mapping[str, Any],
    credentials: "CredentialsTypeDef",
    event: object,
    scratch: Path,
    progress: Progress | None,
) -> Invocation:
    name, seconds = str(configuration["FunctionName"]), float(configuration["Timeout"])
    exchange, temporary = scratch / "exchange", scratch / "tmp"
    for folder in (exchange, temporary):
        folder.mkdir(mode=0o700)
    call = {
        "event": event,
        "request_id": _identifier(),
        "function_arn": configuration["FunctionArn"],
        "deadline_seconds": seconds,
    }
    shutil.copy(_DRIVER, exchange / "driver.py")
    (exchange / "call.json").write_text(json.dumps(call), encoding="utf-8")
    code = _code(sandbox, configuration, scratch / "image")
    container = Container(
        name=name,
        argv=(*code.python, f"{_EXCHANGE}/driver.py", f"{_EXCHANGE}/call.json", f"{_EXCHANGE}/outcome.json"),
        environment=_variables(configuration, credentials, task_root=code.task_root, endpoints=sandbox.endpoints_file),
        mounts=[
            *code.mounts,
            *endpoint_mounts(sandbox),
            Mount(source=exchange, target=_EXCHANGE, writable=True),
            Mount(source=temporary, target="/tmp", writable=True),  # noqa: S108 - the function's own
        ],
        working_folder=code.task_root,
        program_folders=image_programs(sandbox),
    )
    log: list[str] = []

    def keep(line: str) -> None:
        log.append(line)
        if progress is not None:
            progress(line)

    try:
        done = run(sandbox, container, timeout_seconds=seconds, progress=keep)
        outcome = _outcome(exchange / "outcome.json", done.exit_code)
    except DeadlineError:
        outcome = _failure("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds")
    _append(sandbox.logs / f"{name}.log", log)
    error = outcome.get("error")
    return Invocation(
        function=name,
        event=event,
        answer=outcome.get("answer"),
        error=FunctionError(**error) if error else None,
        log=tuple(log),
    )


@dataclass(frozen=True, kw_only=True)
class _Code:
    """What a function runs: the Python that starts it, where its handler is, and what of this machine it sees."""

    python: tuple[str, ...]
    task_root: str
    mounts: list[Mount]


def _code(sandbox: Sandbox, configuration: Mapping[str, Any], scratch: Path) -> _Code:
    if configuration["PackageType"] == "Image":
        return _Code(
            python=(sys.executable, "-P"), task_root=str(sandbox.checkout), mounts=image_mounts(sandbox, scratch)
        )
    folder = packages.unpacked(
        base64.b64decode(configuration["CodeSha256"]).hex(), sandbox.home / "packages", sandbox.checkout
    )
    # The interpreter alone: no variable, no user's and no site's packages can lend the package what it lacks.
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return _Code(
        python=(str(interpreter), "-I", "-S"),
        task_root=_TASK_ROOT,
        mounts=[*system_mounts(sandbox, scratch), Mount(source=folder, target=_TASK_ROOT)],
    )


def _variables(
    configuration: Mapping[str, Any], credentials: "CredentialsTypeDef", *, task_root: str, endpoints: Path
) -> dict[str, str]:
    name = str(configuration["FunctionName"])
    command: list[str] = configuration.get("ImageConfigResponse", {}).get("ImageConfig", {}).get("Command") or []
    return {
        **configuration.get("Environment", {}).get("Variables", {}),
        # The rest is what the Lambda service itself sets.
        "_HANDLER": str(configuration.get("Handler") or command[0]),
        "LAMBDA_TASK_ROOT": task_root,
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"]),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "sandbox",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
        "TZ": ":UTC",
        # The one thing that differs from AWS.
        "AIVO_BACKUP_ENDPOINTS": str(endpoints),
    }


def _outcome(file: Path, exit_code: int) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _failure("Runtime.ExitError", f"the handler's process ended with exit code {exit_code} and no answer")


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


def _append(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as log:
        log.writelines(f"{line}\n" for line in lines)


def _identifier() -> str:
    return str(uuid.uuid4())
