"""The manifest of a recovery point: JSON Lines in compressed parts, and the summary that makes the point exist.

Lines are ordered by bucket, then by the UTF-8 bytes of the key (which is Python's order of strings). A full point's
manifest names every object. An increment's names what differs from the full point it builds on, a removed object as
a line with ``"gone": true``; :mod:`.points` merges the two. Parts carry their SHA-256 in the summary, and the
summary carries its own, so that a flipped bit in either is found before it is believed.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from aivo_backup.errors import ConfigurationError, VerificationError
from aivo_backup.policy.codec import format_time, from_json, parse_time, to_json
from aivo_backup.policy.environment import BackupKind
from aivo_backup.policy.names import MINIO_DATA_PREFIX, MINIO_LONG_PREFIX, MINIO_MANIFEST_PREFIX
from aivo_backup.stores.minio.objects import ABSENT, AbsentError, Attributes, ChangedError, ObjectStore
from aivo_backup.stores.minio.reading import Patience, read_whole, steady

SUMMARY_NAME = "summary.json"
_KEY_LIMIT_BYTES = 1024
_PART_BYTES = 16 * 1024 * 1024
_CHECKPOINT_BYTES = 4 * 1024 * 1024 * 1024
_JSON = Attributes(content_type="application/json")
_GZIP = Attributes(content_type="application/gzip")


class DamagedManifestError(VerificationError):
    """A summary or a part of a manifest is missing or is not what was written."""


def target_key(bucket: str, key: str) -> str:
    """Where the backup of ``bucket``/``key`` lives in the backup bucket.

    S3 allows keys of 1,024 bytes, so a longer mirrored key is replaced by its digest; the manifest tells the name.
    """
    mirrored = f"{MINIO_DATA_PREFIX}{bucket}/{key}"
    if len(mirrored.encode()) <= _KEY_LIMIT_BYTES:
        return mirrored
    return MINIO_LONG_PREFIX + hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One object of a recovery point.

    Attributes:
        key: its key at the source; :attr:`target_key` in the backup bucket, at :attr:`version_id`.
        etag: at the source; :attr:`target_etag` at the target.
        sha256: of the content, hexadecimal.
        last_modified: at the source, UTC.
    """

    bucket: str
    key: str
    target_key: str
    size: int
    etag: str
    sha256: str
    version_id: str
    target_etag: str
    last_modified: datetime
    attributes: Attributes

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """A line of an increment: the full point has this object, this point does not."""

    bucket: str
    key: str


Line = Entry | Gone


def encode_line(line: Line) -> str:
    """One line of JSON, without the newline."""
    if isinstance(line, Gone):
        return _dump({"bucket": line.bucket, "key": line.key, "gone": True})
    return _dump(
        {
            "bucket": line.bucket,
            "key": line.key,
            "target_key": line.target_key,
            "size": line.size,
            "etag": line.etag,
            "sha256": line.sha256,
            "version_id": line.version_id,
            "target_etag": line.target_etag,
            "last_modified": format_time(line.last_modified),
            "content_type": line.attributes.content_type,
            "metadata": line.attributes.metadata,
            "headers": line.attributes.headers,
        }
    )


