"""One real cluster for all tests of this folder, in a sandbox of its own under ``build/e2e``."""

import os
from collections.abc import Generator

import pytest

from sandbox import servers
from sandbox.cluster import lifecycle
from sandbox.cluster.kubectl import Kubectl
from sandbox.state import CHECKOUT, HOME_VARIABLE, Sandbox
from tests.e2e.world import NAMESPACE, World


@pytest.fixture(scope="session")
def kubectl() -> Generator[Kubectl]:
    """The cluster, up from nothing with empty stores. AIVO_BACKUP_E2E_KEEP=1 takes one that is up, and leaves it up."""
    os.environ[HOME_VARIABLE] = str(CHECKOUT / "build" / "e2e")
    sandbox = Sandbox()
    keep = bool(os.environ.get("AIVO_BACKUP_E2E_KEEP"))
    if not (keep and lifecycle.is_up(sandbox)):
        lifecycle.down(sandbox)
        servers.reset(sandbox)
    try:
        yield lifecycle.up(sandbox, progress=print)
    finally:
        if not keep:
            lifecycle.down(sandbox)
            servers.down(sandbox)
        del os.environ[HOME_VARIABLE]


@pytest.fixture(scope="session")
def world(kubectl: Kubectl) -> World:
    """What the tests ask of the cluster and of the catalog."""
    return World(kubectl)


@pytest.fixture(scope="session")
def refused_restore_test(world: World) -> Generator[str]:
    """A restore test's Job whose pod is not let in. The agent gives it a minute and looks once a minute: ask for it
    early, and look at what became of it late."""
    job = world.start_spoilt("restore-test-minio", "e2e-refused-restore-test", pod={"hostNetwork": True})
    yield job
    world.kubectl("delete", "job", job, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait=false")
