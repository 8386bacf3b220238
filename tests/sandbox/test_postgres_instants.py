"""Recovery to random instants under live writes, also across a timeline switch; and what is refused beside it.

Each row and each heartbeat is committed on its own, and the database keeps the time of each commit, so what must be
there at an instant is known exactly.
"""

import os
import random
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from aivo_backup.errors import ConfigurationError, RefusedError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.policy.pgbackrest import Version
from aivo_backup.stores.postgres import guards
from aivo_backup.stores.postgres.exclusion import alone_in
from aivo_backup.stores.postgres.looking import newest_heartbeat
from aivo_backup.stores.postgres.restore import Staging
from aivo_backup.stores.postgres.service import SystemdService
from aivo_backup.stores.postgres.targets import Target, TargetKind
from aivo_backup.stores.process import as_owner
from sandbox.state import Sandbox
from tests.sandbox.cli import closed_port
from tests.sandbox.postgres_lab import BIN, Lab, new_lab

INSTANTS = 20 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 5
SEED = 20260118


@pytest.fixture(scope="module")
def lab(sandbox: Sandbox) -> Generator[Lab]:
    yield from new_lab(sandbox, track_commit_timestamp="on")


@dataclass
class Writer:
    """Commits rows one after the other, each with a heartbeat, from a connection of its own."""

    lab: Lab
    stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def writing(self) -> Generator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            thread.join()

    def _write(self) -> None:
        with self.lab.connect() as connection:
            while not self.stopping.is_set():
                with connection.transaction():
                    connection.execute("INSERT INTO rows DEFAULT VALUES")
                    connection.execute("INSERT INTO aivo_backup.heartbeat VALUES (clock_timestamp())")
                time.sleep(0.002)


@dataclass(frozen=True)
class Committed:
    """What was committed, and when: rows by id, heartbeats by the same commits."""

    rows: dict[int, datetime]
    heartbeats: dict[datetime, datetime]

    def at(self, instant: datetime) -> tuple[set[int], datetime | None]:
        beats = [beat for beat, when in self.heartbeats.items() if when <= instant]
        return {row for row, when in self.rows.items() if when <= instant}, max(beats, default=None)


def committed(lab: Lab) -> Committed:
    rows = lab.sql("SELECT id, pg_xact_commit_timestamp(xmin) FROM rows")
    beats = lab.sql("SELECT at, pg_xact_commit_timestamp(xmin) FROM aivo_backup.heartbeat")
    return Committed(
        rows={int(str(row)): when for row, when in rows if isinstance(when, datetime)},
        heartbeats={at: when for at, when in beats if isinstance(at, datetime) and isinstance(when, datetime)},
    )


def check_instant(lab: Lab, known: Committed, instant: datetime, timeline: int | None = None) -> None:
    target = Target(kind=TargetKind.TIME, time=instant, timeline=timeline)
    with lab.private_copy(target) as copy, copy.server.connect() as connection:
        found = {int(str(row[0])) for row in connection.execute("SELECT id FROM rows").fetchall()}
        rows, beat = known.at(instant)
        assert found == rows, (instant, sorted(found ^ rows)[:5])
        heartbeat = newest_heartbeat(connection)
        assert heartbeat == beat
        assert all(check.passed for check in copy.result.checks), copy.result.checks
    assert not list((lab.home / "state" / "copies").iterdir())


