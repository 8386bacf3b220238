"""One running sandbox for all tests of this folder, apart from the user's own."""

import os
from collections.abc import Generator

import pytest

from sandbox import servers
from sandbox.state import CHECKOUT, HOME_VARIABLE, Sandbox
from tests.sandbox.lone import Provisioned, provision_lone


@pytest.fixture(scope="session")
def sandbox() -> Generator[Sandbox]:
    """The servers, running, in ``build/test-sandbox`` (or AIVO_BACKUP_SANDBOX, if set). A server that does not come
    up fails every test that needs it. What was down before is down afterwards."""
    before = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = before or str(CHECKOUT / "build" / "test-sandbox")
    shared = Sandbox()
    ran_before = shared.processes.find("aws") is not None
    servers.up(shared)
    yield shared
    if not ran_before:
        servers.down(shared)
    if before is None:
        del os.environ[HOME_VARIABLE]


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Generator[Provisioned]:
    """A provisioned sandbox apart from the shared one, whose IAM is not enforced: see :mod:`tests.sandbox.lone`."""
    home = tmp_path_factory.mktemp("provisioned")
    try:
        yield provision_lone(home)
    finally:
        Sandbox(home=home).processes.stop_all()
