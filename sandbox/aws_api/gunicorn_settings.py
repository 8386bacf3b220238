"""gunicorn's settings file: lets S3 metadata keys keep their underscores.

WSGI cannot tell ``x-amz-meta-a_b`` from ``x-amz-meta-a-b``, so gunicorn drops the first. S3 knows both. The hook notes
the original names in a header of its own, from which the application tells moto.
"""

from typing import Protocol

NOTE = "X-SANDBOX-UNDERSCORED"
_METADATA = "X-AMZ-META-"

header_map = "dangerous"  # "do not drop": the hook below decides


class Request(Protocol):
    """What the hook needs of gunicorn's request: header names (upper case) and values."""

    headers: list[tuple[str, str]]


def pre_request(_worker: object, request: Request) -> None:
    """gunicorn calls this before it builds the WSGI environment."""
    dashed = {name for name, _ in request.headers if "_" not in name}
    kept = [
        (name, value)
        for name, value in request.headers
        if name != NOTE and ("_" not in name or (name.startswith(_METADATA) and name.replace("_", "-") not in dashed))
    ]
    names = ",".join(name for name, _ in kept if "_" in name)
    request.headers = [*kept, (NOTE, names)] if names else kept
