"""Folders of private copies, and what a killed process leaves of them."""

import subprocess
import sys
from pathlib import Path

from aivo_backup.stores.postgres.scratch import scratch_folder

# Like a restore whose parent was killed: it goes on with its files until their folder is gone. There are so many that
# new ones come while the first are removed.
_ORPHAN = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
for number in range(30_000):
    (folder / str(number)).touch()
    if number == 5_000:
        print("at work", flush=True)
"""


def test_what_a_killed_process_left_is_removed_although_its_orphan_still_writes(tmp_path: Path) -> None:
    dead = tmp_path / "copy-dead"
    ended: list[Path] = []
    with subprocess.Popen(
        [sys.executable, "-c", _ORPHAN, str(dead)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == "at work\n"
        said: list[str] = []
        with scratch_folder(tmp_path, end_server=ended.append, progress=said.append) as folder:
            assert list(tmp_path.iterdir()) == [folder]
        assert orphan.wait() != 0
    assert ended == [dead]
    assert said == [f"removing the copy of a process that was killed: {dead}"]
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_process_at_work_stays(tmp_path: Path) -> None:
    said: list[str] = []
    with scratch_folder(tmp_path, end_server=_none, progress=said.append) as first:
        (first / "file").write_text("kept")
        with scratch_folder(tmp_path, end_server=_none, progress=said.append) as second:
            assert second != first
        assert (first / "file").read_text() == "kept"
    assert said == []
    assert list(tmp_path.iterdir()) == []


def _none(folder: Path) -> None:
    raise AssertionError(f"{folder} is somebody's")
