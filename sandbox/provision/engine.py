"""Between the Pulumi program and the realisers: its configuration in, its resources out."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pulumi.runtime import mocks, rpc

from aivo_backup.errors import ConfigurationError
from sandbox.provision.resources import Resource

Realise = Callable[[Resource], tuple[str, dict[str, Any]]]
Invoke = Callable[[str, Mapping[str, Any]], dict[str, Any]]

_PROVIDERS = "pulumi:providers:"


def stack_configuration(checkout: Path, name: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """The configuration of a stack as Pulumi hands it to a program: text, JSON for whatever is not text itself.

    Args:
        checkout: the folder of ``Pulumi.yaml``, with ``stacks/`` beside it.
        name: the stack.
        overrides: values that take the place of the file's, by the same full keys; nested objects are merged.

    Raises:
        ConfigurationError: the file is missing or malformed, or holds an encrypted value.
    """
    file = checkout / "stacks" / f"Pulumi.{name}.yaml"
    try:
        content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        values: dict[str, Any] = dict(content.get("config") or {})
    except (OSError, yaml.YAMLError, AttributeError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}", mend="restore it from git") from error
    for key, value in values.items():
        if isinstance(value, Mapping) and "secure" in value:
            raise ConfigurationError(f"{file}: {key} is encrypted", mend="the sandbox takes its secrets from .sandbox/")
    settled = merged(values, overrides)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in settled.items()}


class Realising(mocks.Mocks):
    """Stands where Pulumi's engine would be: hands each resource on, one at a time.

    Attributes:
        failure: what stopped the run first. Pulumi wraps it several times over before it comes out.
    """

    def __init__(self, realise: Realise, invoke: Invoke) -> None:
        self._realise = realise
        self._invoke = invoke
        self._lock = threading.Lock()
        self._regions: dict[str, str] = {}
        self.failure: Exception | None = None

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs: dict[str, Any] = _plain(args.inputs)
        if args.typ.startswith(_PROVIDERS) or args.custom is False:  # components only group others
            self._regions[f"{args.name}-id"] = str(inputs.get("region", ""))
            return f"{args.name}-id", inputs
        with self._lock:
            if self.failure is not None:  # the run is lost; the rest would only bury the cause
                raise self.failure
            try:
                # A reference to a provider is its URN and its id.
                region = self._regions.get((args.provider or "").rpartition("::")[2], "")
                return self._realise(Resource(kind=args.typ, logical=args.name, inputs=inputs, region=region))
            except Exception as error:
                self.failure = error
                raise

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        try:
            return self._invoke(args.token, _plain(args.args)), []
        except Exception as error:
            self.failure = self.failure or error
            raise


def _plain(value: Any) -> Any:
    """The values themselves: secrets unwrapped, and whole numbers, which protocol buffers do not know, made int."""
    if rpc.is_rpc_secret(value):
        return _plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``overrides`` in their place; nested objects are merged. The arguments stay as they are."""
    result = dict(values)
    for key, value in overrides.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merged(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", value))
        else:
            result[key] = value
    return result
