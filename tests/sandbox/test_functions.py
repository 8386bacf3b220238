"""Functions are invoked with the input, the configuration and the role that were provisioned, and nothing else."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from aivo_backup.errors import AccessDeniedError, ConfigurationError
from sandbox import functions
from sandbox.state import ACCOUNT, Sandbox
from tests.sandbox.lone import Provisioned

ROLES = f"arn:aws:iam::{ACCOUNT}:role/aivo-backup-local-"
DUE = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)


@pytest.fixture
def sandbox(provisioned: Provisioned) -> Sandbox:
    return provisioned.sandbox


def function(sandbox: Sandbox, handler: str, *, role: str = "reporter", timeout: int = 60) -> str:
    """Makes a function of one of the test's own handlers; answers its name."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    sandbox.aws().client("lambda").create_function(
        FunctionName=name,
        Role=ROLES + role,
        PackageType="Image",
        Code={"ImageUri": "aivo-backup:local"},
        ImageConfig={"Command": [f"tests.sandbox.handlers.{handler}"]},
        Timeout=timeout,
        MemorySize=256,
        Environment={"Variables": {"COLOUR": "blue"}},
    )
    return name


def test_the_input_of_a_schedule_gets_its_context() -> None:
    text = (
        '{"at": "<aws.scheduler.scheduled-time>", "arn": "<aws.scheduler.schedule-arn>", '
        '"id": "<aws.scheduler.execution-id>", "attempt": "<aws.scheduler.attempt-number>"}'
    )
    filled = functions.with_context(text, schedule_arn="arn:x", scheduled_for=DUE, execution="e-1")
    assert filled == '{"at": "2026-11-23T07:00:00Z", "arn": "arn:x", "id": "e-1", "attempt": "1"}'


def test_a_handler_sees_its_own_variables_and_what_the_service_sets_and_no_others(sandbox: Sandbox) -> None:
    name = function(sandbox, "describe")
    done = functions.invoke(sandbox, name, {"question": 1})
    assert done.error is None
    seen: dict[str, Any] = done.answer
    assert seen["event"] == {"question": 1}
    assert (seen["user"], seen["function"], seen["memory"]) == (1000, name, 256)
    assert seen["arn"].endswith(f":function:{name}")
    assert 0 < seen["remaining_ms"] <= 60_000
    assert set(seen["variables"]) == {
        "COLOUR", "PATH", "HOME", "LANG", "TZ", "_HANDLER", "LAMBDA_TASK_ROOT",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "AIVO_BACKUP_ENDPOINTS", "PWD",
    } - ({"PWD"} - set(seen["variables"]))  # fmt: skip
    assert seen["visible"] == [str(sandbox.ca_file.parent), str(sandbox.ca_file), str(sandbox.endpoints_file)]
    assert seen["fresh"]


def test_each_call_has_a_scratch_of_its_own_and_leaves_nothing(sandbox: Sandbox) -> None:
    name = function(sandbox, "describe")
    first, second = (functions.invoke(sandbox, name, {}) for _ in range(2))
    assert first.answer["fresh"]
    assert second.answer["fresh"]
    assert first.answer["request_id"] != second.answer["request_id"]
    assert list((sandbox.home / "functions").iterdir()) == []


def test_what_a_handler_writes_is_heard_and_kept(sandbox: Sandbox) -> None:
    name = function(sandbox, "describe")
    heard: list[str] = []
    done = functions.invoke(sandbox, name, {}, progress=heard.append)
    assert heard == list(done.log) == ["described"]
    assert (sandbox.logs / f"{name}.log").read_text() == "described\n"


def test_a_handler_acts_under_the_functions_role_and_may_no_more_than_that(sandbox: Sandbox) -> None:
    name = function(sandbox, "act", role="reporter")
    key = f"reports/daily/{uuid.uuid4().hex}.json"
    allowed = functions.invoke(sandbox, name, {"bucket": "aivo-backup-compliance", "key": key})
    assert allowed.error is None
    assert allowed.answer["identity"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/aivo-backup-local-reporter/")
    refused = functions.invoke(sandbox, name, {"bucket": "aivo-backup-postgres", "key": key})
    assert refused.error is not None
    assert refused.error.type == "AccessDenied"


def test_a_role_that_does_not_trust_lambda_is_refused(sandbox: Sandbox) -> None:
    name = function(sandbox, "describe", role="minio-writer")
    with pytest.raises(AccessDeniedError, match=f"role of function {name}"):
        functions.invoke(sandbox, name, {})


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("fail", "ValueError", "nothing to do"),
        ("vanish", "Runtime.ExitError", "exit code 3"),
        ("answer_badly", "TypeError", "not JSON serializable"),
        ("absent", "AttributeError", "absent"),
    ],
)
def test_what_goes_wrong_in_a_handler_is_the_invocations_result(
    sandbox: Sandbox, handler: str, kind: str, message: str
) -> None:
    done = functions.invoke(sandbox, function(sandbox, handler), {})
    assert done.answer is None
    assert done.error is not None
    assert done.error.type == kind
    assert message in done.error.message


def test_a_handler_that_takes_too_long_is_ended(sandbox: Sandbox) -> None:
    done = functions.invoke(sandbox, function(sandbox, "linger", timeout=1), {})
    assert str(done.error) == "Sandbox.Timedout: Task timed out after 1.00 seconds"


def test_a_due_schedule_calls_its_function_with_its_input(sandbox: Sandbox) -> None:
    done = functions.invoke_schedule(sandbox, "report-daily", scheduled_for=DUE)
    assert done.error is None, done.log
    assert done.event == {"period": "daily", "scheduled_for": "2026-11-23T07:00:00Z"}
    s3 = sandbox.aws().client("s3")
    for file in done.answer["files"]:
        assert s3.head_object(Bucket=file["location"], Key=file["key"])["ContentLength"] == file["size_bytes"]


def test_an_unknown_schedule_and_an_unknown_function_are_named(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no schedule weekly: known: .*report-daily"):
        functions.invoke_schedule(sandbox, "weekly", scheduled_for=DUE)
    with pytest.raises(ConfigurationError, match="there is no function nobody"):
        functions.invoke(sandbox, "nobody", {})
