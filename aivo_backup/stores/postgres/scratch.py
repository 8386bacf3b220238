"""Folders of work that is thrown away: each is held by its process, and what a killed one left goes with the next."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.exclusion import alone_in

_PREFIX = "copy-"
_REMOVE_SECONDS = 30.0


@contextmanager
def scratch_folder(place: Path, *, end_server: Callable[[Path], None], progress: Progress) -> Generator[Path]:
    """A folder of this process alone in ``place``, removed in the end.

    Args:
        end_server: ends the server of a dead process's folder, if there is one.

    Raises:
        BackupError: the folder cannot be removed.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        with _in_turn(place):  # a folder that is made and not held yet would look like a dead process's
            for left in place.glob(f"{_PREFIX}*"):
                _remove_dead(left, end_server, progress)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            held.enter_context(alone_in(folder))
        try:
            yield folder
        finally:
            remove_for_good(folder)


def remove_for_good(folder: Path) -> None:
    """Removes a folder into which an orphan of a killed process may still write: it fails without its folders, and
    until it has, whatever it makes is removed again. Safe to repeat.

    Raises:
        BackupError: after half a minute there is still something.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists() and time.monotonic() > deadline:
            raise BackupError(f"{folder} cannot be removed", mend="see who writes into it, then give the command again")


@contextmanager
def _in_turn(place: Path) -> Generator[None]:
    opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _remove_dead(folder: Path, end_server: Callable[[Path], None], progress: Progress) -> None:
    """Removes the folder of a process that was killed; one that is at work stays."""
    try:
        with alone_in(folder):
            progress(f"removing the copy of a process that was killed: {folder}")
            end_server(folder)
            remove_for_good(folder)
    except RefusedError:
        return
    except BackupError as error:
        progress(f"{folder} stays for now: {error}")
