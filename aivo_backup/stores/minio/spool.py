"""A list that goes on in a temporary file once it is long."""

import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Generic, TypeVar

from aivo_backup.errors import BackupError

T = TypeVar("T")
_IN_MEMORY = 5_000


@dataclass(kw_only=True)
class Spool(Generic[T]):
    """Holds any number of items in bounded memory; read once, after the last :meth:`add`.

    Attributes:
        in_memory: items kept as they are; the rest is pickled into a file without a name.
    """

    in_memory: int = _IN_MEMORY
    _first: list[T] = field(default_factory=list[T])
    _file: IO[bytes] | None = None
    _filed: int = 0

    def __enter__(self) -> "Spool[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, item: T) -> None:
        """Appends an item.

        Raises:
            BackupError: the folder for temporary files is full.
        """
        if len(self._first) < self.in_memory:
            self._first.append(item)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
            pickle.dump(item, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise _no_room(error) from error
        self._filed += 1

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        if self._file is not None:
            try:
                self._file.seek(0)  # writes what is still in the buffer
            except OSError as error:
                raise _no_room(error) from error
            for _ in range(self._filed):
                yield pickle.load(self._file)  # noqa: S301 (written by this very object, into a nameless file)


def _no_room(error: OSError) -> BackupError:
    return BackupError(
        f"no list of objects can be kept in {tempfile.gettempdir()}: {error.strerror}", mend="make room, or set TMPDIR"
    )
