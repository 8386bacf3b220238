"""The one place that talks to OpenSearch: requests by path, and its errors in our words."""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from urllib.parse import quote

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
_PATIENT_PAUSE_SECONDS = 2.0

# Names go into the path; OpenSearch's first line of a request may not exceed 4 KiB.
_PATH_BYTES = 2_500


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
        return OpenSearch(
            hosts=[url],
            http_auth=(username, password) if username else None,
            ca_certs=ca_file or None,
            timeout=60,
            # A request that changes something must not be sent twice; reading is tried again by Cluster.
            max_retries=0,
            retry_on_status=(),
        )
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"OpenSearch {url} with ca_file {ca_file!r}: {error}", mend="check both") from error


class Cluster:
    """One OpenSearch cluster.

    Every method raises :class:`UnreachableError`, :class:`AccessDeniedError` or :class:`ClusterError`; ``what`` says
    what was being done.
    """

    def __init__(self, client: OpenSearch, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self.sleep = sleep

    def get(self, *path: str, what: str, params: Mapping[str, str] | None = None, patience_seconds: float = 0.0) -> Any:
        """Reads. With patience, a cluster that does not answer is asked again for that long."""
        waited = 0.0
        while True:
            try:
                return self._call("GET", path, None, params, what)
            except AccessDeniedError:
                raise
            except UnreachableError:
                if waited >= patience_seconds:
                    raise
                self.sleep(_PATIENT_PAUSE_SECONDS)
                waited += _PATIENT_PAUSE_SECONDS

    def post(self, *path: str, what: str, body: object = None, params: Mapping[str, str] | None = None) -> Any:
        """Sends one POST, once."""
        return self._call("POST", path, body, params, what)

    def put(self, *path: str, what: str, body: object = None, params: Mapping[str, str] | None = None) -> Any:
        """Sends one PUT, once."""
        return self._call("PUT", path, body, params, what)

    def delete(self, *path: str, what: str) -> Any:
        """Sends one DELETE, once."""
        return self._call("DELETE", path, None, None, what)

    def exists(self, name: str) -> bool:
        """True when an index, a data stream or an alias has that name."""
        try:
            # An alias to a closed index resolves only where closed ones are looked at too.
            found = self.get("_resolve", "index", name, what=f"looking for {name}", params={"expand_wildcards": "all"})
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return any(found.get(kind) for kind in ("indices", "aliases", "data_streams"))

    def version(self) -> tuple[int, int]:
        """Major and minor version of the server."""
        number = str(self.get(what="reading OpenSearch's version")["version"]["number"])
        major, minor = number.split(".")[:2]
        return int(major), int(minor)

    def _call(
        self, method: str, path: tuple[str, ...], body: object, params: Mapping[str, str] | None, what: str
    ) -> Any:
        url = "/" + "/".join(quote(part, safe="*,") for part in path)
        try:
            return self._client.transport.perform_request(method, url, params=dict(params or {}), body=body)
        except AuthenticationException as error:
            raise AccessDeniedError(
                f"{what}: OpenSearch refuses the login", mend="check username and password of the secret"
            ) from error
        except SSLError as error:
            raise UnreachableError(
                f"{what}: OpenSearch's certificate is not trusted ({error.info})", mend="check ca_file and the endpoint"
            ) from error
        except (ConnectionTimeout, OpenSearchConnectionError) as error:
            raise UnreachableError(
                f"{what}: OpenSearch does not answer ({_short(error)})", mend="check the endpoint and the cluster"
            ) from error
        except TransportError as error:
            raise _translated(error, what) from error
        except OpenSearchException as error:
            raise BackupError(f"{what}: {error}") from error


def in_batches(names: Iterable[str]) -> list[str]:
    """Names joined by commas, cut such that each piece fits into the path of a request."""
    batches: list[list[str]] = []
    size = _PATH_BYTES
    for name in names:
        length = len(quote(name)) + 1
        if size + length > _PATH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(name)
        size += length
    return [",".join(batch) for batch in batches]


def _short(error: TransportError) -> str:
    return " ".join(str(error.info).split())[:200]


def _translated(error: TransportError, what: str) -> BackupError:
    status = int(error.status_code) if str(error.status_code).isdigit() else 0
    if status in _UNAVAILABLE:
        return UnreachableError(f"{what}: OpenSearch answers {status}", mend="try again; look at the cluster's health")
    kind, reason = _cause(error.info, fallback=str(error.error))
    if status == 403 and "security" in kind:
        return AccessDeniedError(
            f"{what}: OpenSearch refuses ({reason})", mend="give the user the role that the documentation lists"
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
