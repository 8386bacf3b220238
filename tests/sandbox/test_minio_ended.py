"""`aivo-backup backup minio` that is told to end half way, as by a drained node."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Generator

import pytest

from aivo_backup.catalog.lease import TERM
from aivo_backup.errors import ExitCode
from sandbox.state import Sandbox
from tests.sandbox.faulty import Fault, Way, faulty_proxy
from tests.sandbox.minio_world import MIB, PROGRAM, World, new_world

# A pod's, unless its template says otherwise.
GRACE_SECONDS = 30
# All of it would take 50 s by 16 KiB a time; a part of it, 6 s.
SLOW_BYTES, DRIP_SECONDS = 40 * MIB, 0.02


@pytest.fixture(scope="module")
def world(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    yield from new_world(sandbox, tmp_path_factory.mktemp("ended"))


def test_it_is_a_failed_run_at_once_and_holds_nobody_up(world: World) -> None:
    """In the middle of an object that comes slowly."""
    world.source.put_object(Bucket=world.bucket, Key="slow.bin", Body=os.urandom(SLOW_BYTES))
    before = set(world.cli.records(world.sandbox))
    fault = Fault(way=Way.TO_CLIENT, after=MIB, drip_seconds=DRIP_SECONDS)
    with faulty_proxy(world.sandbox.ports.minio) as proxy:
        proxy.break_with(fault)
        world.cli.edit("endpoints.json", minio=proxy.url)
        with subprocess.Popen(
            [PROGRAM, "backup", "minio", "--type", "full"],
            env={**os.environ, **world.cli.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            assert fault.struck.wait(timeout=60)
            running.send_signal(signal.SIGTERM)
            _, told = running.communicate(timeout=GRACE_SECONDS)
    world.cli.edit("endpoints.json", minio=world.sandbox.minio_url)
    assert running.returncode == ExitCode.FAILED
    assert told.splitlines()[-1] == "aivo-backup: ended by SIGTERM; nothing further was changed"
    (key_of_record,) = set(world.cli.records(world.sandbox)) - before
    s3 = world.sandbox.aws().client("s3")
    stored = s3.get_object(Bucket=f"compliance-{world.cli.folder.name}", Key=key_of_record)["Body"].read()
    record = json.loads(stored)
    assert (record["status"], record["error"]) == ("failed", "ended by SIGTERM"), record
    begun = time.monotonic()
    done = world.cli.run("backup", "minio", "--type", "full")
    assert done.code == ExitCode.DONE, done.err
    assert time.monotonic() - begun < TERM.total_seconds() / 2, "it waited for the lease of the one that was ended"
