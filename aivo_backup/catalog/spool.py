"""Records that could not be delivered wait here, on a volume that outlives the pod, so that no evidence is lost."""

import fcntl
import json
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from aivo_backup.errors import ConfigurationError


class Spool:
    """A folder of undelivered records, one file each, written atomically."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, body: dict[str, Any]) -> Path:
        """Keeps a record for the next run.

        Args:
            key: the object key it is meant for.
            body: its JSON form.

        Raises:
            ConfigurationError: the folder cannot be written (a full or read-only volume).
        """
        with self.announced(key, body):
            return self._file(key)

    @contextmanager
    def announced(self, key: str, body: dict[str, Any]) -> Generator[None]:
        """Keeps a record, and from delivery for as long as the block runs: the next run delivers it if this one dies.

        Raises:
            ConfigurationError: as :meth:`put`.
        """
        target = self._file(key)
        partial = target.with_suffix(".part")
        with ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                # Unbuffered: on a full disk, closing a buffered file would try, and fail, once more.
                file = stack.enter_context(partial.open("wb", buffering=0))
                # The lock belongs to the open file: it ends with the process, however that ends.
                fcntl.flock(file, fcntl.LOCK_EX)
                rest = json.dumps({"key": key, "body": body}).encode()
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
                partial.replace(target)
            except OSError as error:
                raise ConfigurationError(
                    f"the spool {self._folder} cannot be written: {error.strerror}",
                    mend="free space or mount a writable volume there",
                ) from error
            yield

    def drop(self, key: str) -> None:
        """Forgets a record that has been delivered. Should it stay, its next delivery finds it filed already."""
        with suppress(OSError):
            self._file(key).unlink()

    def waiting(self) -> Iterator[tuple[Path, str, dict[str, Any]]]:
        """Every undelivered record that no other process still announces, as (file, key, body), oldest name first."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            with path.open(encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                content = json.load(file)
                yield path, content["key"], content["body"]

    def _file(self, key: str) -> Path:
        return self._folder / key.replace("/", "~")
