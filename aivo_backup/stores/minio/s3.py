"""The port of :mod:`.objects` over S3, through a boto3 client that the caller made."""

import base64
import binascii
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from aivo_backup.errors import BackupError
from aivo_backup.stores.minio.objects import (
    Attributes,
    Condition,
    ListedObject,
    ListedVersion,
    ObjectInfo,
    Reading,
    Stored,
)
from aivo_backup.stores.minio.reading import Patience
from aivo_backup.stores.minio.s3_upload import S3Upload, conditional, s3_errors

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

T = TypeVar("T")
PAGE = 1000
_MINIMUM_PART_BYTES = 5 * 1024 * 1024
_HEADERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
}


class S3ObjectStore:
    """Object storage that speaks S3.

    Args:
        client: made by the composition root; its pool should hold as many connections as there are transfers.
        encryption_key: ARN of the KMS key for everything written; empty leaves encryption to the bucket.
        patience: for the pages of a listing, which its consumer could not ask for again; not for the first one.
        page: keys per page of a listing, at most 1,000.
    """

    minimum_part_bytes = _MINIMUM_PART_BYTES

    def __init__(
        self, client: "S3Client", *, encryption_key: str = "", patience: Patience | None = None, page: int = PAGE
    ) -> None:
        self.client = client
        self.page = page
        self._has_answered = False
        self._patience = patience or Patience()
        self._encryption: dict[str, Any] = (
            # One data key per bucket for a while instead of one KMS call per object.
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encryption_key, "BucketKeyEnabled": True}
            if encryption_key
            else {}
        )

    @property
    def name(self) -> str:
        """The endpoint's URL."""
        return self.client.meta.endpoint_url

    def buckets(self) -> tuple[str, ...]:
        """See the port."""
        answer = self._asked("list the buckets", self.client.list_buckets)
        return tuple(sorted(bucket.get("Name", "") for bucket in answer.get("Buckets", [])))

    def create_bucket(self, bucket: str) -> None:
        """See the port."""
        try:
            with s3_errors(f"create the bucket {bucket} at {self.name}"):
                self.client.create_bucket(Bucket=bucket)
        except BackupError as error:
            if not (isinstance(error.__cause__, ClientError) and "BucketAlready" in str(error.__cause__)):
                raise

    def keeps_versions(self, bucket: str) -> bool:
        """See the port."""
        with s3_errors(f"read the versioning of bucket {bucket} at {self.name}"):
            return self.client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """See the port."""
        token: dict[str, Any] = {}
        while True:
            page = self._asked(
                f"list {bucket}/{prefix}",
                lambda token=token: self.client.list_objects_v2(
                    Bucket=bucket, Prefix=prefix, MaxKeys=self.page, **token
                ),
            )
            for item in page.get("Contents", []):
                yield ListedObject(
                    key=item.get("Key", ""),
                    size=item.get("Size", 0),
                    etag=item.get("ETag", "").strip('"'),
                    last_modified=_utc(item.get("LastModified")),
                )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page.get("NextContinuationToken", "")}

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        """See the port."""
        markers: dict[str, Any] = {}
        while True:
            page = self._asked(
                f"list the versions of {bucket}/{prefix}",
                lambda markers=markers: self.client.list_object_versions(
                    Bucket=bucket, Prefix=prefix, MaxKeys=self.page, **markers
                ),
            )
            kept = (
                ListedVersion(
                    key=item.get("Key", ""),
                    version_id=item.get("VersionId", ""),
                    size=item.get("Size", 0),
                    etag=item.get("ETag", "").strip('"'),
                    is_latest=item.get("IsLatest", False),
                    is_marker=False,
                )
                for item in page.get("Versions", [])
            )
            deleted = (
                ListedVersion(
                    key=item.get("Key", ""),
                    version_id=item.get("VersionId", ""),
                    size=0,
                    etag="",
                    is_latest=item.get("IsLatest", False),
                    is_marker=True,
                )
                for item in page.get("DeleteMarkers", [])
            )
            yield from in_key_order(kept, deleted)
            if not page.get("IsTruncated"):
                return
            markers = {"KeyMarker": page.get("NextKeyMarker", "")}
            if page.get("NextVersionIdMarker"):
                markers["VersionIdMarker"] = page.get("NextVersionIdMarker", "")

    def folders(self, bucket: str, prefix: str) -> tuple[str, ...]:
        """See the port."""
        names: list[str] = []
        token: dict[str, Any] = {}
        while True:
            page = self._asked(
                f"list {bucket}/{prefix}",
                lambda token=token: self.client.list_objects_v2(
                    Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=self.page, **token
                ),
            )
            names += [item.get("Prefix", "")[len(prefix) : -1] for item in page.get("CommonPrefixes", [])]
            if not page.get("IsTruncated"):
                return tuple(sorted(names))
            token = {"ContinuationToken": page.get("NextContinuationToken", "")}

    def info(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """See the port."""
        version: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        with s3_errors(f"look at {bucket}/{key} at {self.name}"):
            answer = self.client.head_object(Bucket=bucket, Key=key, **version)
        return _info(answer, answer.get("ContentLength", 0))

    def open(self, bucket: str, key: str, *, version_id: str = "", if_match: str = "", start: int = 0) -> Reading:
        """See the port."""
        options: dict[str, Any] = {}
        if version_id:
            options["VersionId"] = version_id
        if if_match:
            options["IfMatch"] = f'"{if_match}"'
        if start:
            options["Range"] = f"bytes={start}-"
        what = f"read {bucket}/{key} at {self.name}"
        with s3_errors(what):
            answer = self.client.get_object(Bucket=bucket, Key=key, **options)
        size = answer.get("ContentLength", 0)
        if start:
            size = int(answer.get("ContentRange", "").rpartition("/")[2] or start + size)
        return _S3Reading(answer["Body"], _info(answer, size), what)

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
        """See the port."""
        with s3_errors(f"write {bucket}/{key} at {self.name}"):
            answer = self.client.put_object(
                Bucket=bucket,
                Key=key,
                Body=body,
                ChecksumSHA256=base64.b64encode(binascii.unhexlify(sha256)).decode("ascii"),
                **_parameters(attributes),
                **self._encryption,
                **conditional(condition),
            )
        return Stored(version_id=answer.get("VersionId", ""), etag=answer.get("ETag", "").strip('"'))

    def begin_upload(self, bucket: str, key: str, attributes: Attributes) -> "S3Upload":
        """See the port."""
        return S3Upload(self.client, bucket, key, self.new_upload_id(bucket, key, attributes))

    def new_upload_id(self, bucket: str, key: str, attributes: Attributes) -> str:
        """Begins a multipart upload and answers its id."""
        with s3_errors(f"begin to write {bucket}/{key} at {self.name}"):
            answer = self.client.create_multipart_upload(
                Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32", **_parameters(attributes), **self._encryption
            )
        return answer["UploadId"]

    def abort_uploads(self, bucket: str, prefix: str) -> int:
        """See the port."""
        aborted = 0
        markers: dict[str, Any] = {}
        while True:
            page = self._asked(
                f"list the uploads under way in {bucket}/{prefix}",
                lambda markers=markers: self.client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, **markers),
            )
            for item in page.get("Uploads", []):
                S3Upload(self.client, bucket, item.get("Key", ""), item.get("UploadId", "")).abort()
                aborted += 1
            if not page.get("IsTruncated"):
                return aborted
            markers = {
                "KeyMarker": page.get("NextKeyMarker", ""),
                "UploadIdMarker": page.get("NextUploadIdMarker", ""),
            }

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """See the port."""
        objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys]
        with s3_errors(f"delete {len(keys)} objects in {bucket} at {self.name}"):
            answer = self.client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        for failed in answer.get("Errors", []):
            raise BackupError(
                f"delete {bucket}/{failed.get('Key', '')} at {self.name}: {failed.get('Code', 'refused')}",
                mend="check the role's permission to delete",
            )

    def patiently(self, ask: Callable[[], T]) -> T:
        """Asks again while the store does not answer, unless it has never answered.

        That is a wrong endpoint sooner than an outage, and a person waits for the word.
        """
        answer = self._patience.retried(ask) if self._has_answered else ask()
        self._has_answered = True
        return answer

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        def once() -> T:
            with s3_errors(f"{what} at {self.name}"):
                return ask()

        return self.patiently(once)


