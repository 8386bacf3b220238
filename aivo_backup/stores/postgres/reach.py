"""Whether the other sides answer, asked before pgBackRest is, which tries for minutes before it says so."""

import socket
import time
from typing import TYPE_CHECKING

from aivo_backup.errors import ConfigurationError, UnreachableError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.aws import MissingError, translated

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.2


def ask_bucket(s3: "S3Client", bucket: str) -> None:
    """Asks S3 for the bucket.

    Raises:
        ConfigurationError: there is no such bucket.
        AccessDeniedError, UnreachableError: S3.
    """
    try:
        with translated(f"bucket {bucket}"):
            # A listing and not a HEAD, whose answer has no body and so cannot say why it is refused.
            s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except MissingError as error:
        raise ConfigurationError(f"bucket {bucket} does not exist", mend="provision the environment") from error


def ask_sidecar(settings: PostgresSettings) -> None:
    """Connects to the sidecar.

    Raises:
        UnreachableError: it does not accept the connection.
    """
    try:
        socket.create_connection((settings.sidecar_host, settings.sidecar_port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise UnreachableError(
            f"the pgBackRest sidecar at {settings.sidecar_host}:{settings.sidecar_port} does not answer: {error}",
            mend="start it beside the database: `aivo-backup sidecar`",
        ) from error


def wait_for_sidecar(settings: PostgresSettings, *, timeout_seconds: float) -> None:
    """Waits until the sidecar accepts connections.

    Raises:
        UnreachableError: it does not within ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            ask_sidecar(settings)
            return
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SECONDS)
