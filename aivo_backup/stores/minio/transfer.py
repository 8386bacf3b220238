"""Copies one object from store to store: one pass, hashed on the way, a bounded number of bytes in memory."""

import hashlib
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from aivo_backup.errors import BackupError
from aivo_backup.stores.minio.objects import Attributes, Condition, ObjectInfo, ObjectStore, Stored
from aivo_backup.stores.minio.reading import Patience

# S3's most parts per object: a larger object gets larger parts.
_MOST_PARTS = 10_000


class HaltedError(BackupError):
    """The work that a transfer was a part of is given up; nobody waits for the transfer."""


class ByteBudget:
    """How many object bytes all transfers together may hold at once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = capacity
        self._halted = False
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, amount: int) -> Generator[None]:
        """Waits until ``amount`` bytes are free, and holds them for the block.

        More than everything means everything, so that a part larger than the budget goes alone, not never.

        Raises:
            HaltedError: after :meth:`halt`.
        """
        weight = min(amount, self._capacity)
        with self._changed:
            self._changed.wait_for(lambda: self._halted or self._free >= weight)
            if self._halted:
                raise HaltedError("given up half way")
            self._free -= weight
        try:
            yield
        finally:
            with self._changed:
                self._free += weight
                self._changed.notify_all()

    def halt(self) -> None:
        """Ends every transfer at its next part: what is given up must not go on for as long as objects are large."""
        with self._changed:
            self._halted = True
            self._changed.notify_all()


@dataclass(frozen=True, kw_only=True)
class Copied:
    """An object that was written: what was read, and what it became."""

    source: ObjectInfo
    stored: Stored
    sha256: str


class Body(Protocol):
    """One object's bytes, in order: a :class:`~.reading.SteadyReading`, or a file that is read like one."""

    @property
    def info(self) -> ObjectInfo:
        """The whole object."""
        ...

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        ...

    def take(self, amount: int) -> bytes:
        """The next ``amount`` bytes (all that are left, if fewer)."""
        ...

    def finish(self) -> None:
        """Looks that the body ends where its headers say; raises when it does not."""
        ...


class WrongContentError(Exception):
    """What was read is not the content that was expected; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class Copier:
    """Writes objects to one bucket.

    Attributes:
        part_bytes: objects above this size go in parts of it.
    """

    target: ObjectStore
    target_bucket: str
    budget: ByteBudget
    part_bytes: int
    patience: Patience

    def copy(
        self,
        reading: Body,
        target_key: str,
        *,
        attributes: Attributes | None = None,
        expected_sha256: str = "",
        condition: Condition | None = None,
    ) -> Copied:
        """Copies what ``reading`` gives to ``target_key``.

        Args:
            attributes: written instead of the source's own.
            expected_sha256: hexadecimal; other content is not written.
            condition: what must be true of the target's key at the moment of the write.

        Raises:
            WrongContentError: the content is not the expected one.
            ChangedError: the target's key does not meet the condition; nothing was written.
            BackupError: reading or writing failed; no part of the object is left behind.
        """
        carried = reading.info.attributes if attributes is None else attributes
        part_bytes = max(self.part_bytes, self.target.minimum_part_bytes, -(-reading.info.size // _MOST_PARTS))
        if reading.info.size <= part_bytes:
            return self._copy_whole(reading, target_key, carried, expected_sha256, condition)
        return self._copy_in_parts(reading, target_key, carried, expected_sha256, part_bytes, condition)

    def _copy_whole(
        self,
        reading: Body,
        target_key: str,
        attributes: Attributes,
        expected_sha256: str,
        condition: Condition | None,
    ) -> Copied:
        with self.budget.holding(reading.info.size):
            body = reading.take(reading.info.size)
            reading.finish()
            sha256 = hashlib.sha256(body).hexdigest()
            if expected_sha256 and sha256 != expected_sha256:
                raise WrongContentError
            stored = self.patience.retried(
                lambda: self.target.put(
                    self.target_bucket, target_key, body, attributes, sha256=sha256, condition=condition
                )
            )
        return Copied(source=reading.info, stored=stored, sha256=sha256)

    def _copy_in_parts(
        self,
        reading: Body,
        target_key: str,
        attributes: Attributes,
        expected_sha256: str,
        part_bytes: int,
        condition: Condition | None,
    ) -> Copied:
        whole = hashlib.sha256()
        upload = self.patience.retried(lambda: self.target.begin_upload(self.target_bucket, target_key, attributes))
        try:
            while reading.left:
                with self.budget.holding(min(part_bytes, reading.left)):
                    body = reading.take(part_bytes)
                    whole.update(body)
                    self.patience.retried(lambda body=body: upload.put_part(body))
            reading.finish()
            sha256 = whole.hexdigest()
            if expected_sha256 and sha256 != expected_sha256:
                raise WrongContentError
            stored = self.patience.retried(lambda: upload.complete(condition))
        except BaseException:
            # Also on an interrupt: parts of an upload that is never finished cost money and are seen by nobody.
            with suppress(BackupError):
                upload.abort()
            raise
        return Copied(source=reading.info, stored=stored, sha256=sha256)
