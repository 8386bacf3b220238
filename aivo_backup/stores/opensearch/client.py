"""The OpenSearch client, and the translation of its errors into ours."""

import logging
import ssl
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from opensearchpy import OpenSearch
from opensearchpy.exceptions import (
    AuthenticationException,
    ConnectionTimeout,
    OpenSearchException,
    OpenSearchWarning,
    SSLError,
    TransportError,
)
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError

from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError

_UNAVAILABLE = {429, 502, 503, 504}


class ClusterError(BackupError):
    """OpenSearch answers with an error.

    Attributes:
        status: HTTP status.
        kind: OpenSearch's own type of the error, for example ``snapshot_missing_exception``.
        reason: its words and those of what caused it, in one line.
    """

    def __init__(self, what: str, *, status: int, kind: str, reason: str) -> None:
        self.status = status
        self.kind = kind
        self.reason = reason
        super().__init__(f"{what}: {reason}")


def connect(url: str, ca_file: str, username: str, password: str) -> OpenSearch:
    """A client for one cluster.

    Args:
        url: ``https://host:port``.
        ca_file: authorities (PEM) to trust; empty means the system's.
        username: empty means no login.
        password: never logged.

    Raises:
        ConfigurationError: the URL or the file of authorities is no use.
    """
    # The client logs a traceback for each request that fails; the same is told once, by the error that we raise.
    logging.getLogger("opensearch").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=OpenSearchWarning)
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"the OpenSearch endpoint is {url!r}", mend="write it as https://host:port")
    try:
        # The client itself would look into the file only when it sends something, and then blame the certificate.
        ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ConfigurationError(
            f"the file of authorities {ca_file} cannot be used ({error.strerror or error})", mend="check ca_file"
        ) from error
    return OpenSearch(
        hosts=[url],
        http_auth=(username, password) if username else None,
        ca_certs=ca_file or None,
        timeout=60,
        # A request that changes something must not be sent twice; reading is tried again by Cluster.
        max_retries=0,
        retry_on_status=(),
    )


@contextmanager
def translated(what: str) -> Generator[None]:
    """Turns the client's exceptions into ours, saying what was being done.

    Raises:
        AccessDeniedError, UnreachableError, ClusterError, BackupError
    """
    try:
        yield
    except AuthenticationException as error:
        raise AccessDeniedError(
            f"{what}: OpenSearch refuses the login", mend="check username and password of the secret"
        ) from error
    except SSLError as error:
        raise UnreachableError(
            f"{what}: OpenSearch's certificate is not trusted ({_short(error)})", mend="check ca_file and the endpoint"
        ) from error
    except (ConnectionTimeout, OpenSearchConnectionError) as error:
        raise UnreachableError(
            f"{what}: OpenSearch does not answer ({_short(error)})", mend="check the endpoint and the cluster"
        ) from error
    except TransportError as error:
        raise _answered(error, what) from error
    except OpenSearchException as error:
        raise BackupError(f"{what}: {error}") from error


def _short(error: TransportError) -> str:
    return " ".join(str(error.info).split())[:200]


def _answered(error: TransportError, what: str) -> BackupError:
    status = int(error.status_code) if str(error.status_code).isdigit() else 0
    if status in _UNAVAILABLE:
        return UnreachableError(f"{what}: OpenSearch answers {status}", mend="try again; look at the cluster's health")
    kind, reason = _cause(error.info, fallback=str(error.error))
    if status == 403 and "security" in kind:
        return AccessDeniedError(
            f"{what}: OpenSearch refuses ({reason})",
            mend="give the user the permissions that the package aivo_backup.stores.opensearch lists",
        )
    return ClusterError(what, status=status, kind=kind, reason=reason)


def _cause(info: object, *, fallback: str) -> tuple[str, str]:
    """OpenSearch's type of an error and the whole chain of its reasons."""
    entry = _object(_object(info).get("error"))
    if not entry:
        return fallback, " ".join(str(info or fallback).split())[:400]
    kind = str(entry.get("type"))
    reasons: list[str] = []
    while entry:
        text = f"{entry.get('type')}: {entry.get('reason')}"
        if text not in reasons:
            reasons.append(text)
        entry = _object(entry.get("caused_by"))
    return kind, "; ".join(reasons)


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
