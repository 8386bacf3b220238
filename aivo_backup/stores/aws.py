"""AWS clients, and the translation of AWS's errors into ours."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
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
_MISSING = {"NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFoundException", "ParameterNotFound", "404"}
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


_IDENTITY_VARIABLES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE")


def session(variables: Mapping[str, str], *, endpoint_url: str = "", ca_file: str = "") -> boto3.Session:
    """A session with the ambient identity (web identity, environment or profile).

    Args:
        variables: environment variables; those that lead to files of credentials are taken over. The region is theirs
            or the files'.

    The endpoint goes into the process's environment, not into each client, because botocore's own web identity
    exchange makes an STS client that nothing else reaches.
    """
    for name in _IDENTITY_VARIABLES:
        if name in variables:
            os.environ[name] = variables[name]
    if endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = endpoint_url
    if ca_file:
        os.environ["AWS_CA_BUNDLE"] = ca_file
    return boto3.Session(region_name=variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION"))


def assumed(aws: boto3.Session, role_arn: str, name: str) -> boto3.Session:
    """A session under another role, renewed for as long as it is used.

    Args:
        role_arn: the role; the session itself when empty.
        name: the role session's name, which CloudTrail shows.
    """
    if not role_arn:
        return aws
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=aws._session.create_client,  # pyright: ignore[reportPrivateUsage] -- boto3 offers no way in
        source_credentials=aws.get_credentials(),
        role_arn=role_arn,
        extra_args={"RoleSessionName": name},
    )
    core = botocore.session.get_session()
    core._credentials = DeferredRefreshableCredentials(  # pyright: ignore -- botocore has no setter that refreshes
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return boto3.Session(botocore_session=core, region_name=aws.region_name)


def in_region(aws: boto3.Session, region: str) -> boto3.Session:
    """A session of the same identity in another region."""
    core = botocore.session.get_session()
    # The object itself, not a copy of its keys: it renews itself for as long as it is used.
    core._credentials = aws.get_credentials()  # pyright: ignore -- botocore has no setter that refreshes
    return boto3.Session(botocore_session=core, region_name=region)


def s3_client(aws: boto3.Session, *, endpoint_url: str | None = None, ca_file: str = "") -> "S3Client":
    """An S3 client with the timeouts and retries that every part of this package uses.

    Args:
        endpoint_url: another S3-compatible store.
        ca_file: authorities (PEM) to trust; empty means the session's.
    """
    return aws.client("s3", config=CLIENT_CONFIG, endpoint_url=endpoint_url, verify=ca_file or None)


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
    except NoRegionError as error:
        raise ConfigurationError(f"{what}: no AWS region", mend="set AWS_REGION") from error
    except NoCredentialsError as error:
        raise ConfigurationError(f"{what}: no AWS credentials", mend="set AWS_PROFILE or a web identity") from error
    except BotoCoreError as error:
        raise UnreachableError(f"{what}: {error}", mend="check the endpoint and the network") from error