def test_random_instants_bring_back_exactly_what_was_committed_by_then(lab: Lab) -> None:
    randomly = random.Random(SEED)  # noqa: S311 - a choice of moments, no secret
    lab.sql("CREATE TABLE rows (id bigserial PRIMARY KEY, filler text DEFAULT repeat('x', 100))")
    lab.backup(BackupKind.FULL)

    def write_for(seconds: float) -> tuple[datetime, datetime]:
        start = lab.now()
        with Writer(lab).writing():
            time.sleep(seconds / 2)
            lab.sql("SELECT pg_switch_wal()")
            time.sleep(seconds / 2)
        return start, lab.now()

    def some(window: tuple[datetime, datetime], count: int) -> list[datetime]:
        start, end = window
        return [start + (end - start) * randomly.random() for _ in range(count)]

    first = write_for(2.0)
    lab.archive_all()
    on_first = committed(lab)
    assert len(on_first.rows) > 100
    # A recovery to the middle abandons what came after it on timeline 1, and writes go on on timeline 2.
    switch = first[0] + (first[1] - first[0]) * 0.6
    lab.restore(Target(kind=TargetKind.TIME, time=switch), lab.in_place(stop=True))
    assert {int(str(row[0])) for row in lab.sql("SELECT id FROM rows")} == on_first.at(switch)[0]
    second = write_for(2.0)
    lab.backup(BackupKind.INCREMENTAL)
    third = write_for(1.0)
    lab.archive_all()
    on_second = committed(lab)
    share = INSTANTS // 5
    # What was committed by `switch` is on both; `committed` on timeline 2 knows it too.
    for instant in some((first[0], switch), share):
        check_instant(lab, on_second, instant)
    for instant in some((switch, first[1]), share):
        check_instant(lab, on_first, instant, timeline=1)
    for instant in (*some(second, 2 * share), *some(third, share)):
        check_instant(lab, on_second, instant)


# Delta


def test_a_delta_starts_from_a_copy_and_sets_the_old_directory_aside_as_it_was(lab: Lab) -> None:
    lab.note("before the delta")
    good = lab.now()
    lab.sql("DELETE FROM rows")
    # The sequence's file is damaged too: what differs from the backup is fetched, whatever made it differ.
    path = str(lab.sql("SELECT pg_relation_filepath('rows')")[0][0])
    lab.archive_all()
    before = (lab.data / path).stat()
    place = lab.in_place(stop=True, delta=True)
    plan = lab.plan(Target(kind=TargetKind.TIME, time=good), place)
    assert plan.copied_first in ("full copy", "reflink")
    result, _ = lab.restore(Target(kind=TargetKind.TIME, time=good), place)
    assert all(check.passed for check in result.checks), result.checks
    assert lab.sql("SELECT count(*) > 100 FROM rows") == [(True,)]
    aside = Path(result.set_aside, path).stat()
    assert (aside.st_ino, aside.st_size) == (before.st_ino, before.st_size), "the old directory itself is kept"


def test_a_delta_without_anything_to_start_from_is_refused(lab: Lab) -> None:
    empty = lab.home / "empty" / "pgdata"
    empty.mkdir(parents=True)
    with pytest.raises(RefusedError, match="holds nothing to start a delta from: restore it without --delta"):
        lab.plan(Target(), lab.in_place(stop=True, data=empty, delta=True))
    assert not list(empty.iterdir())


def test_a_delta_whose_copy_does_not_fit_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_folder: Path) -> bool:
        return False

    def huge(_data: Path) -> int:
        return 1 << 50

    monkeypatch.setattr(guards, "shares_blocks", never)
    monkeypatch.setattr(guards, "size_of", huge)
    listing = sorted(lab.data.parent.iterdir())
    with pytest.raises(RefusedError, match="bytes free and the restore needs"):
        lab.restore(Target(), lab.in_place(stop=True, delta=True))
    assert sorted(lab.data.parent.iterdir()) == listing


# Refusals: nothing changes


def test_two_recoveries_at_once_are_refused(lab: Lab) -> None:
    listing = sorted(lab.data.parent.iterdir())
    with alone_in(lab.data.parent), pytest.raises(RefusedError, match="another recovery works in"):
        lab.restore(Target(), lab.in_place(stop=True))
    staging = Staging(data=lab.home / "twice" / "pgdata", port=closed_port())
    held = staging.data.with_name("pgdata.server")
    held.mkdir(parents=True)
    with alone_in(held), pytest.raises(RefusedError, match="another recovery works in"):
        lab.restore(Target(), staging)
    assert held.is_dir()
    assert lab.service.running()
    assert sorted(lab.data.parent.iterdir()) == listing


def test_a_set_of_a_newer_pgbackrest_is_refused(lab: Lab) -> None:
    (newest, *_) = reversed(lab.store().info().sets)
    tool = replace(newest, tool="9.99")
    with pytest.raises(ConfigurationError, match=r"taken by pgBackRest 9.99.*install pgBackRest 9.99 or newer"):
        guards.check_versions(lab.settings, tool, Version.parse("2.45"))
    guards.check_versions(lab.settings, newest, Version.parse(newest.tool))


