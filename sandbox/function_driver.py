"""Runs inside the function's container: imports the handler, calls it once, writes what came of it.

Arguments: the file with the event and the context, and the file for the outcome. It imports nothing but the standard
library before the handler, and nothing of the sandbox, so that a handler which leans on the sandbox fails here as it
would in AWS.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Context:
    """What Lambda passes beside the event."""

    def __init__(self, request_id: str, function_arn: str, deadline_seconds: float) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = function_arn
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._ends_at = time.monotonic() + deadline_seconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        return max(0, int((self._ends_at - time.monotonic()) * 1000))


def handler_named(name: str) -> Callable[[object, Context], object]:
    """The handler that ``package.module.function`` or ``package/module.function`` names."""
    module, _, function = name.replace("/", ".").rpartition(".")
    return getattr(importlib.import_module(module), function)


def outcome_of(call: dict[str, Any]) -> dict[str, Any]:
    """Calls the handler; its answer, or its error's type and message, as the Lambda service reports them."""
    context = Context(call["request_id"], call["function_arn"], call["deadline_seconds"])
    try:
        answer = handler_named(os.environ["_HANDLER"])(call["event"], context)
        return {"answer": json.loads(json.dumps(answer))}
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the invocation's result
        return {"error": {"type": type(error).__name__, "message": str(error)}}


def main() -> None:
    """Reads the call, makes it, writes the outcome."""
    call, outcome = (Path(argument) for argument in sys.argv[1:3])
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    result = outcome_of(json.loads(call.read_text(encoding="utf-8")))
    outcome.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
