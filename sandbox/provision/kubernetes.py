"""Kubernetes objects become YAML manifests: what `kubectl apply` would send, for people, pods and a cluster alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from aivo_backup.errors import ConfigurationError
from sandbox.provision.resources import Change, Realised, Resource

PREFIX = "kubernetes:"
"""Every type token of the Kubernetes provider starts so."""


def realise_manifest(folder: Path, resource: Resource) -> Realised:
    """Writes ``<kind>-<name>.yaml``, only when its content changes.

    Args:
        folder: where the manifests are, usually ``.sandbox/kubernetes``; made when missing.

    Raises:
        ConfigurationError: the object has no kind or no name.
    """
    metadata: Mapping[str, Any] = resource.inputs.get("metadata") or {}
    kind, name = resource.text("kind"), metadata.get("name")
    resource.text("apiVersion")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"{resource.kind} {resource.logical}: metadata.name is missing", mend="name it; pods are found by name"
        )
    body = {key: value for key, value in resource.inputs.items() if value is not None}
    # Sorted: the program's order of keys is not the same at every run.
    text = yaml.safe_dump(body, sort_keys=True, allow_unicode=True, width=120)
    file = manifest_file(folder, kind, name)
    change = _write_if_changed(file, text)
    namespace = metadata.get("namespace")
    identity = f"{namespace}/{name}" if namespace else name
    return Realised(change=change, name=f"{kind}/{name}", id=identity, outputs=dict(body))


def manifest_file(folder: Path, kind: str, name: str) -> Path:
    """Where the manifest of one object is."""
    return folder / f"{kind.lower()}-{name}.yaml"


def _write_if_changed(file: Path, text: str) -> Change:
    before = file.read_text(encoding="utf-8") if file.exists() else None
    if before == text:
        return Change.UNCHANGED
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
    return Change.CREATED if before is None else Change.CORRECTED
