"""From the program's words to the API's: camelCase to PascalCase, JSON documents to one spelling."""

import json
from collections.abc import Mapping
from typing import Any, cast

_SPELLED = {
    "id": "ID",
    "sseAlgorithm": "SSEAlgorithm",
    "kmsMasterKeyId": "KMSMasterKeyID",
    "replicaKmsKeyId": "ReplicaKmsKeyID",
}
"""Keys of the S3 API that are not just the program's with a capital."""


def api_form(value: Any, spelled: Mapping[str, str] = _SPELLED) -> Any:
    """The value with every key as S3's API spells it, and without the keys that are unset."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        return {
            spelled.get(key, key[:1].upper() + key[1:]): api_form(item, spelled)
            for key, item in entries.items()
            if item is not None
        }
    if isinstance(value, list):
        return [api_form(item, spelled) for item in cast("list[Any]", value)]
    return value


def json_form(document: Any) -> Any:
    """A JSON document as data, whether it comes as text or as data already; None stays None."""
    return json.loads(document) if isinstance(document, str) else document


def tag_list(tags: Mapping[str, str]) -> list[Any]:
    """Tags as the list of ``Key`` and ``Value`` that most APIs take, sorted."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def tag_map(tags: Any, *, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """The inverse of :func:`tag_list`; KMS names the two differently."""
    return {entry[key]: entry[value] for entry in cast("list[dict[str, str]]", list(tags or []))}
