"""The registry of the sandbox's processes: it knows its own again, and never ends another's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from aivo_backup.errors import BackupError
from aivo_backup.liveness import start_ticks
from sandbox.processes import Process, Registry

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def registry(tmp_path: Path) -> Generator[Registry]:
    registry = Registry(tmp_path / "run")
    yield registry
    registry.stop_all()


def sleeper(registry: Registry, tmp_path: Path, name: str = "sleeper") -> Process:
    return registry.start(name, [sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / f"{name}.log")


def test_a_started_process_is_found_by_another_registry_and_stopped_by_it(registry: Registry, tmp_path: Path) -> None:
    process = sleeper(registry, tmp_path)
    other = Registry(tmp_path / "run")
    assert other.find("sleeper") == process
    assert other.running() == [process]
    assert other.stop("sleeper")
    assert not process.alive()
    assert other.running() == []
    assert not other.stop("sleeper")


def test_a_file_that_names_another_program_by_now_ends_nothing(registry: Registry, tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        started = start_ticks(bystander.pid)
        assert started is not None
        stale = {"pid": bystander.pid, "started": started - 1, "stop_signal": 15, "log": "x"}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "server.json").write_text(json.dumps(stale))
        assert registry.find("server") is None
        assert not registry.stop("server")
        assert bystander.poll() is None
        assert not (tmp_path / "run" / "server.json").exists()
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_half_written_file_counts_as_nothing(registry: Registry, tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "server.json").write_text(content)
    assert registry.running() == []


def test_a_process_that_ignores_the_request_is_ordered_to_end(registry: Registry, tmp_path: Path) -> None:
    log = tmp_path / "stubborn.log"
    process = registry.start("stubborn", [sys.executable, "-c", STUBBORN], log=log)
    while "ready" not in log.read_text():
        time.sleep(0.02)
    assert registry.stop("stubborn", timeout_seconds=0.3)
    assert not process.alive()


def test_an_ended_child_is_not_alive_though_nobody_waited_for_it(registry: Registry, tmp_path: Path) -> None:
    process = sleeper(registry, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process.alive():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert registry.find("sleeper") is None


def test_children_that_a_killed_process_left_are_ended_with_its_file(registry: Registry, tmp_path: Path) -> None:
    log = tmp_path / "parent.log"
    child = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    process = registry.start("parent", [sys.executable, "-c", child], log=log)
    while not log.read_text().strip():
        time.sleep(0.02)
    orphan = int(log.read_text())
    os.kill(process.pid, signal.SIGKILL)
    while process.alive():
        time.sleep(0.02)
    assert start_ticks(orphan) is not None
    assert registry.find("parent") is None
    assert start_ticks(orphan) is None


def test_groups_are_stopped_in_order_after_all_others(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("database", "job", "cloud"):
        sleeper(registry, tmp_path, name)
    stopped: list[str] = []
    really_stop = Registry.stop

    def noting(self: Registry, name: str, *, timeout_seconds: float = 20.0) -> bool:
        stopped.append(name)
        return really_stop(self, name, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(Registry, "stop", noting)
    assert registry.stop_all(last=[["database"], ["cloud", "absent"]]) == ["job", "database", "cloud"]
    assert stopped == ["job", "database", "cloud"]


def test_a_program_that_is_not_there_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="minio: cannot start /nowhere/minio"):
        registry.start("minio", ["/nowhere/minio"], log=tmp_path / "minio.log")


def test_registering_a_process_that_does_not_run_is_refused(registry: Registry, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(BackupError, match="see"):
        registry.register("ended", ended.pid, log=tmp_path / "log")
