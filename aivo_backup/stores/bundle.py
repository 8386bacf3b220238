"""The folder of a rescue bundle: what a restore would lose, exported before it. What its files hold is each store's.

The manifest gets its name last: a folder without one is of an export that did not end.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aivo_backup.errors import ConfigurationError, RefusedError, VerificationError

_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")


def require_fresh(folder: Path, *, size_bytes: int = 0) -> None:
    """Looks that a folder can take a bundle; makes it when it is missing.

    Args:
        size_bytes: of what will go in, where that is known.

    Raises:
        RefusedError: it holds something, or its disk has too little room.
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = any(folder.iterdir())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigurationError(
            f"cannot make {folder}: {error.strerror}", mend="name another folder; nothing was restored"
        ) from error
    if taken:
        raise RefusedError(f"{folder} is not empty", mend="name a new folder for what is rescued")
    if free < size_bytes:
        raise RefusedError(
            f"what is rescued takes {size_bytes} bytes, and {folder} has {free} free; nothing was changed",
            mend="name a folder on a larger disk",
        )


def file_name(number: int, unit: str, ending: str) -> str:
    """A file's name for a table or an index, whose own may be none: ``0003-shop.orders.csv``."""
    return f"{number:04d}-{_FOREIGN.sub('_', unit)}.{ending}"


@contextmanager
def unfinished(folder: Path, manifest: str) -> Generator[Path]:
    """Answers the manifest's file while the export goes on; it gets its name when the block ends well.

    Raises:
        ConfigurationError: a file of the bundle cannot be written.
    """
    file = folder / f"{manifest}.unfinished"
    try:
        yield file
        os.sync()  # what is exported is about to be replaced where it came from
        file.rename(folder / manifest)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {folder}: {error.strerror}", mend="make room, or name another folder; nothing was restored"
        ) from error


def require_unchanged(file: Path, sha256: str) -> None:
    """Reads a file of a bundle that is about to be imported.

    Raises:
        VerificationError: it is gone, or not as it was exported.
    """
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise VerificationError(f"{file.name} of the bundle in {file.parent} is gone: {error.strerror}") from error
    if digest != sha256:
        raise VerificationError(f"{file.name} of the bundle in {file.parent} is not as it was exported")
