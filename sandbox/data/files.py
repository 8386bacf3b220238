"""Chooses real files of this machine, the same ones each time."""

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import ConfigurationError

ROOTS = (Path("/usr/share"), Path("/usr/lib/python3"), Path("/usr/include"), Path("/usr/lib"), Path("/usr/bin"))
_LARGEST_BYTES = 512 * 1024
_SMALLER_BYTES = (128 * 1024, 32 * 1024, 8 * 1024)


@dataclass(frozen=True, kw_only=True)
class RealFile:
    """A regular file, by its absolute path. Text and no ``Path``, for there are tens of thousands to look through."""

    path: str
    size_bytes: int
    mode: int
    modified_seconds: int

    @property
    def name(self) -> str:
        """The path below ``/``: a fine object key, since no file's name is another one's folder."""
        return self.path.removeprefix("/")

    def content(self) -> bytes:
        """All of it."""
        return Path(self.path).read_bytes()


def choose_files(wanted: int, *, largest_total_bytes: int, roots: Sequence[Path] = ROOTS) -> list[RealFile]:
    """``wanted`` files spread over all folders of the first roots that hold enough, sorted by name.

    The choice is by the digest of each name, so that it does not depend on the order of a folder's entries and does
    not fill up with whatever folder comes first.

    Raises:
        ConfigurationError: all roots together hold too few.
    """
    found: dict[str, RealFile] = {}
    for root in roots:
        found.update((file.path, file) for file in _files_below(root) if file.size_bytes <= _LARGEST_BYTES)
        chosen = _spread(found.values(), wanted, largest_total_bytes)
        if len(chosen) == wanted:
            return sorted(chosen, key=lambda file: file.path)
    for largest in _SMALLER_BYTES:  # a bare machine: enough files, and most of them big
        chosen = _spread((file for file in found.values() if file.size_bytes <= largest), wanted, largest_total_bytes)
        if len(chosen) == wanted:
            return sorted(chosen, key=lambda file: file.path)
    raise ConfigurationError(
        f"{len(found)} files below {', '.join(map(str, roots))} do not give {wanted} of at most "
        f"{largest_total_bytes // 10**6} MB together",
        mend="run: apt-get install tzdata iso-codes python3",
    )


def _spread(files: Iterable[RealFile], wanted: int, largest_total_bytes: int) -> list[RealFile]:
    chosen: list[RealFile] = []
    total = 0
    for file in sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest()):
        if len(chosen) == wanted:
            break
        if total + file.size_bytes <= largest_total_bytes:
            chosen.append(file)
            total += file.size_bytes
    return chosen


def _files_below(root: Path) -> Iterator[RealFile]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = f"{folder}/{name}"
            try:
                about = os.lstat(path)
            except OSError:
                continue  # vanished meanwhile
            # A regular file that everybody may read, with a name that is plain text.
            if stat.S_ISREG(about.st_mode) and about.st_mode & stat.S_IROTH and path.isascii():
                yield RealFile(
                    path=path,
                    size_bytes=about.st_size,
                    mode=stat.S_IMODE(about.st_mode),
                    modified_seconds=int(about.st_mtime),
                )


class Concatenated(io.RawIOBase):
    """A stream of exactly ``size_bytes``: the contents of files one after another, from the start again at the end."""

    def __init__(self, files: Sequence[RealFile], size_bytes: int) -> None:
        super().__init__()
        self._left = size_bytes
        self._contents = self._endless([file for file in files if file.size_bytes])
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # pyright: ignore[reportIncompatibleMethodOverride] -- typeshed's buffer type is private
        """Fills ``buffer`` as far as the present file goes."""
        if self._left == 0:
            return 0
        if not self._piece:
            self._piece = memoryview(next(self._contents))
        length = min(len(buffer), len(self._piece), self._left)
        buffer[:length] = self._piece[:length]
        self._piece = self._piece[length:]
        self._left -= length
        return length

    @staticmethod
    def _endless(files: Sequence[RealFile]) -> Iterator[bytes]:
        while True:
            read = 0
            for file in files:
                content = file.content()
                read += len(content)
                if content:
                    yield content
            if not read:
                raise ConfigurationError("no file with content is left to concatenate", mend="run it again")
