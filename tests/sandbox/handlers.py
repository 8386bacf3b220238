"""Handlers for the tests of how functions are invoked; imported only inside a function's container."""

import json
import os
import time
from pathlib import Path
from typing import Any

import boto3


def describe(event: object, context: Any) -> dict[str, object]:
    """Answers with everything that a handler can see."""
    print("described")
    scratch = Path("/tmp/scratch")
    fresh = not scratch.exists()
    scratch.write_text("mine")
    return {
        "event": event,
        "variables": dict(os.environ),
        "user": os.getuid(),
        "request_id": context.aws_request_id,
        "function": context.function_name,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "visible": sorted(str(path) for path in Path(os.environ["AIVO_BACKUP_ENDPOINTS"]).parent.rglob("*")),
        "fresh": fresh,
    }


def act(event: dict[str, str], _context: object) -> dict[str, str]:
    """Says who it is, and tries to write an object."""
    endpoints = json.loads(Path(os.environ["AIVO_BACKUP_ENDPOINTS"]).read_text())
    options = {"endpoint_url": endpoints["aws"], "verify": endpoints["ca_file"]}
    identity = boto3.client("sts", **options).get_caller_identity()["Arn"]
    boto3.client("s3", **options).put_object(Bucket=event["bucket"], Key=event["key"], Body=b"{}", IfNoneMatch="*")
    return {"identity": identity}


def fail(_event: object, _context: object) -> None:
    raise ValueError("nothing to do")


def linger(_event: object, _context: object) -> None:
    time.sleep(60)


def vanish(_event: object, _context: object) -> None:
    os._exit(3)


def answer_badly(_event: object, _context: object) -> object:
    return {1, 2}
