"""One running sandbox for all tests of this folder, apart from the user's own."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from aivo_backup.liveness import start_ticks
from sandbox import servers
from sandbox.state import CHECKOUT, HOME_VARIABLE, Sandbox
from tests.sandbox.cli import Cli, make_cli
from tests.sandbox.lone import Provisioned, provision_lone
from tests.sandbox.postgres_lab import Lab, new_lab


@pytest.fixture(scope="session")
def sandbox() -> Generator[Sandbox]:
    """The servers, running, with empty stores, in ``build/test-sandbox``. A server that does not come up fails every
    test that needs it.

    With AIVO_BACKUP_SANDBOX set, that sandbox is used as it is, and left running if it was. A second test run at the
    same time shares the first one's.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = chosen or str(CHECKOUT / "build" / "test-sandbox")
    shared = Sandbox()
    guest = shared.processes.find("aws") is not None if chosen else _another_run_owns(shared)
    if not guest and not chosen:
        servers.reset(shared)  # what an earlier run left, and perhaps its processes
        shared.remember(test_run=[os.getpid(), start_ticks(os.getpid())])
    servers.up(shared)
    yield shared
    if not guest:
        servers.down(shared)
    if chosen is None:
        del os.environ[HOME_VARIABLE]


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Generator[Provisioned]:
    """A provisioned sandbox apart from the shared one, whose IAM is not enforced: see :mod:`tests.sandbox.lone`."""
    home = tmp_path_factory.mktemp("provisioned")
    try:
        yield provision_lone(home)
    finally:
        Sandbox(home=home).processes.stop_all()


@pytest.fixture(scope="module")
def lab(sandbox: Sandbox) -> Generator[Lab]:
    """A database with a stanza, of one module's own. A module that wants another configuration has its own."""
    yield from new_lab(sandbox)


@pytest.fixture
def cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    return make_cli(sandbox, tmp_path)


def _another_run_owns(shared: Sandbox) -> bool:
    pid, started = shared.remembered().get("test_run", (0, None))
    return started is not None and start_ticks(pid) == started
