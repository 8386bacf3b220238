"""The few object storage operations that the engine needs, as a port.

One adapter speaks S3 through boto3 (:mod:`.s3`); the tests hold an in-memory store to the same contract
(``tests/unit/minio/contract.py``), so that a faster client can take an adapter's place without touching the engine.

Every operation raises :class:`~aivo_backup.errors.UnreachableError` when the store does not answer and
:class:`~aivo_backup.errors.AccessDeniedError` when it refuses, besides what is said of each. ETags carry no quotes.
Sizes are bytes, times UTC. All operations may be called from several threads at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from aivo_backup.errors import BackupError


class ChangedError(BackupError):
    """The object is no longer (or already) what the condition of the request asked for."""


class AbsentError(BackupError):
    """No such bucket, object or version; for the newest version also: a delete marker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedObject:
    """One current object, as a listing tells it."""

    key: str
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedVersion:
    """One version of an object, or a delete marker (size 0, no ETag)."""

    key: str
    version_id: str
    size: int
    etag: str
    is_latest: bool
    is_marker: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Attributes:
    """What an object carries besides its bytes.

    Attributes:
        metadata: user metadata, names in lower case without the ``x-amz-meta-`` prefix.
        headers: of ``cache-control``, ``content-disposition``, ``content-encoding`` and ``content-language`` those
            that are set.
    """

    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One object or version as its own headers tell it; ``version_id`` is empty where versioning is off."""

    size: int
    etag: str
    version_id: str
    last_modified: datetime
    attributes: Attributes


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What a write left; ``version_id`` is empty where versioning is off."""

    version_id: str
    etag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What must be true of a key for a write to happen; the store itself looks, so that no writer can slip between.

    Attributes:
        etag: the current object's; empty means that there must be no current object.
    """

    etag: str = ""


ABSENT = Condition()
"""The key has no current object."""


class Reading(Protocol):
    """An open download. ``info.size`` is the size of the whole object, also when it was opened past its start."""

    @property
    def info(self) -> ObjectInfo:
        """What the response's headers say."""
        ...

    def read(self, amount: int) -> bytes:
        """Up to ``amount`` bytes; fewer only at the end of the body, which a broken transfer may fake.

        Raises:
            UnreachableError: the transfer broke.
        """
        ...

    def close(self) -> None:
        """Gives the connection back; safe to repeat."""
        ...


class Upload(Protocol):
    """A multipart upload under way. Nothing is visible before :meth:`complete`."""

    def put_part(self, body: bytes) -> None:
        """Sends the next part; every part but the last has the store's minimum size at least."""
        ...

    def complete(self, condition: "Condition | None" = None) -> Stored:
        """Makes the object.

        Raises:
            ChangedError: the key does not meet the condition.
        """
        ...

    def abort(self) -> None:
        """Throws the parts away; for an upload that is already gone this does nothing."""
        ...


class ObjectStore(Protocol):
    """Object storage, in the engine's words."""

    @property
    def name(self) -> str:
        """How to name this store in an error, for example its endpoint."""
        ...

    @property
    def minimum_part_bytes(self) -> int:
        """The smallest size of a part that is not the last."""
        ...

    def buckets(self) -> tuple[str, ...]:
        """The names of all buckets, sorted."""
        ...

    def create_bucket(self, bucket: str) -> None:
        """Makes a bucket; one that is there already stays as it is."""
        ...

    def keeps_versions(self, bucket: str) -> bool:
        """Whether a delete or an overwrite leaves the old version in place.

        Raises:
            AbsentError: no such bucket.
        """
        ...

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """Current objects in the order of their keys' UTF-8 bytes, fetched page by page.

        Raises:
            AbsentError: no such bucket.
        """
        ...

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        """All versions and delete markers, ordered by key, fetched page by page.

        Raises:
            AbsentError: no such bucket.
        """
        ...

    def folders(self, bucket: str, prefix: str) -> tuple[str, ...]:
        """The names between ``prefix`` and the next ``/`` of all current objects, sorted; ``prefix`` ends with it."""
        ...

    def info(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """An object's headers.

        Raises:
            AbsentError: there is no such object or version.
        """
        ...

    def open(self, bucket: str, key: str, *, version_id: str = "", if_match: str = "", start: int = 0) -> Reading:
        """Begins to read an object from byte ``start``, if its ETag is still ``if_match``.

        Raises:
            AbsentError: there is no such object or version.
            ChangedError: it has another ETag.
        """
        ...

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        sha256: str,
        condition: "Condition | None" = None,
    ) -> Stored:
        """Writes a whole object; the store checks ``body`` against ``sha256`` (hexadecimal).

        Raises:
            ChangedError: the key does not meet the condition.
        """
        ...

    def begin_upload(self, bucket: str, key: str, attributes: Attributes) -> Upload:
        """Begins a multipart upload."""
        ...

    def abort_uploads(self, bucket: str, prefix: str) -> int:
        """Aborts every multipart upload under way below ``prefix``; answers how many there were."""
        ...

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Deletes current objects, at most 1,000; where versions are kept each becomes a delete marker."""
        ...
