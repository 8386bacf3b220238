"""The objects of the stacks that are not run here, applied beside the tests; what became of them is asked later."""

import json
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

from sandbox.cluster.kubectl import Kubectl
from sandbox.plan import register

STACKS = ("dev", "staging", "prod")
_NAMESPACES = ("aivo-system", "aivo")


def _moved(value: Any, stack: str) -> Any:
    """The same object in namespaces of its own, so that stacks do not meet in one cluster."""
    if isinstance(value, dict):
        return {key: _moved(item, stack) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_moved(item, stack) for item in cast("list[Any]", value)]
    return f"{value}-{stack}" if value in _NAMESPACES else value


def _identity(document: Any) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return str(document["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


@contextmanager
def applied(kubectl: Kubectl) -> Generator["dict[str, Future[None]]"]:
    """Applies them side by side while the block runs; a stack's future has what was wrong with it."""
    with ThreadPoolExecutor(1) as registering, ThreadPoolExecutor(len(STACKS)) as applying:
        # One after the other: a process registers one program at a time.
        objects = {stack: registering.submit(_objects, stack) for stack in STACKS}
        yield {stack: applying.submit(_apply, kubectl, stack, objects[stack]) for stack in STACKS}


def _objects(stack: str) -> list[Any]:
    kubernetes = (one.inputs for one in register(stack).resources if one.type.startswith("kubernetes:"))
    return [_moved(inputs, stack) for inputs in kubernetes]


def _apply(kubectl: Kubectl, stack: str, registered: "Future[list[Any]]") -> None:
    objects = registered.result()
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    assert len(objects) > 10
    spaces = [f"{name}-{stack}" for name in _NAMESPACES]
    homes = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": it, "labels": level}} for it in spaces]
    try:
        # Warned too where a pod would break the restricted level: an adopted namespace may well have it.
        warnings = kubectl.apply(homes) + kubectl.apply([it for it in objects if it["kind"] != "Namespace"])
        assert warnings == [], warnings
        # One question for all of them: a call of kubectl for each would take longer than the rest of the test.
        asked = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        answer = kubectl("get", "--filename=-", "--show-managed-fields", "--output=json", stdin=asked)
        held = {_identity(it): it["metadata"]["managedFields"] for it in json.loads(answer)["items"]}
        for document in objects:
            managers = {(it["manager"], it["operation"]) for it in held[_identity(document)]}
            assert document["kind"] == "Namespace" or ("aivo-backup", "Apply") in managers, _identity(document)
    finally:
        kubectl("delete", "namespace", *spaces, "--wait=false", "--ignore-not-found")
