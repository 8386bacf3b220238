"""The rescue bundle: newer objects that a restore is about to replace or remove, first put into a folder.

::

    FOLDER/manifest.ndjson     one line per object, in the order of keys: its key, file, metadata and digest
    FOLDER/objects/000/000001  the contents; numbered, since a key may be no file name
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aivo_backup.policy.codec import format_time
from aivo_backup.stores.bundle import unfinished
from aivo_backup.stores.minio.objects import AbsentError, ListedObject, ObjectStore
from aivo_backup.stores.minio.ordered import in_order
from aivo_backup.stores.minio.reading import Patience, steady
from aivo_backup.stores.port import Progress, RescueBundle

MANIFEST = "manifest.ndjson"
_OBJECTS = "objects"
_PER_FOLDER = 1000
_CHUNK_BYTES = 1024 * 1024
_PROGRESS_EVERY = 1000


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """Writes bundles of one bucket's current objects.

    Attributes:
        threads: objects read at once; each has a mebibyte in memory.
    """

    store: ObjectStore
    bucket: str
    threads: int
    patience: Patience = field(default_factory=Patience)

    def export(self, keys: Iterable[str], folder: Path, *, progress: Progress) -> RescueBundle:
        """Exports objects.

        Args:
            keys: in the order of a listing; one that is gone meanwhile is passed over.
            folder: an empty one; see :func:`~aivo_backup.stores.bundle.require_fresh`.

        Raises:
            BackupError: reading or writing failed; the bundle has no manifest then.
        """
        count = size = 0
        with unfinished(folder, MANIFEST) as file, file.open("w", encoding="utf-8") as manifest:
            for line in in_order(self._steps(keys, folder), threads=self.threads):
                if line is not None:
                    manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
                    count += 1
                    size += line["size"]
                    if count % _PROGRESS_EVERY == 0:
                        progress(f"{count} newer objects exported to {folder}")
        return RescueBundle(folder=folder, units=(self.bucket,) if count else (), items=count, bytes=size)

    def _steps(self, keys: Iterable[str], folder: Path) -> Iterator[Callable[[], dict[str, Any] | None]]:
        for number, key in enumerate(keys, start=1):
            group = f"{_OBJECTS}/{number // _PER_FOLDER:03d}"
            if number == 1 or number % _PER_FOLDER == 0:
                (folder / group).mkdir(parents=True, exist_ok=True)
            yield lambda key=key, file=f"{group}/{number:06d}": self._export(key, folder, file)

    def _export(self, key: str, folder: Path, file: str) -> dict[str, Any] | None:
        sha256 = hashlib.sha256()
        try:
            with (
                steady(self.store, self.bucket, key, patience=self.patience) as reading,
                (folder / file).open("wb") as body,
            ):
                while reading.left:
                    chunk = reading.take(_CHUNK_BYTES)
                    sha256.update(chunk)
                    body.write(chunk)
                reading.finish()
                info = reading.info
        except AbsentError:
            return None
        return {
            "bucket": self.bucket,
            "key": key,
            "file": file,
            "size": info.size,
            "etag": info.etag,
            "sha256": sha256.hexdigest(),
            "last_modified": format_time(info.last_modified),
            "content_type": info.attributes.content_type,
            "metadata": dict(info.attributes.metadata),
            "headers": dict(info.attributes.headers),
        }


class Rescued:
    """What a finished bundle holds, walked through once beside a listing in the same order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: Iterator[dict[str, Any]] | None = None
        self._head: dict[str, Any] | None = None

    def holds(self, found: ListedObject) -> bool:
        """Whether this very object was exported; asked in the order of keys."""
        if self._lines is None:
            self._lines = self.lines()
            self._head = next(self._lines, None)
        while self._head is not None and self._head["key"] < found.key:
            self._head = next(self._lines, None)
        return self._head is not None and (self._head["key"], self._head["etag"]) == (found.key, found.etag)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The manifest, object by object."""
        file: IO[str]
        with (self.folder / MANIFEST).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
