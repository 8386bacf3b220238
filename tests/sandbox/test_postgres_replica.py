"""The home region's bucket is gone: everything comes from the second region's copy, with that region's key alone."""

from pathlib import Path

import pytest

from aivo_backup.errors import ConfigurationError, RefusedError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.postgres.restore import Staging
from aivo_backup.stores.postgres.targets import Target, TargetKind
from sandbox.state import Sandbox
from tests.sandbox.cli import closed_port
from tests.sandbox.postgres_lab import Lab
from tests.sandbox.postgres_second_region import SecondRegion


def test_a_lost_home_region_is_restored_from_the_copy_alone(lab: Lab, sandbox: Sandbox) -> None:
    lab.note("before the full")
    lab.backup(BackupKind.FULL)
    lab.note("in WAL alone")
    good = lab.now()
    lab.note("after the good moment")
    lab.archive_all()
    there = SecondRegion(lab=lab, aws=sandbox.aws("us-west-2"))
    with pytest.raises(ConfigurationError, match=r"not wrapped for us-west-2.*init postgres --envelope-only"):
        there.cipher_pass(lab.bucket)
    there.build()
    assert there.cipher_pass(lab.bucket) == lab.access.cipher_pass()
    lab.control.replicate()
    lab.note("written after the last replication")
    lab.archive_all()
    there.lose_home()
    with pytest.raises(ConfigurationError, match="no cipher envelope"):
        lab.restore(Target(), Staging(data=lab.home / "no" / "pgdata", port=closed_port()))

    # To staging, at a moment.
    place = Staging(data=lab.home / "staging" / "pgdata", port=closed_port())
    place.data.parent.mkdir()
    result, _ = lab.restore(Target(kind=TargetKind.TIME, time=good), place, store=there.store())
    assert all(check.passed for check in result.checks), result.checks
    with lab.connect(port=result.port, host="localhost") as connection:
        rows = {str(row[0]) for row in connection.execute("SELECT text FROM notes").fetchall()}
    assert rows == {"before the full", "in WAL alone"}
    lab.remove_staging(place)

    # In place: it recovers beside the running server, which is stopped for the swap alone.
    with pytest.raises(RefusedError, match="PostgreSQL runs on"):
        lab.restore(Target(), lab.in_place(stop=False), store=there.store())
    result, stopwatch = lab.restore(Target(), lab.in_place(stop=True), store=there.store())
    assert all(check.passed for check in result.checks), result.checks
    assert [phase.name for phase in stopwatch.phases] == ["plan", "fetch", "replay", "checks", "stop", "start"]
    assert lab.notes() == {"before the full", "in WAL alone", "after the good moment"}
    assert result.timeline == 2
    assert Path(result.set_aside, "PG_VERSION").is_file()

    # Its new timeline waits to be archived, history first; `init` makes the stanza at home, and all of it arrives.
    lab.stop_sidecar()
    lab.init()
    lab.archive_all()
    assert any(key.endswith("/00000002.history") for key in lab.keys("archive/"))
    point, _ = lab.backup(BackupKind.FULL)
    assert point.facts["timeline"] == 2
    tested, _ = lab.restore_test(point, lab.home / "scratch")
    assert all(check.passed for check in tested.checks), tested.checks
