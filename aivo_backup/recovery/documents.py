"""Recovery documents (runbooks, reviews) in the bucket that keeps them five years under its own lock."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.names import DOCUMENTS
from aivo_backup.stores.aws import translated

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


def publish(
    s3: "S3Client", environment: Environment, files: dict[str, str], *, kind: str, now: datetime
) -> tuple[str, ...]:
    """Files each text under ``<kind>/<time>/<name>``; the bucket's default lock keeps it.

    Returns:
        their addresses.

    Raises:
        ConfigurationError: the environment has no such bucket.
        UnreachableError, AccessDeniedError: S3.
    """
    bucket = environment.buckets.get(DOCUMENTS, "")
    if not bucket:
        raise ConfigurationError(
            f"settings of {environment.name}: buckets.{DOCUMENTS} is missing", mend="provision the environment again"
        )
    stamp = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    written: list[str] = []
    for name, text in files.items():
        key = f"{kind}/{stamp}/{name}"
        with translated(f"s3://{bucket}/{key}"):
            s3.put_object(
                Bucket=bucket,
                Key=key,
                Body=text.encode(),
                ContentType="text/markdown; charset=utf-8",
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ServerSideEncryption="aws:kms",
                SSEKMSKeyId=environment.key("compliance"),
            )
        written.append(f"s3://{bucket}/{key}")
    return tuple(written)
