"""Keeps two recoveries of one database apart, on whatever machine or volume its files lie."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aivo_backup.errors import ConfigurationError, RefusedError


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Holds ``folder`` for one recovery: the folder that the data directory is in. The lock is on the folder itself,
    so no file is left behind, and it ends with the process, however that ends.

    Raises:
        RefusedError: another recovery holds it.
        ConfigurationError: the folder cannot be opened.
    """
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}", mend="name a folder that is there") from error
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RefusedError(
                f"another recovery works in {folder}", mend="wait for it to end, or stop it; nothing was changed"
            ) from error
        yield
    finally:
        os.close(opened)
