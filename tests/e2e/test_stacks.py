"""Every Kubernetes object of every stack, taken by a real API server: applied on its side, each field known to it."""

from concurrent.futures import Future

import pytest

from sandbox.cluster.kubectl import Kubectl
from tests.e2e.stacks import STACKS


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_of_the_stack_is_taken_without_a_warning(taken: "dict[str, Future[None]]", stack: str) -> None:
    taken[stack].result()  # raises what was wrong


def test_a_field_that_the_server_does_not_know_is_refused(kubectl: Kubectl) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "misspelt", "namespace": "default"},
        "dat": {"key": "value"},
    }
    with pytest.raises(Exception, match=r"unknown field|field not declared in schema"):
        kubectl.apply([document])
