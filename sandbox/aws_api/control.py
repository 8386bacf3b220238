"""The client of what the sandbox's AWS API can do beyond AWS."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aivo_backup.errors import BackupError, UnreachableError

_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class FlippedByte:
    """One byte that was changed at rest: ``before`` became ``after`` at ``offset`` of that version."""

    bucket: str
    key: str
    version_id: str
    offset: int
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Replicated:
    """What a replication run copied."""

    versions: int
    delete_markers: int


@dataclass(frozen=True, kw_only=True)
class LifecycleAction:
    """One thing that a lifecycle run did.

    Attributes:
        action: ``expire`` (a delete marker was added), ``expire-noncurrent``, ``expire-marker``, ``abort-upload`` or
            ``locked`` (a version that would have gone, and stayed because of its lock).
        version_id: the version concerned; for ``abort-upload`` the upload's id.
    """

    action: str
    bucket: str
    key: str
    version_id: str


@dataclass(frozen=True, kw_only=True)
class AwsControl:
    """Calls ``/_sandbox/…`` of the AWS API.

    Every method raises UnreachableError when the API does not answer and BackupError when it refuses.
    """

    url: str
    token: str
    ca_file: Path

    def instance(self) -> str:
        """An id of this life of the API's process. All AWS state dies with the process: a new id means empty."""
        return str(self._call("GET", "instance")["instance"])

    def flip_byte(self, bucket: str, key: str, *, version_id: str = "", offset: int | None = None) -> FlippedByte:
        """Inverts one byte of a stored version; ETag, checksums and dates stay as they were, as when a disk rots.

        Args:
            version_id: the version; the current one when empty.
            offset: position in bytes; the middle when None.
        """
        body = {"bucket": bucket, "key": key, "version_id": version_id, "offset": offset}
        return FlippedByte(**self._call("POST", "flip", body))

    def replicate(self) -> Replicated:
        """Applies every bucket's stored replication rules: versions and delete markers arrive with their ids."""
        return Replicated(**self._call("POST", "replicate", {}))

    def apply_lifecycle(self, as_of: datetime, *, bucket: str = "") -> list[LifecycleAction]:
        """Applies stored lifecycle rules as S3 would have done by ``as_of`` (UTC); to one bucket or to all."""
        body = {"as_of": as_of.isoformat(), "bucket": bucket}
        return [LifecycleAction(**action) for action in self._call("POST", "lifecycle", body)["actions"]]

    def enforce_iam(self, enforced: bool) -> None:
        """Switches the check of signatures and IAM policies on or off; off when the API starts."""
        self._call("POST", "enforcement", {"enforced": enforced})

    def iam_enforced(self) -> bool:
        """Whether IAM is enforced now."""
        return bool(self._call("GET", "enforcement")["enforced"])

    def _call(self, method: str, what: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/_sandbox/{what}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Sandbox-Token": self.token, "Content-Type": "application/json"},
        )
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=context) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise BackupError(f"sandbox AWS API, {what}: {error.read().decode(errors='replace')}") from error
        except (OSError, ValueError) as error:
            raise UnreachableError(
                f"the sandbox's AWS API at {self.url} does not answer ({error})", mend="run `aivo-backup sandbox up`"
            ) from error
