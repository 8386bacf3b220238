"""AWS clients, and the translation of AWS's errors into ours."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    SSLError,
)

from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "403",
}
_MISSING = {"NoSuchBucket", "NoSuchKey", "NotFoundException", "ParameterNotFound", "404"}
_UNAVAILABLE = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504"}

CLIENT_CONFIG = Config(
    # Adaptive would slow a whole run down after one throttle; standard backs off per request.
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=64,
    s3={"addressing_style": "path"},
)


class MissingError(BackupError):
    """AWS or an S3-compatible store says that the named thing does not exist."""


def session(region: str, *, endpoint_url: str = "", ca_file: str = "") -> boto3.Session:
    """A session with the ambient identity (web identity, environment or profile).

    The endpoint goes into the environment, not into each client, because botocore's own web identity exchange makes
    an STS client that only the environment reaches.
    """
    if endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = endpoint_url
    if ca_file:
        os.environ["AWS_CA_BUNDLE"] = ca_file
    return boto3.Session(region_name=region)


def s3_client(aws: boto3.Session) -> "S3Client":
    """An S3 client with the timeouts and retries that every part of this package uses."""
    return aws.client("s3", config=CLIENT_CONFIG)


@contextmanager
def translated(what: str) -> Generator[None]:
    """Turns botocore's exceptions into ours, saying what was being done.

    Raises:
        AccessDeniedError, UnreachableError, MissingError, ConfigurationError, BackupError
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "") or code
        if code in _DENIED:
            raise AccessDeniedError(
                f"{what}: access denied ({message})", mend="check the credentials and the role's policy"
            ) from error
        if code in _MISSING:
            raise MissingError(f"{what}: {message}", mend="check the name, or provision the environment") from error
        if code in _UNAVAILABLE:
            raise UnreachableError(f"{what}: {code}", mend="try again; the service is failing") from error
        raise BackupError(f"{what}: {code}: {message}") from error
    except (EndpointConnectionError, ConnectTimeoutError, SSLError) as error:
        raise UnreachableError(f"{what}: {error}", mend="check the endpoint and the network") from error
    except NoCredentialsError as error:
        raise ConfigurationError(f"{what}: no AWS credentials", mend="set AWS_PROFILE or a web identity") from error
    except BotoCoreError as error:
        raise UnreachableError(f"{what}: {error}", mend="check the endpoint and the network") from error