class _S3Reading:
    def __init__(self, body: "StreamingBody", info: ObjectInfo, what: str) -> None:
        self._body = body
        self._what = what
        self.info = info

    def read(self, amount: int) -> bytes:
        with s3_errors(self._what):
            return self._body.read(amount)

    def close(self) -> None:
        self._body.close()


def in_key_order(kept: Iterable[ListedVersion], deleted: Iterable[ListedVersion]) -> Iterator[ListedVersion]:
    """One page's versions and delete markers, which come as two lists, each in order."""
    return heapq.merge(kept, deleted, key=lambda version: version.key)


def without_framing(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without ``aws-chunked``: framing of an upload that some servers keep as if it told of the content."""
    codings = [coding.strip() for coding in headers.get("content-encoding", "").split(",")]
    kept = ", ".join(coding for coding in codings if coding and coding != "aws-chunked")
    others = {name: value for name, value in headers.items() if name != "content-encoding"}
    return others | ({"content-encoding": kept} if kept else {})


def _utc(moment: datetime | None) -> datetime:
    if moment is None:
        raise BackupError("a listing names an object without its time", mend="check that the endpoint speaks S3")
    return moment.astimezone(UTC)


def _info(answer: Mapping[str, Any], size: int) -> ObjectInfo:
    headers = {header: answer[parameter] for header, parameter in _HEADERS.items() if answer.get(parameter)}
    return ObjectInfo(
        size=size,
        etag=answer.get("ETag", "").strip('"'),
        version_id=answer.get("VersionId", ""),
        last_modified=_utc(answer.get("LastModified")),
        attributes=Attributes(
            content_type=answer.get("ContentType", ""),
            metadata={name.lower(): value for name, value in answer.get("Metadata", {}).items()},
            headers=without_framing(headers),
        ),
    )


def _parameters(attributes: Attributes) -> dict[str, Any]:
    parameters: dict[str, Any] = {_HEADERS[name]: value for name, value in attributes.headers.items()}
    if attributes.content_type:
        parameters["ContentType"] = attributes.content_type
    if attributes.metadata:
        parameters["Metadata"] = dict(attributes.metadata)
    return parameters
