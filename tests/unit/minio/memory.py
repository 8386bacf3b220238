"""Object storage in memory, held to the same contract as the adapter for S3, with a place to put faults in."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aivo_backup.stores.minio.objects import (
    AbsentError,
    Attributes,
    ChangedError,
    Condition,
    ListedObject,
    ListedVersion,
    ObjectInfo,
    Stored,
)

Hook = Callable[[str, str, str], None]
"""Called before every operation with its name, bucket and key (or prefix); may raise, or change the store."""


def no_fault(_operation: str, _bucket: str, _key: str) -> None:
    """The hook that does nothing."""


@dataclass
class Held:
    """One version; ``body`` is None for a delete marker."""

    version_id: str
    body: bytes | None
    etag: str
    last_modified: datetime
    attributes: Attributes


@dataclass
class MemoryStore:
    """See :class:`aivo_backup.stores.minio.objects.ObjectStore`.

    ``page`` is the size of a listing's page: what changes between two pages is seen, as with a real store.
    """

    name: str = "memory"
    minimum_part_bytes: int = 1
    page: int = 3
    hook: Hook = no_fault
    body_hook: Callable[[str, bytes], bytes] = lambda _key, body: body
    versioned: bool = True
    held: dict[str, dict[str, list[Held]]] = field(default_factory=dict[str, dict[str, list[Held]]])
    uploads: dict[str, "MemoryUpload"] = field(default_factory=dict[str, "MemoryUpload"])
    writes: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def buckets(self) -> tuple[str, ...]:
        self.hook("buckets", "", "")
        return tuple(sorted(self.held))

    def create_bucket(self, bucket: str) -> None:
        self.hook("create_bucket", bucket, "")
        self.held.setdefault(bucket, {})

    def keeps_versions(self, bucket: str) -> bool:
        self._bucket(bucket)
        return self.versioned

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        after = ""
        while True:
            self.hook("list", bucket, prefix)
            with self.lock:
                # Sorted by bytes, so that a mistake about the order of strings cannot hide in both places.
                keys = sorted((key for key in self._bucket(bucket) if key.startswith(prefix)), key=str.encode)
                current = [(key, self._current(bucket, key)) for key in keys if not after or key > after]
                found = [(key, held) for key, held in current if held is not None]
            for key, held in found[: self.page]:
                body = held.body or b""
                yield ListedObject(key=key, size=len(body), etag=held.etag, last_modified=held.last_modified)
            if len(found) <= self.page:
                return
            after = found[self.page - 1][0]

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        self.hook("versions", bucket, prefix)
        with self.lock:
            keys = sorted((key for key in self._bucket(bucket) if key.startswith(prefix)), key=str.encode)
            listed = [(key, tuple(reversed(self.held[bucket][key]))) for key in keys]
        for key, history in listed:
            for number, held in enumerate(history):
                yield ListedVersion(
                    key=key,
                    version_id=held.version_id,
                    size=len(held.body or b""),
                    etag=held.etag,
                    is_latest=number == 0,
                    is_marker=held.body is None,
                )

    def folders(self, bucket: str, prefix: str) -> tuple[str, ...]:
        rests = (item.key[len(prefix) :] for item in self.objects(bucket, prefix))
        return tuple(sorted({rest.split("/")[0] for rest in rests if "/" in rest}))

    def info(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        self.hook("info", bucket, key)
        with self.lock:
            return _info(self._find(bucket, key, version_id))

    def open(
        self, bucket: str, key: str, *, version_id: str = "", if_match: str = "", start: int = 0
    ) -> "MemoryReading":
        self.hook("open", bucket, key)
        with self.lock:
            held = self._find(bucket, key, version_id)
        if if_match and held.etag != if_match:
            raise ChangedError(f"{bucket}/{key} changed")
        return MemoryReading(self, bucket, key, held, self.body_hook(key, held.body or b"")[start:])

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        sha256: str,
        condition: Condition | None = None,
    ) -> Stored:
        self.hook("put", bucket, key)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise AssertionError("the checksum sent does not fit the body")
        with self.lock:
            self.check(bucket, key, condition)
            return self.add(bucket, key, body, attributes=attributes)

    def begin_upload(self, bucket: str, key: str, attributes: Attributes) -> "MemoryUpload":
        self.hook("begin_upload", bucket, key)
        self._bucket(bucket)
        return MemoryUpload(self, bucket, key, attributes)

    def abort_uploads(self, bucket: str, prefix: str) -> int:
        self.hook("abort_uploads", bucket, prefix)
        found = [upload for upload in self.uploads.values() if upload.key.startswith(prefix)]
        for upload in found:
            upload.abort()
        return len(found)

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        assert len(keys) <= 1000
        self.hook("delete", bucket, ",".join(keys))
        with self.lock:
            for key in keys:
                self.remove(bucket, key)

    # What a writer of the source, or an attacker, does directly.

    def add(
        self, bucket: str, key: str, body: bytes, *, attributes: Attributes | None = None, etag: str = ""
    ) -> Stored:
        """Writes an object past every hook."""
        with self.lock:
            history = self._bucket(bucket).setdefault(key, [])
            if not self.versioned:
                history.clear()
            held = Held(
                version_id=self._next("v"),
                body=body,
                etag=etag or hashlib.md5(body, usedforsecurity=False).hexdigest(),
                last_modified=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.writes),
                attributes=attributes or Attributes(content_type="binary/octet-stream"),
            )
            history.append(held)
            return Stored(version_id=held.version_id, etag=held.etag)

    def remove(self, bucket: str, key: str) -> None:
        """Deletes an object past every hook."""
        with self.lock:
            if not self.versioned:
                self._bucket(bucket).pop(key, None)
                return
            marker = Held(
                version_id=self._next("m"),
                body=None,
                etag="",
                last_modified=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.writes),
                attributes=Attributes(),
            )
            self._bucket(bucket).setdefault(key, []).append(marker)

    def at(self, bucket: str, key: str, version_id: str = "") -> Held:
        """The very version, to look at or to damage."""
        return self._find(bucket, key, version_id)

    def contents(self, bucket: str) -> dict[str, tuple[bytes, Attributes]]:
        """Key to content and attributes of every current object."""
        with self.lock:
            found = {key: self._current(bucket, key) for key in self._bucket(bucket)}
        return {key: (held.body or b"", held.attributes) for key, held in found.items() if held is not None}

    def check(self, bucket: str, key: str, condition: Condition | None) -> None:
        """Refuses a write whose condition the key does not meet."""
        if condition is not None:
            current = self._current(bucket, key)
            if (current.etag if current else "") != condition.etag:
                raise ChangedError(f"{bucket}/{key} is not as the write's condition says")

    def _next(self, letter: str) -> str:
        self.writes += 1
        return f"{letter}{self.writes}" if self.versioned else ""

    def _bucket(self, bucket: str) -> dict[str, list[Held]]:
        if bucket not in self.held:
            raise AbsentError(f"no bucket {bucket}")
        return self.held[bucket]

    def _current(self, bucket: str, key: str) -> Held | None:
        history = self._bucket(bucket).get(key, [])
        return history[-1] if history and history[-1].body is not None else None

    def _find(self, bucket: str, key: str, version_id: str) -> Held:
        current = self._current(bucket, key)
        if not version_id and current is not None:
            return current
        for held in self._bucket(bucket).get(key, []):
            if version_id and held.version_id == version_id and held.body is not None:
                return held
        raise AbsentError(f"no object {bucket}/{key} {version_id}")


class MemoryReading:
    def __init__(self, store: MemoryStore, bucket: str, key: str, held: Held, body: bytes) -> None:
        self.info = _info(held)
        self._store = store
        self._place = (bucket, key)
        self._left = body

    def read(self, amount: int) -> bytes:
        self._store.hook("read", *self._place)
        chunk, self._left = self._left[:amount], self._left[amount:]
        return chunk

    def close(self) -> None:
        self._left = b""


class MemoryUpload:
    def __init__(self, store: MemoryStore, bucket: str, key: str, attributes: Attributes) -> None:
        self.key = key
        self._store = store
        self._bucket = bucket
        self._attributes = attributes
        self._parts: list[bytes] = []
        self._id = str(id(self))
        store.uploads[self._id] = self

    def put_part(self, body: bytes) -> None:
        self._store.hook("put_part", self._bucket, self.key)
        self._parts.append(body)

    def complete(self, condition: Condition | None = None) -> Stored:
        self._store.hook("complete", self._bucket, self.key)
        self._store.check(self._bucket, self.key, condition)
        del self._store.uploads[self._id]
        digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in self._parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._parts)}"
        with self._store.lock:
            return self._store.add(
                self._bucket, self.key, b"".join(self._parts), attributes=self._attributes, etag=etag
            )

    def abort(self) -> None:
        self._store.hook("abort", self._bucket, self.key)
        self._store.uploads.pop(self._id, None)


def _info(held: Held) -> ObjectInfo:
    return ObjectInfo(
        size=len(held.body or b""),
        etag=held.etag,
        version_id=held.version_id,
        # Headers carry whole seconds, listings milliseconds.
        last_modified=held.last_modified.replace(microsecond=0),
        attributes=held.attributes,
    )
