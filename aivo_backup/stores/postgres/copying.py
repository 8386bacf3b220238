"""A copy of a data directory as raw material for a delta restore, which then fetches only what differs.

The server may go on writing while it is copied: pgBackRest compares every file with the backup's checksums and
replaces what is not the same. So the directory that is replaced stays untouched, and the copy is what changes.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Linux's ioctl that lets two files share their blocks until one of them is written to.
_FICLONE = 0x40049409
# Rebuilt by the restore, or the running server's own.
_CONTENT_LEFT_OUT = frozenset({"pg_wal", "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots"})
_FILES_LEFT_OUT = frozenset({"postmaster.pid", "postmaster.opts"})


def shares_blocks(folder: Path) -> bool:
    """Whether the file system of ``folder`` can copy without copying (reflinks: XFS, Btrfs)."""
    with (
        tempfile.NamedTemporaryFile(dir=folder, prefix=".reflink-") as source,
        tempfile.NamedTemporaryFile(dir=folder, prefix=".reflink-") as target,
    ):
        source.write(b"\0" * 4096)
        source.flush()
        return _clone(source.fileno(), target.fileno())


def size_of(data: Path) -> int:
    """The bytes that a full copy takes."""
    return sum(size for _, size in _files(data))


def copy_cluster(data: Path, target: Path) -> None:
    """Copies a data directory to ``target``, which must not exist; sharing blocks where that can be had.

    Raises:
        OSError: the disk is full, or a file cannot be read. What was copied is left for the caller to remove.
    """
    shares = shares_blocks(data.parent)
    target.mkdir(mode=0o700)
    for folder in _folders(data):
        (target / folder.relative_to(data)).mkdir(mode=0o700, exist_ok=True)
    for file, _ in _files(data):
        _copy(file, target / file.relative_to(data), shares=shares)


def _folders(data: Path) -> Iterator[Path]:
    for path, names, _ in os.walk(data):
        here = Path(path)
        if here.relative_to(data).parts[:1] and here.relative_to(data).parts[0] in _CONTENT_LEFT_OUT:
            names.clear()
            continue
        # A link (WAL on a volume of its own) becomes a plain folder, as pgBackRest restores it.
        yield from (here / name for name in names)


def _files(data: Path) -> Iterator[tuple[Path, int]]:
    for path, names, files in os.walk(data):
        here = Path(path)
        if here == data:
            names[:] = [name for name in names if name not in _CONTENT_LEFT_OUT]
            files = [name for name in files if name not in _FILES_LEFT_OUT]
        for name in files:
            file = here / name
            try:
                about = file.lstat()
            except FileNotFoundError:
                continue  # the server removed it meanwhile
            if not file.is_symlink():
                yield file, about.st_size


def _copy(source: Path, target: Path, *, shares: bool) -> None:
    try:
        with source.open("rb") as read, target.open("wb") as written:
            if not (shares and _clone(read.fileno(), written.fileno())):
                shutil.copyfileobj(read, written, 1 << 20)
            about = os.fstat(read.fileno())
    except FileNotFoundError:
        return  # the server removed it meanwhile
    # The time tells pgBackRest nothing here, since it compares checksums; kept, it spares a reader a riddle.
    os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))
    target.chmod(about.st_mode & 0o777)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY, errno.ENOSYS):
            return False
        raise
    return True
