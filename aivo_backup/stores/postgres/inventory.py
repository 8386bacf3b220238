"""An inventory of our own of each backup set, because pgBackRest does not miss a file that vanished.

``inventory/<label>.json`` in the component's bucket lists every object of the set, with the WAL segments that make it
consistent, as they were when the backup ended: key, size, ETag and version id, and for the manifests (of which
pgBackRest keeps two and silently reads the second when the first is damaged) a SHA-256 of their content.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aivo_backup.catalog.records import Artefact
from aivo_backup.errors import BackupError, VerificationError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.stores.aws import MissingError, translated
from aivo_backup.stores.postgres.info import BackupSet
from aivo_backup.stores.postgres.wal import archived_segment

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

PREFIX = "inventory/"

_FORMAT = 1
_DELETE_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object of a set. ``sha256`` is empty for what pgBackRest checks itself whenever it reads it."""

    key: str
    size_bytes: int
    etag: str
    version_id: str
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Every object that restoring one set reads from that set."""

    format: int
    stanza: str
    label: str
    objects: tuple[StoredObject, ...]


@dataclass(frozen=True, kw_only=True)
class Inventories:
    """Takes, stores and compares the inventories in one bucket."""

    s3: "S3Client"
    bucket: str
    stanza: str

    def take(self, backup: BackupSet) -> Artefact:
        """Lists the set as it is now and stores the list; answers the stored object.

        Raises:
            BackupError: the set has no objects, or one of them is empty.
            AccessDeniedError, UnreachableError: S3.
        """
        objects = tuple(self._objects(backup))
        empty = [entry.key for entry in objects if entry.size_bytes == 0]
        if not objects or empty:
            raise BackupError(
                f"backup set {backup.label}: {', '.join(empty) if empty else 'no objects'} empty in {self.bucket}",
                mend="take a new backup",
            )
        inventory = Inventory(format=_FORMAT, stanza=self.stanza, label=backup.label, objects=objects)
        body = json.dumps(to_json(inventory), indent=1).encode()
        key = f"{PREFIX}{backup.label}.json"
        with translated(f"inventory {key}"):
            answer = self.s3.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*"
            )
        return Artefact(
            location=self.bucket,
            key=key,
            version_id=answer.get("VersionId", ""),
            size_bytes=len(body),
            checksum=_sha256(body),
        )

    def stored(self) -> dict[str, Artefact]:
        """The inventories that are there, by label. The first version counts: each is written once."""
        first: dict[str, Artefact] = {}
        for _, entry in self._versions(PREFIX):
            # Listed newest first, so the last one seen of a key is its first.
            first[entry.key.removeprefix(PREFIX).removesuffix(".json")] = Artefact(
                location=self.bucket, key=entry.key, version_id=entry.version_id, size_bytes=entry.size_bytes
            )
        return first

    def forget(self, but: Collection[str]) -> int:
        """Deletes the inventories of sets that are gone; answers how many there were.

        Args:
            but: labels of the sets that the repository holds.

        Raises:
            AccessDeniedError, UnreachableError, BackupError: S3.
        """
        with translated(f"list {PREFIX} in {self.bucket}"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX)
            keys = [entry.get("Key", "") for page in pages for entry in page.get("Contents", [])]
        gone = [key for key in keys if key.removeprefix(PREFIX).removesuffix(".json") not in but]
        for start in range(0, len(gone), _DELETE_BATCH):
            batch = gone[start : start + _DELETE_BATCH]
            with translated(f"delete {len(batch)} inventories in {self.bucket}"):
                answer = self.s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            if errors := answer.get("Errors", []):
                raise BackupError(
                    f"{errors[0].get('Key')} in {self.bucket} was not deleted: {errors[0].get('Code')}",
                    mend="check the expirer's role",
                )
        return len(gone)

    def read(self, artefact: Artefact) -> Inventory:
        """The inventory that a record names, in the version that it names.

        Raises:
            VerificationError: it is gone, or its content is another.
        """
        try:
            body = self._get(artefact.key, artefact.version_id)
        except MissingError as error:
            raise VerificationError(f"inventory {artefact.key} is gone from {self.bucket}") from error
        if artefact.checksum and artefact.checksum != _sha256(body):
            raise VerificationError(f"inventory {artefact.key} is not the one that was recorded")
        try:
            return from_json(Inventory, json.loads(body), where=artefact.key)
        except (ValueError, BackupError) as error:
            raise VerificationError(f"inventory {artefact.key} cannot be read: {error}") from error

    def differences(self, inventory: Inventory) -> list[str]:
        """What is no longer as the inventory says, one line for each object, by name."""
        now = {entry.key: entry for entry in self._current(inventory)}
        return [
            f"{expected.key} {what}"
            for expected in inventory.objects
            if (what := self._difference(expected, now.get(expected.key)))
        ]

    def _difference(self, expected: StoredObject, found: StoredObject | None) -> str:
        if found is None:
            return "is gone"
        if found.size_bytes != expected.size_bytes:
            return f"has {found.size_bytes} bytes instead of {expected.size_bytes}"
        if (found.version_id, found.etag) != (expected.version_id, expected.etag):
            return f"was replaced (version {found.version_id} instead of {expected.version_id})"
        if expected.sha256 and _sha256(self._get(expected.key, expected.version_id)) != expected.sha256:
            return "has other content at rest"
        return ""

    def _objects(self, backup: BackupSet) -> Iterator[StoredObject]:
        for entry in self._latest(self._set_prefix(backup.label)):
            if entry.key.rpartition("/")[2].startswith("backup.manifest"):
                yield replace(entry, sha256=_sha256(self._get(entry.key, entry.version_id)))
            else:
                yield entry
        for folder in sorted({backup.wal_start[:16], backup.wal_stop[:16]}):
            for entry in self._latest(f"archive/{self.stanza}/{backup.archive_id}/{folder}/"):
                segment, _ = archived_segment(entry.key)
                if segment and backup.wal_start <= segment <= backup.wal_stop:
                    yield entry

    def _current(self, inventory: Inventory) -> Iterator[StoredObject]:
        yield from self._latest(self._set_prefix(inventory.label))
        wal = {entry.key.rpartition("/")[0] for entry in inventory.objects if entry.key.startswith("archive/")}
        for folder in sorted(wal):
            yield from self._latest(f"{folder}/")

    def _set_prefix(self, label: str) -> str:
        return f"backup/{self.stanza}/{label}/"

    def _latest(self, prefix: str) -> Iterator[StoredObject]:
        return (entry for latest, entry in self._versions(prefix) if latest)

    def _versions(self, prefix: str) -> Iterator[tuple[bool, StoredObject]]:
        """Every version under a prefix, those of a key newest first, and whether it is the current one."""
        with translated(f"list {prefix} in {self.bucket}"):
            for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix):
                for version in page.get("Versions", []):
                    yield (
                        version.get("IsLatest", False),
                        StoredObject(
                            key=version.get("Key", ""),
                            size_bytes=version.get("Size", 0),
                            etag=version.get("ETag", "").strip('"'),
                            # An unversioned bucket answers "null", which names no version.
                            version_id=version.get("VersionId", "null").replace("null", ""),
                        ),
                    )

    def _get(self, key: str, version_id: str) -> bytes:
        with translated(f"{key} in {self.bucket}"):
            if version_id:
                return self.s3.get_object(Bucket=self.bucket, Key=key, VersionId=version_id)["Body"].read()
            return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()


def _sha256(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()
