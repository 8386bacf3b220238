"""Frozen dataclasses to and from JSON, strictly: an unknown, missing or mistyped key is named with its path.

Supported field types: ``str``, ``int``, ``float``, ``bool``, ``datetime`` (UTC, RFC 3339), ``StrEnum``, other
dataclasses, ``tuple[T, ...]``, ``Mapping[str, T]`` and ``T | None``. It exists because ``policy`` may not depend on a
validation library: the Pulumi program and the smallest Lambda import it.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from aivo_backup.errors import ConfigurationError

T = TypeVar("T")


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, for example ``2026-11-23T04:00:00.000000Z``.

    Fixed width, so that text order is time order in listings and in Athena.
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The inverse of :func:`format_time`; accepts any RFC 3339 offset.

    Raises:
        ValueError: the text is not a time, or carries no offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def to_json(value: object) -> Any:
    """The JSON form of a dataclass tree (dicts, lists, strings, numbers, booleans, null)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in cast("list[object]", value)]
    return value


def from_json(kind: type[T], data: object, *, where: str) -> T:
    """Builds ``kind`` from JSON data.

    Args:
        kind: a dataclass.
        data: what ``json.loads`` gave.
        where: how to name the source in an error, for example ``settings.json``.

    Raises:
        ConfigurationError: a key is unknown, missing, or of the wrong type; the message names its full path.
    """
    return cast("T", _decode(kind, data, where))


def from_text(kind: type[T], text: str | bytes, *, where: str) -> T:
    """Builds ``kind`` from JSON text.

    Raises:
        ConfigurationError: it is not JSON, or not this kind: see :func:`from_json`.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", mend="look at its older versions") from error
    return from_json(kind, data, where=where)


def _decode(kind: Any, data: object, path: str) -> object:
    origin = get_origin(kind)
    if origin in (types.UnionType, Union):
        return _decode_optional(kind, data, path)
    if origin is tuple:
        if not isinstance(data, list):
            raise _mistyped(path, "a list", data)
        item_kind = get_args(kind)[0]
        items = cast("list[object]", data)
        return tuple(_decode(item_kind, item, f"{path}[{number}]") for number, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise _mistyped(path, "an object", data)
        item_kind = get_args(kind)[1]
        entries = cast("dict[str, object]", data)
        return {key: _decode(item_kind, item, f"{path}.{key}") for key, item in entries.items()}
    if is_dataclass(kind):
        return _decode_dataclass(cast("type[object]", kind), data, path)
    return _decode_scalar(kind, data, path)


def _decode_optional(kind: Any, data: object, path: str) -> object:
    members = [member for member in get_args(kind) if member is not types.NoneType]
    if data is None and len(members) < len(get_args(kind)):
        return None
    if len(members) == 1:
        return _decode(members[0], data, path)
    # A union of scalars (the facts of a record): JSON already says which one it is.
    if any(isinstance(member, type) and type(data) is member for member in members):
        return data
    raise _mistyped(path, " or ".join(getattr(member, "__name__", str(member)) for member in members), data)


def _decode_dataclass(kind: type[object], data: object, path: str) -> object:
    if not isinstance(data, dict):
        raise _mistyped(path, "an object", data)
    entries = cast("dict[str, object]", data)
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(cast("Any", kind))}
    for key in entries:
        if key not in known:
            raise ConfigurationError(f"{path}.{key} is not a known key", mend=f"known here: {', '.join(known)}")
    values: dict[str, object] = {}
    for name, field in known.items():
        if name in entries:
            values[name] = _decode(hints[name], entries[name], f"{path}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigurationError(f"{path}.{name} is missing", mend="add it")
    return kind(**values)


def _decode_scalar(kind: Any, data: object, path: str) -> object:
    if kind is datetime:
        if not isinstance(data, str):
            raise _mistyped(path, "a time", data)
        try:
            return parse_time(data)
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}", mend="write it as 2026-01-31T12:00:00Z") from error
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        allowed = ", ".join(member.value for member in kind)
        try:
            return kind(data)
        except ValueError as error:
            raise ConfigurationError(f"{path} is {data!r}", mend=f"use one of {allowed}") from error
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if type(data) is not kind:
        raise _mistyped(path, cast("type[object]", kind).__name__, data)
    return data


def _mistyped(path: str, wanted: str, data: object) -> ConfigurationError:
    return ConfigurationError(f"{path} must be {wanted}, not {data!r}")
