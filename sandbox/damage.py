"""What tests and benchmarks do to the sandbox, to see it recovered."""

import os
import shutil
import signal
import time

from aivo_backup.errors import BackupError
from sandbox.state import Sandbox

STORES = {"postgres": "volume/pgdata", "minio": "data", "opensearch": "data"}
"""The stores' servers, and where each one's data are in its folder."""


def lose_storage(sandbox: Sandbox) -> None:
    """All three servers die at once, and their data are gone.

    Raises:
        BackupError: one of them does not run.
    """
    for name in STORES:
        process = sandbox.processes.find(name)
        if process is None:
            raise BackupError(f"{name} does not run", mend="bring the sandbox up first")
        os.kill(process.pid, signal.SIGKILL)
        while process.alive():
            time.sleep(0.05)
    for name, data in STORES.items():
        shutil.rmtree(sandbox.home / name / data)
