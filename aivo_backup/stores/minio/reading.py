"""Reading an object to its very end: a broken transfer goes on where it stopped, a short one is found."""

import hashlib
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from aivo_backup.errors import AccessDeniedError, UnreachableError
from aivo_backup.stores.minio.objects import ObjectInfo, ObjectStore, Reading

T = TypeVar("T")
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 15.0


class TruncatedError(UnreachableError):
    """A body ended before, or went on past, the size that its headers tell."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a store may fail before the work is given up.

    Attributes:
        seconds: from the first failure in a row; the default outlives an outage of a minute.
        sleep, clock: replaced in tests.
    """

    seconds: float = 120.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def retried(self, work: Callable[[], T]) -> T:
        """Does ``work``, again while the store does not answer; a refusal of the credentials is final.

        Raises:
            UnreachableError: the last failure, once patience is out.
        """
        pauses: Iterator[float] | None = None
        give_up_at = 0.0
        while True:
            try:
                return work()
            except AccessDeniedError:
                raise
            except UnreachableError:
                moment = self.clock()
                if pauses is None:
                    pauses = _pauses()
                    give_up_at = moment + self.seconds
                pause = next(pauses)
                if moment + pause > give_up_at:
                    raise
                self.sleep(pause)


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        # Jitter keeps the workers from coming back all at once.
        yield pause * (0.5 + random.random() / 2)  # noqa: S311 (not a secret)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


class SteadyReading:
    """One object's bytes, in order, of one and the same version from first to last.

    Raises (on construction and from :meth:`take`):
        AbsentError: the object or version is not there.
        ChangedError: its ETag is not, or no longer, the one that was asked for.
        UnreachableError: the store kept failing past ``patience``.
    """

    def __init__(
        self,
        store: ObjectStore,
        bucket: str,
        key: str,
        *,
        version_id: str = "",
        if_match: str = "",
        patience: Patience,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._version_id = version_id
        self._patience = patience
        self._offset = 0
        self._reading: Reading = patience.retried(
            lambda: store.open(bucket, key, version_id=version_id, if_match=if_match)
        )
        self.info: ObjectInfo = self._reading.info

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return self.info.size - self._offset

    def take(self, amount: int) -> bytes:
        """The next ``amount`` bytes (all that are left, if fewer)."""
        wanted = min(amount, self.left)
        chunks: list[bytes] = []
        while wanted:
            chunk = self._patience.retried(lambda amount=wanted: self._read(amount))
            self._offset += len(chunk)
            wanted -= len(chunk)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def finish(self) -> None:
        """Looks that the body ends where its headers say.

        Raises:
            TruncatedError: bytes were left, or came after the end.
        """
        surplus = b""
        if not self.left:
            # A connection that breaks behind the last byte took nothing away.
            with suppress(UnreachableError):
                surplus = self._reading.read(1)
        if self.left or surplus:
            raise TruncatedError(f"{self._bucket}/{self._key}: the body is not {self.info.size} bytes long")

    def close(self) -> None:
        """Gives the connection back."""
        self._reading.close()

    def _read(self, amount: int) -> bytes:
        try:
            chunk = self._reading.read(amount)
            if not chunk:
                raise TruncatedError(
                    f"{self._bucket}/{self._key}: the body ended after {self._offset} of {self.info.size} bytes",
                    mend="check the store's health, and run it again",
                )
        except UnreachableError:
            self._reopen()
            raise
        return chunk

    def _reopen(self) -> None:
        """Goes on where the transfer broke, in the same version; while that fails, the old reading fails again."""
        self._reading.close()
        try:
            self._reading = self._store.open(
                self._bucket,
                self._key,
                version_id=self._version_id,
                if_match=self.info.etag,
                start=self._offset,
            )
        except UnreachableError:
            return


@contextmanager
def steady(
    store: ObjectStore, bucket: str, key: str, *, version_id: str = "", if_match: str = "", patience: Patience
) -> Generator[SteadyReading]:
    """Opens a :class:`SteadyReading` for the block."""
    reading = SteadyReading(store, bucket, key, version_id=version_id, if_match=if_match, patience=patience)
    try:
        yield reading
    finally:
        reading.close()


def read_whole(store: ObjectStore, bucket: str, key: str, *, version_id: str = "", patience: Patience) -> bytes:
    """A small object's bytes."""
    with steady(store, bucket, key, version_id=version_id, patience=patience) as reading:
        body = reading.take(reading.info.size)
        reading.finish()
    return body


def digest_of(
    store: ObjectStore, bucket: str, key: str, *, version_id: str = "", chunk_bytes: int, patience: Patience
) -> tuple[int, str]:
    """Reads an object to its end: size, and SHA-256 in hexadecimal; ``chunk_bytes`` in memory at a time."""
    sha256 = hashlib.sha256()
    with steady(store, bucket, key, version_id=version_id, patience=patience) as reading:
        while reading.left:
            sha256.update(reading.take(chunk_bytes))
        reading.finish()
        return reading.info.size, sha256.hexdigest()
