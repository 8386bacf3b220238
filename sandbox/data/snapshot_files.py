"""Finds the files of one snapshot in an ``fs`` repository, so that a demonstration can damage the right one."""

import re
from pathlib import Path

from aivo_backup.errors import BackupError

# A shard's description of a snapshot lists its files by these names, as plain text in its binary form; files so small
# that they are kept in the description itself are called v__…
_BLOB = re.compile(rb"(?<!v)__[A-Za-z0-9_-]{22}")


def data_files(location: Path, snapshot_uuid: str) -> list[Path]:
    """The files that hold Lucene's data of a snapshot, largest first; earlier snapshots may share them.

    Args:
        location: the repository's folder.
        snapshot_uuid: the fact ``snapshot_uuid`` of the recovery point.

    Raises:
        BackupError: the repository holds none.
    """
    found: set[Path] = set()
    for description in location.glob(f"indices/*/*/snap-{snapshot_uuid}.dat"):
        names = _BLOB.findall(description.read_bytes())
        found.update(path for name in names if (path := description.parent / name.decode()).is_file())
    if not found:
        raise BackupError(f"{location} holds no file of the snapshot {snapshot_uuid}", mend="take a snapshot first")
    return sorted(found, key=lambda path: (-path.stat().st_size, path.name))


def flip_byte(path: Path, offset: int | None = None) -> int:
    """Inverts the lowest bit of one byte of a file, the middle one unless told, and answers its offset. Twice heals."""
    offset = path.stat().st_size // 2 if offset is None else offset
    with path.open("r+b") as file:
        file.seek(offset)
        value = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([value ^ 1]))
    return offset