def decode_line(text: str) -> Line:
    """The inverse of :func:`encode_line`.

    Raises:
        ValueError: it is not a line of a manifest.
    """
    try:
        data = cast("dict[str, Any]", json.loads(text))
        if data.get("gone"):
            return Gone(bucket=data["bucket"], key=data["key"])
        return Entry(
            bucket=data["bucket"],
            key=data["key"],
            target_key=data["target_key"],
            size=data["size"],
            etag=data["etag"],
            sha256=data["sha256"],
            version_id=data["version_id"],
            target_etag=data["target_etag"],
            last_modified=parse_time(data["last_modified"]),
            attributes=Attributes(
                content_type=data["content_type"], metadata=data["metadata"], headers=data["headers"]
            ),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a line of a manifest: {text[:80]!r}") from error


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stored part of a manifest; ``sha256`` is of the compressed bytes."""

    key: str
    version_id: str
    size: int
    sha256: str
    lines: int


@dataclass(frozen=True, kw_only=True)
class BucketCount:
    """What a point holds of one source bucket."""

    objects: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The small object that makes a point exist; written last.

    Attributes:
        point: ``YYYYMMDD_HHMMSS`` in UTC; the runbook's BACKUP_DATE.
        base: the full point that an increment builds on; empty when the manifest names every object.
        buckets: source bucket to what the point holds of it.
        copied: objects whose bytes this run moved, of which ``repaired`` were unchanged but damaged at the target.
        heartbeat: ``at`` of the newest heartbeat in this point; None when it holds none.
    """

    point: str
    kind: BackupKind
    base: str
    started: datetime
    finished: datetime
    buckets: Mapping[str, BucketCount]
    copied: int
    repaired: int
    removed: int
    bytes_transferred: int
    heartbeat: datetime | None
    parts: tuple[Part, ...]
    version: str
    sha256: str = ""

    @property
    def objects(self) -> int:
        """Number of objects in the point."""
        return sum(count.objects for count in self.buckets.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of all objects in the point."""
        return sum(count.size_bytes for count in self.buckets.values())

    def encode(self) -> bytes:
        """The JSON that is stored, with its own digest filled in."""
        sealed = replace(self, sha256=_digest_of(self))
        return json.dumps(to_json(sealed), indent=1, ensure_ascii=False).encode()

    @staticmethod
    def decode(body: bytes, *, where: str) -> "Summary":
        """The inverse of :meth:`encode`.

        Raises:
            DamagedManifestError: it is not what was written.
        """
        try:
            summary = from_json(Summary, json.loads(body), where=where)
        except (ValueError, ConfigurationError) as error:
            raise DamagedManifestError(f"the summary {where} is damaged: {error}", mend="use another point") from error
        if summary.sha256 != _digest_of(summary):
            raise DamagedManifestError(f"the summary {where} is not what was written", mend="use another point")
        return summary


@dataclass(frozen=True, kw_only=True)
class StoredSummary:
    """A summary and the very object that holds it; ``sha256`` is of that object's bytes."""

    summary: Summary
    key: str
    version_id: str
    size: int
    sha256: str


def summary_key(point: str) -> str:
    """The key of a point's summary."""
    return f"{MINIO_MANIFEST_PREFIX}{point}/{SUMMARY_NAME}"


class _GrowingPart:
    """Lines of a part, held compressed."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        # Level 3 takes half the time of the default; without a time stamp equal input gives equal bytes.
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=self._buffer, mtime=0)
        self.lines = 0
        self.size = 0
        self.copied = 0
        self.copied_bytes = 0

    def add(self, line: Line, copied_bytes: int | None) -> None:
        text = (encode_line(line) + "\n").encode()
        self._gzip.write(text)
        self.lines += 1
        self.size += len(text)
        if copied_bytes is not None:
            self.copied += 1
            self.copied_bytes += copied_bytes

    def finish(self) -> bytes:
        self._gzip.close()
        return self._buffer.getvalue()


@dataclass(kw_only=True)
class ManifestWriter:
    """Writes a manifest's parts as they fill up; holds one compressed part at most.

    The parts of a run that dies have no summary and are no point, but the next run finds in them what was copied.

    Attributes:
        checkpoint_objects: a part is also ended after so many copied objects, ``checkpoint_bytes`` likewise, so that
            little is copied again.
    """

    store: ObjectStore
    bucket: str
    point: str
    patience: Patience
    checkpoint_objects: int
    checkpoint_bytes: int = _CHECKPOINT_BYTES
    part_bytes: int = _PART_BYTES
    _parts: list[Part] = field(default_factory=list[Part])
    _growing: _GrowingPart = field(default_factory=_GrowingPart)
    _previous: tuple[str, str] = ("", "")

    def add(self, line: Line, *, copied_bytes: int | None = None) -> None:
        """Appends a line; ``copied_bytes`` is None for an object that was not copied.

        Raises:
            ValueError: it is not after the line before it: an error of this program.
        """
        place = (line.bucket, line.key)
        if place <= self._previous:
            raise ValueError(f"manifest line {place} after {self._previous}")
        self._previous = place
        part = self._growing
        part.add(line, copied_bytes)
        if (
            part.size >= self.part_bytes
            or part.copied >= self.checkpoint_objects
            or part.copied_bytes >= self.checkpoint_bytes
        ):
            self._flush()

    def finish(self) -> tuple[Part, ...]:
        """Writes what is left and answers all parts."""
        if self._growing.lines:
            self._flush()
        return tuple(self._parts)

    def _flush(self) -> None:
        body, lines = self._growing.finish(), self._growing.lines
        self._growing = _GrowingPart()
        key = f"{MINIO_MANIFEST_PREFIX}{self.point}/manifest-{len(self._parts):05d}.jsonl.gz"
        sha256 = hashlib.sha256(body).hexdigest()
        stored = self.patience.retried(lambda: self.store.put(self.bucket, key, body, _GZIP, sha256=sha256))
        self._parts.append(Part(key=key, version_id=stored.version_id, size=len(body), sha256=sha256, lines=lines))


def write_summary(store: ObjectStore, bucket: str, summary: Summary, *, patience: Patience) -> StoredSummary:
    """Writes a summary: from here on the point exists.

    Raises:
        ChangedError: another point of this name exists.
    """
    key, body = summary_key(summary.point), summary.encode()
    sha256 = hashlib.sha256(body).hexdigest()
    try:
        version_id = patience.retried(
            lambda: store.put(bucket, key, body, _JSON, sha256=sha256, condition=ABSENT)
        ).version_id
    except ChangedError:
        # An answer that was lost makes the second try find what the first one wrote.
        with steady(store, bucket, key, patience=patience) as reading:
            if reading.take(reading.info.size) != body:
                raise
            version_id = reading.info.version_id
    return StoredSummary(summary=summary, key=key, version_id=version_id, size=len(body), sha256=sha256)


def read_lines(store: ObjectStore, bucket: str, summary: Summary, *, patience: Patience) -> Iterator[Line]:
    """The lines of one manifest, a part in memory at a time.

    Raises:
        DamagedManifestError: a part is missing, or is not what was written; the message names it.
    """
    previous = ("", "")
    for part in summary.parts:
        for line in _read_part(store, bucket, part, patience):
            if (line.bucket, line.key) <= previous:
                raise DamagedManifestError(f"{part.key} is out of order at {line.bucket}/{line.key}")
            previous = (line.bucket, line.key)
            yield line


def read_abandoned(store: ObjectStore, bucket: str, key: str, *, patience: Patience) -> Iterator[Entry]:
    """What a part says whose run died: no digest of it is known, so it ends where it does not read well."""
    try:
        body = read_whole(store, bucket, key, patience=patience)
        for line in _lines_of(body):
            if isinstance(line, Entry):
                yield line
    except (AbsentError, EOFError, OSError, ValueError, zlib.error):
        return


def _read_part(store: ObjectStore, bucket: str, part: Part, patience: Patience) -> Iterator[Line]:
    try:
        body = read_whole(store, bucket, part.key, version_id=part.version_id, patience=patience)
    except AbsentError as error:
        raise DamagedManifestError(f"{part.key} is missing in {bucket}", mend="use another point") from error
    if len(body) != part.size or hashlib.sha256(body).hexdigest() != part.sha256:
        raise DamagedManifestError(
            f"{part.key} is damaged: its bytes are not what was written", mend="use another point"
        )
    try:
        yield from _lines_of(body)
    except ValueError as error:
        raise DamagedManifestError(f"{part.key}: {error}", mend="use another point") from error


def _lines_of(body: bytes) -> Iterator[Line]:
    with gzip.open(io.BytesIO(body), mode="rt", encoding="utf-8", newline="\n") as text:
        for line in text:
            yield decode_line(line)


def _digest_of(summary: Summary) -> str:
    text = json.dumps(to_json(replace(summary, sha256="")), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _dump(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