def test_another_major_version_of_postgresql_is_refused(lab: Lab) -> None:
    (newest, *_) = reversed(lab.store().info().sets)
    with pytest.raises(ConfigurationError, match=r"is of PostgreSQL 14, and .* has postgres"):
        guards.check_versions(lab.settings, replace(newest, archive_id="14-1"), Version.parse("9.99"))


@pytest.mark.parametrize("file", ["patroni.dynamic.json", "custom.conf", "standby.signal"])
def test_an_owned_database_is_refused_unless_its_adapter_is_named(lab: Lab, file: str) -> None:
    mark = lab.data / file
    mark.touch()
    try:
        with pytest.raises(RefusedError, match=r"belongs to .*--service"):
            lab.plan(Target(), lab.in_place(stop=True))
        assert lab.plan(Target(), lab.in_place(stop=True, named=True)).stops_server
    finally:
        mark.unlink()


@contextmanager
def receiving_wal(lab: Lab, name: str) -> Generator[None]:
    """Something follows the database's WAL as a standby does."""
    folder = lab.home / "received"
    folder.mkdir(exist_ok=True)
    connection = f"host={lab.settings.socket_path} port={lab.settings.port} user=postgres application_name={name}"
    follower = subprocess.Popen([f"{BIN}/pg_receivewal", "-D", str(folder), "-d", connection, "--no-loop"])
    try:
        deadline = time.monotonic() + 20
        while lab.sql("SELECT count(*) FROM pg_stat_replication") != [(1,)]:
            assert time.monotonic() < deadline, "pg_receivewal does not follow"
            time.sleep(0.05)
        yield
    finally:
        follower.terminate()
        follower.wait(20)


def test_a_replicated_database_is_refused_unless_its_adapter_is_named(lab: Lab) -> None:
    with receiving_wal(lab, "standby-1"):
        with pytest.raises(RefusedError, match=r"is replicated to standby-1.*--service"):
            lab.plan(Target(), lab.in_place(stop=True))
        assert lab.plan(Target(), lab.in_place(stop=True, named=True)).stops_server


def test_a_time_that_was_never_is_refused_before_anything_is_fetched(lab: Lab) -> None:
    with (
        pytest.raises(RefusedError, match="outside the recovery window"),
        lab.private_copy(Target(kind=TargetKind.TIME, time=datetime.now(UTC) + timedelta(hours=1))),
    ):
        pass
    assert not list((lab.home / "state" / "copies").iterdir())


# systemd: its place is taken by a program that starts and stops the same server


_SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  is-active) exec {as_owner} {bin}/pg_ctl status -D {data} >/dev/null ;;
  stop) exec {as_owner} {bin}/pg_ctl stop -D {data} -m fast -w ;;
  start) exec {as_owner} {bin}/pg_ctl start -D {data} --no-wait -l {server_log} ;;
esac
exit 1
"""


def test_a_unit_of_systemd_is_stopped_and_started(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = lab.home / "programs"
    programs.mkdir()
    log = programs / "log"
    script = _SYSTEMCTL.format(
        log=log, as_owner=" ".join(as_owner(lab.data)), bin=BIN, data=lab.data, server_log=lab.log
    )
    for name, text in (("systemctl", script), ("journalctl", f"#!/bin/sh\ncat {lab.log}\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    service = SystemdService(unit="postgresql@15-main", data=lab.data, bin_path=Path(BIN))
    rows = lab.sql("SELECT count(*) FROM rows")
    result, _ = lab.restore(Target(), replace(lab.in_place(stop=True, named=True), service=service))
    assert all(check.passed for check in result.checks), result.checks
    assert lab.sql("SELECT count(*) FROM rows") == rows
    said = log.read_text().splitlines()
    assert "stop postgresql@15-main" in said
    assert "start --no-block postgresql@15-main" in said
    with pytest.raises(psycopg.errors.DivisionByZero):
        lab.sql("SELECT 1 / 0")
    assert "division by zero" in service.complaint()
    # A server that the unit knows nothing of is not taken for stopped.
    (programs / "systemctl").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(RefusedError, match="and not as postgresql@15-main"):
        service.running()
