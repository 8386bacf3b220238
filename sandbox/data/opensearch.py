"""OpenSearch: Debian's package descriptions, and the people who maintain the packages."""

import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from functools import cache
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.helpers import BulkIndexError, parallel_bulk

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.stores.opensearch.client import translated

PACKAGES = "packages"
MAINTAINERS = "maintainers"
ALIAS = "software"
# More would only make the demonstration slower.
_PACKAGES = 50_000
_MADE_BY_RESTORES = ("aside-*", "restored-*")

Document = Mapping[str, object]

_KEYWORD = {"type": "keyword"}
_PACKAGES_BODY: Mapping[str, Any] = {
    "settings": {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {
        "dynamic": "strict",
        "properties": {
            "name": _KEYWORD,
            "version": _KEYWORD,
            "section": _KEYWORD,
            "priority": _KEYWORD,
            "architecture": _KEYWORD,
            "maintainer": _KEYWORD,
            "homepage": {"type": "keyword", "ignore_above": 512},
            "description": {"type": "text"},
            "tags": _KEYWORD,
            "download_bytes": {"type": "long"},
            "installed_bytes": {"type": "long"},
        },
    },
}
_MAINTAINERS_BODY: Mapping[str, Any] = {
    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {
        "dynamic": "strict",
        "properties": {
            "name": {"type": "text", "fields": {"exact": _KEYWORD}},
            "address": _KEYWORD,
            "packages": {"type": "integer"},
            "sections": _KEYWORD,
            "installed_bytes": {"type": "long"},
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class OpenSearchData:
    """Documents by index."""

    documents: Mapping[str, int]

    @property
    def total(self) -> int:
        """Documents of all indices."""
        return sum(self.documents.values())


def load_opensearch(client: OpenSearch, *, packages: int = _PACKAGES, prefix: str = "") -> OpenSearchData:
    """Makes both indices and the alias ``software`` (on the packages) anew.

    What restores have left beside them (``aside-…``, ``restored-…``) goes too.

    Args:
        packages: how many of them, by name; with their maintainers more than 50,000 documents by default.
        prefix: before the names of indices and alias, for tests.

    Raises:
        ConfigurationError: APT's lists hold too few packages.
        UnreachableError: OpenSearch does not answer.
        BackupError: it refuses documents.
    """
    described = read_packages(packages)
    maintainers = _maintainers(described)
    with translated("loading OpenSearch's data"):
        _reset(client, prefix)
        client.indices.create(index=f"{prefix}{PACKAGES}", body=_PACKAGES_BODY)
        client.indices.create(index=f"{prefix}{MAINTAINERS}", body=_MAINTAINERS_BODY)
        client.indices.put_alias(index=f"{prefix}{PACKAGES}", name=f"{prefix}{ALIAS}")
        _index(client, f"{prefix}{PACKAGES}", "name", described)
        _index(client, f"{prefix}{MAINTAINERS}", "address", maintainers)
    return OpenSearchData(documents={f"{prefix}{PACKAGES}": len(described), f"{prefix}{MAINTAINERS}": len(maintainers)})


def change_opensearch(client: OpenSearch, *, documents: int = 500, prefix: str = "") -> int:
    """Writes newer versions of the first packages, as between two snapshots; answers how many.

    Raises:
        UnreachableError, BackupError: as :func:`load_opensearch`.
    """
    index = f"{prefix}{PACKAGES}"
    with translated("changing OpenSearch's data"):
        found = client.search(index=index, body={"size": documents, "sort": ["name"], "query": {"match_all": {}}})
        changed = [{**hit["_source"], "priority": "required"} for hit in found["hits"]["hits"]]
        _index(client, index, "name", changed)
    return len(changed)


def read_packages(number: int = _PACKAGES) -> list[Document]:
    """The first packages of Debian as APT knows them, sorted by name.

    Raises:
        ConfigurationError: APT's lists are empty or too short.
    """
    found = _all_packages()
    if len(found) < number:
        raise ConfigurationError(
            f"APT's lists hold {len(found)} packages, {number} are needed", mend="run: apt-get update"
        )
    return list(found[:number])


@cache
def _all_packages() -> tuple[Document, ...]:
    """Sorted by name. Reading them takes seconds, and within one process they stay the same."""
    try:
        done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True)  # noqa: S607 - on PATH
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(f"apt-cache cannot list packages ({error})", mend="this needs Debian") from error
    found: dict[str, Document] = {}
    for stanza in done.stdout.decode(errors="replace").split("\n\n"):
        fields = _fields(stanza)
        if "Package" in fields and "Description" in fields:
            # One name may come in several versions: the first is the one that would be installed.
            found.setdefault(fields["Package"], _package(fields))
    return tuple(found[name] for name in sorted(found))


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _package(fields: Mapping[str, str]) -> Document:
    return {
        "name": fields["Package"],
        "version": fields.get("Version", ""),
        "section": fields.get("Section", ""),
        "priority": fields.get("Priority", ""),
        "architecture": fields.get("Architecture", ""),
        "maintainer": fields.get("Maintainer", ""),
        "homepage": fields.get("Homepage", ""),
        "description": fields["Description"],
        "tags": [tag.strip() for tag in fields.get("Tag", "").split(",") if tag.strip()],
        "download_bytes": int(fields.get("Size", "0")),
        "installed_bytes": int(fields.get("Installed-Size", "0")) * 1024,
    }


def _maintainers(packages: Iterable[Document]) -> list[Document]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    names: dict[str, str] = {}
    sections: dict[str, set[str]] = {}
    for package in packages:
        name, address = parseaddr(str(package["maintainer"]))
        address = address.lower()
        if not address:
            continue
        counts[address] += 1
        sizes[address] += int(str(package["installed_bytes"]))
        names.setdefault(address, name)
        sections.setdefault(address, set()).add(str(package["section"]))
    return [
        {
            "name": names[address],
            "address": address,
            "packages": counts[address],
            "sections": sorted(sections[address]),
            "installed_bytes": sizes[address],
        }
        for address in sorted(counts)
    ]


def _reset(client: OpenSearch, prefix: str) -> None:
    named = [f"{prefix}{PACKAGES}", f"{prefix}{MAINTAINERS}"]
    left = [f"{pattern}-{name}" if prefix else pattern for pattern in _MADE_BY_RESTORES for name in named]
    # Not from _cat/indices: it asks for the health of what is named, and waits 30 s for an index that is missing.
    found: Mapping[str, object] = client.indices.get(
        index=",".join([*named, *left]), params={"ignore_unavailable": "true"}
    )
    for index in found:
        client.indices.delete(index=index)


def _index(client: OpenSearch, index: str, key: str, documents: Iterable[Document]) -> None:
    def actions() -> Iterator[Document]:
        for document in documents:
            yield {"_index": index, "_id": document[key], "_source": document}

    try:
        # Two threads: one turns documents into JSON while the other waits for OpenSearch.
        for _ in parallel_bulk(client, actions(), thread_count=2, chunk_size=2_000, queue_size=2):
            pass
    except BulkIndexError as error:
        raise BackupError(f"OpenSearch refuses documents for {index}: {error.args[0]}", mend="see its log") from error
    client.indices.put_settings(index=index, body={"index.refresh_interval": None})
    client.indices.refresh(index=index)
