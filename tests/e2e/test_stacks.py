"""Every Kubernetes object of every stack, taken by a real API server: applied on its side, each field known to it."""

import json
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

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


@pytest.fixture(scope="module")
def taken(kubectl: Kubectl) -> Generator[dict[str, "Future[None]"]]:
    """What became of each stack's objects, applied side by side: a call mostly waits for the API server."""
    objects = {
        stack: [
            _moved(resource.inputs, stack)
            for resource in register(stack).resources
            if resource.type.startswith("kubernetes:")
        ]
        for stack in STACKS
    }
    with ThreadPoolExecutor(len(STACKS)) as pool:
        yield {stack: pool.submit(_apply, kubectl, stack, objects[stack]) for stack in STACKS}


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_of_the_stack_is_taken_without_a_warning(taken: "dict[str, Future[None]]", stack: str) -> None:
    taken[stack].result()  # raises what was wrong


def _apply(kubectl: Kubectl, stack: str, objects: list[Any]) -> None:
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    assert len(objects) > 10
    spaces = [f"{name}-{stack}" for name in _NAMESPACES]
    homes = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": it, "labels": level}} for it in spaces]
    try:
        # Warned too where a pod would break the restricted level: an adopted namespace may well have it.
        assert kubectl.apply(homes) == []
        assert kubectl.apply([it for it in objects if it["kind"] != "Namespace"]) == []
        # One question for all of them: a call of kubectl for each would take longer than the rest of the test.
        asked = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        answer = kubectl("get", "--filename=-", "--show-managed-fields", "--output=json", stdin=asked)
        held = {_identity(it): it["metadata"]["managedFields"] for it in json.loads(answer)["items"]}
        for document in objects:
            managers = {(it["manager"], it["operation"]) for it in held[_identity(document)]}
            assert document["kind"] == "Namespace" or ("aivo-backup", "Apply") in managers, _identity(document)
    finally:
        kubectl("delete", "namespace", *spaces, "--wait=false", "--ignore-not-found")


def test_a_field_that_the_server_does_not_know_is_refused(kubectl: Kubectl) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "misspelt", "namespace": "default"},
        "dat": {"key": "value"},
    }
    with pytest.raises(Exception, match=r"unknown field|field not declared in schema"):
        kubectl.apply([document])
