"""Puts rescued objects back: a bundle of :mod:`.rescue`, written to a store again."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aivo_backup.errors import BackupError, ConfigurationError, UnreachableError, VerificationError
from aivo_backup.policy.codec import parse_time
from aivo_backup.policy.environment import MinioSettings
from aivo_backup.stores.minio.names import Wrong
from aivo_backup.stores.minio.objects import ABSENT, AbsentError, Attributes, ChangedError, Condition, ObjectInfo
from aivo_backup.stores.minio.objects import ObjectStore as Target
from aivo_backup.stores.minio.ordered import in_order
from aivo_backup.stores.minio.plan import Change
from aivo_backup.stores.minio.reading import Patience, digest_of
from aivo_backup.stores.minio.rescue import MANIFEST
from aivo_backup.stores.minio.transfer import ByteBudget, Copier, WrongContentError
from aivo_backup.stores.port import Progress, silent

_CHUNK_BYTES = 1024 * 1024
_FILE = re.compile(r"objects/\d{3,}/\d{6,}")
_PROGRESS_EVERY = 1000


@dataclass(frozen=True, kw_only=True)
class BroughtBack:
    """What became of a bundle's objects: how many were created, replaced, equal already, or kept as they are."""

    changes: Mapping[Change, int]

    def count(self, *changes: Change) -> int:
        """How many objects met one of these ends."""
        return sum(self.changes.get(change, 0) for change in changes)


@dataclass(frozen=True, kw_only=True)
class _Rescued:
    """One object of a bundle, with where it goes."""

    bucket: str
    key: str
    file: Path
    sha256: str
    info: ObjectInfo


class _FileBody:
    """A file of the bundle, read as a download is."""

    def __init__(self, file: IO[bytes], info: ObjectInfo) -> None:
        self._file = file
        self.info = info
        self.left = info.size

    def take(self, amount: int) -> bytes:
        chunk = self._file.read(min(amount, self.left))
        if not chunk and self.left:
            raise WrongContentError
        self.left -= len(chunk)
        return chunk

    def finish(self) -> None:
        if self.left or self._file.read(1):
            raise WrongContentError


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Writes bundles to one store.

    Attributes:
        into: the bucket to write to; where each object was exported from when empty.
        overwrite: replace an object that is there and differs; it is kept otherwise.
    """

    settings: MinioSettings
    target: Target
    into: str = ""
    overwrite: bool = False
    patience: Patience = field(default_factory=Patience)

    def bring_back(self, folder: Path, *, progress: Progress = silent) -> BroughtBack:
        """Writes a bundle's objects. Safe to repeat: what is there and equal is not written again.

        Raises:
            ConfigurationError: the folder holds no finished bundle; nothing was written.
            VerificationError: files are not as they were exported; they were not written, all others were.
        """
        objects = list(self._read(folder))
        present = set(self.target.buckets())
        for bucket in sorted({each.bucket for each in objects} - present):
            self.target.create_bucket(bucket)
        changes, wrong = Counter[Change](), Wrong()
        budget = ByteBudget(self.settings.bytes_in_flight)
        steps = (self._step(each, budget) for each in objects)
        written = in_order(steps, threads=self.settings.transfers, halt=budget.halt)
        for each, change in zip(objects, written, strict=True):
            if change is None:
                wrong.add(f"{each.key} ({each.file})")
            else:
                changes[change] += 1
            if changes.total() % _PROGRESS_EVERY == 0:
                progress(f"{changes.total()} of {len(objects)} rescued objects looked at")
        if wrong:
            raise VerificationError(
                f"{wrong.count} objects of {folder} are not as they were exported: {wrong}", mend="these were left out"
            )
        return BroughtBack(changes=dict(changes))

    def _read(self, folder: Path) -> Iterator[_Rescued]:
        try:
            text = (folder / MANIFEST).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{folder / MANIFEST}: {error.strerror}", mend="name the folder of a --rescue that ended"
            ) from error
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                yield _rescued(json.loads(line), folder, self.into)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigurationError(
                    f"{folder / MANIFEST}, line {number}, is of no rescued object ({error!r})",
                    mend="take the folder as --rescue left it",
                ) from error

    def _step(self, each: _Rescued, budget: ByteBudget) -> Callable[[], Change | None]:
        copier = Copier(
            target=self.target,
            target_bucket=each.bucket,
            budget=budget,
            part_bytes=self.settings.part_bytes,
            patience=self.patience,
        )
        return lambda: self._bring_back(each, copier)

    def _bring_back(self, each: _Rescued, copier: Copier) -> Change | None:
        """None when the file is not as it was exported."""
        change, condition = Change.CREATE, ABSENT
        try:
            found = self.patience.retried(lambda: self.target.info(each.bucket, each.key))
        except AbsentError:
            pass
        else:
            if self._is_equal(each, found):
                return Change.EQUAL
            if not self.overwrite:
                return Change.KEEP_OTHER
            change, condition = Change.REPLACE, Condition(etag=found.etag)
        try:
            with each.file.open("rb") as file:
                body = _FileBody(file, each.info)
                copier.copy(body, each.key, expected_sha256=each.sha256, condition=condition)
        except ChangedError:
            return self._overtaken(each, change)
        except (WrongContentError, FileNotFoundError):
            return None
        except OSError as error:
            raise BackupError(f"{each.file}: {error.strerror}", mend="make it readable, and give it again") from error
        return change

    def _overtaken(self, each: _Rescued, change: Change) -> Change:
        """Somebody wrote the key meanwhile; or we did, and the answer to our first try was lost."""
        try:
            found = self.patience.retried(lambda: self.target.info(each.bucket, each.key))
        except AbsentError:
            return Change.KEEP_NEWER
        return change if self._is_equal(each, found) else Change.KEEP_NEWER

    def _is_equal(self, each: _Rescued, found: ObjectInfo) -> bool:
        if (found.size, found.attributes) != (each.info.size, each.info.attributes):
            return False
        try:
            _, sha256 = digest_of(self.target, each.bucket, each.key, chunk_bytes=_CHUNK_BYTES, patience=self.patience)
        except UnreachableError:
            raise
        except BackupError:
            return False
        return sha256 == each.sha256


def _rescued(line: Any, folder: Path, into: str) -> _Rescued:
    if not _FILE.fullmatch(line["file"]):
        raise ValueError(line["file"])
    info = ObjectInfo(
        size=int(line["size"]),
        etag=line["etag"],
        version_id="",
        last_modified=parse_time(line["last_modified"]),
        attributes=Attributes(
            content_type=line["content_type"], metadata=dict(line["metadata"]), headers=dict(line["headers"])
        ),
    )
    return _Rescued(
        bucket=into or line["bucket"], key=line["key"], file=folder / line["file"], sha256=line["sha256"], info=info
    )
