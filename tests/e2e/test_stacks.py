"""Every Kubernetes object of every stack, taken by a real API server: applied on its side, each field known to it."""

import re
from typing import Any, cast

import pytest

from sandbox.cluster.kubectl import Kubectl
from sandbox.plan import register

_NAMESPACE = "aivo-system"
_CLUSTER_WIDE = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass"})


def _moved(value: Any, namespace: str) -> Any:
    """The same object in a namespace of its own, so that stacks do not meet in one cluster."""
    if isinstance(value, dict):
        return {key: _moved(item, namespace) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_moved(item, namespace) for item in cast("list[Any]", value)]
    return namespace if value == _NAMESPACE else value


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_every_object_of_the_stack_is_taken_without_a_warning(kubectl: Kubectl, stack: str) -> None:
    namespace = f"{_NAMESPACE}-{stack}"
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    objects = [
        _moved(resource.inputs, namespace)
        for resource in register(stack).resources
        if resource.type.startswith("kubernetes:")
    ]
    assert len(objects) > 10
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": level}}
    try:
        # Warned too where a pod would break the restricted level: an adopted namespace may well have it.
        assert kubectl.apply([home]) == []
        assert kubectl.apply([it for it in objects if it["kind"] != "Namespace"]) == []
        for document in objects:
            kind, name = document["kind"], document["metadata"]["name"]
            where = [] if kind in _CLUSTER_WIDE else [f"--namespace={namespace}"]
            if kind != "Namespace":
                managers = kubectl(
                    "get", kind, name, *where, "--show-managed-fields", "-o=jsonpath={.metadata.managedFields}"
                )
                assert re.search('"manager":"aivo-backup","operation":"Apply"', managers), f"{kind} {name}"
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


def test_a_field_that_the_server_does_not_know_is_refused(kubectl: Kubectl) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "misspelt", "namespace": "default"},
        "dat": {"key": "value"},
    }
    with pytest.raises(Exception, match=r"unknown field|field not declared in schema"):
        kubectl.apply([document])
