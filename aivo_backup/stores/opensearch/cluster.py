"""One OpenSearch cluster, by its HTTP paths."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from opensearchpy import OpenSearch

from aivo_backup.errors import AccessDeniedError, UnreachableError
from aivo_backup.stores.opensearch.client import ClusterError, translated

_PATIENT_PAUSE_SECONDS = 2.0
_SHORT_PAUSE_SECONDS = 0.2

# Names go into the path; OpenSearch's first line of a request may not exceed 4 KiB.
_PATH_BYTES = 2_500


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

    def delete(self, *path: str, what: str, body: object = None) -> Any:
        """Sends one DELETE, once."""
        return self._call("DELETE", path, body, None, what)

    def exists(self, name: str) -> bool:
        """True when an index, closed or hidden ones too, a data stream or an alias has that name."""
        try:
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
        with translated(what):
            return self._client.transport.perform_request(method, url, params=dict(params or {}), body=body)


def is_red(cluster: Cluster, index: str, *, patience_seconds: float = 0.0) -> bool:
    """True when a primary of the index is down, and does not come up within some seconds."""
    waited = 0.0
    while True:
        answer = cluster.get(
            "_cluster", "health", index, what=f"looking at {index}", params={"expand_wildcards": "all"}
        )
        if answer["status"] != "red" or waited >= patience_seconds:
            return answer["status"] == "red"
        cluster.sleep(_SHORT_PAUSE_SECONDS)
        waited += _SHORT_PAUSE_SECONDS


def settings_of(cluster: Cluster, index: str) -> Mapping[str, str]:
    """The settings of one index, closed ones too, by their flat names."""
    answer = cluster.get(index, "_settings", what=f"reading the settings of {index}", params={"flat_settings": "true"})
    return answer[index]["settings"]


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
