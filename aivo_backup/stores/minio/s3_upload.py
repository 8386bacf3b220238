"""What both adapters for S3 share: errors in the port's words, conditions of a write, and an upload in parts."""

import base64
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from aivo_backup.errors import BackupError
from aivo_backup.stores.aws import MissingError, translated
from aivo_backup.stores.minio.objects import AbsentError, ChangedError, Condition, Stored

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_ABSENT = {"NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NoSuchUpload", "MethodNotAllowed", "404", "405"}


@contextmanager
def s3_errors(what: str) -> Generator[None]:
    """Turns botocore's errors into the port's; ``what`` says what was being done.

    Raises:
        AbsentError, ChangedError, and what :func:`aivo_backup.stores.aws.translated` raises.
    """
    try:
        with translated(what):
            yield
    except BackupError as error:
        cause = error.__cause__
        code = cause.response.get("Error", {}).get("Code", "") if isinstance(cause, ClientError) else ""
        if code in _CHANGED:
            raise ChangedError(f"{what}: the object changed") from cause
        if code in _ABSENT or isinstance(error, MissingError):
            raise AbsentError(f"{what}: not there ({code})", mend="check the name") from cause
        raise


def conditional(condition: Condition | None) -> dict[str, Any]:
    """The parameters that make a write conditional."""
    if condition is None:
        return {}
    return {"IfMatch": f'"{condition.etag}"'} if condition.etag else {"IfNoneMatch": "*"}


class S3Upload:
    """See :class:`.objects.Upload`."""

    def __init__(self, client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
        self.bucket = bucket
        self.key = key
        self.upload_id = upload_id
        self._client = client
        self._parts: list[CompletedPartTypeDef] = []

    def put_part(self, body: bytes) -> None:
        """See the port. A cheap checksum guards the transfer of a part; the SHA-256 of the whole is the engine's."""
        number = len(self._parts) + 1
        checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode("ascii")
        etag = self.send(number, body, checksum)
        self._parts.append({"PartNumber": number, "ETag": etag, "ChecksumCRC32": checksum})

    def send(self, number: int, body: bytes, checksum: str) -> str:
        """Sends one part, with its CRC-32 in base64, and answers its ETag."""
        with s3_errors(f"write part {number} of {self.bucket}/{self.key}"):
            answer = self._client.upload_part(
                Bucket=self.bucket,
                Key=self.key,
                UploadId=self.upload_id,
                PartNumber=number,
                Body=body,
                ChecksumCRC32=checksum,
            )
        return answer["ETag"]

    def complete(self, condition: Condition | None = None) -> Stored:
        """See the port."""
        with s3_errors(f"finish writing {self.bucket}/{self.key}"):
            answer = self._client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=self.key,
                UploadId=self.upload_id,
                MultipartUpload={"Parts": self._parts},
                **conditional(condition),
            )
        return Stored(version_id=answer.get("VersionId", ""), etag=answer.get("ETag", "").strip('"'))

    def abort(self) -> None:
        """See the port."""
        try:
            with s3_errors(f"abort writing {self.bucket}/{self.key}"):
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=self.key, UploadId=self.upload_id)
        except AbsentError:
            return
