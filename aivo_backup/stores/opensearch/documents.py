"""Documents of an index compared by id with a copy of it on the same cluster, exported, and put back.

Each side is read once, in the order in which it is stored, from a view that stands still (a scroll); page by page the
other side is asked for the same ids. So memory holds one page, and OpenSearch need not sort by id, for which it would
load every id of the index into its heap.
"""

import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aivo_backup.errors import BackupError, UnreachableError
from aivo_backup.stores.opensearch.cluster import Cluster, is_red
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference, Differing, Differs, unlisted

PAGE = 500
"""Documents that are read and compared at a time."""

WHOLE_INDEX = "the whole index"
"""Stands for the documents of an index that production lacks."""

_BULK_BYTES = 8_000_000
_KEPT_OPEN = "5m"
_CONFLICT = 409


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document. ``source`` is None where the index keeps none, ``routing`` where it was written without one."""

    id: str
    routing: str | None = None
    source: Mapping[str, Any] | None

    @property
    def key(self) -> tuple[str, str | None]:
        """What tells it apart: the same id under another routing is another document."""
        return self.id, self.routing


@dataclass(frozen=True, kw_only=True)
class Put:
    """What became of documents that were put into an index; ``kept`` were there already and stay as they were."""

    written: int
    kept: int


def compare(cluster: Cluster, *, copy: str, live: str, unit: str, each: Differing = unlisted) -> Difference:
    """How the live index differs from its copy.

    Args:
        unit: the index's name in the answer.
        each: takes the id of every document that differs; of an index that is gone, the index alone.

    Raises:
        BackupError: a shard does not answer; no half of an index is ever compared.
        ClusterError, UnreachableError: as the cluster answers.
    """
    if not cluster.exists(live):
        each(unit, Differs.LOST, WHOLE_INDEX)
        return Difference(unit=unit, gone=True, lost=number_of(cluster, copy), examples=(WHOLE_INDEX,))
    counts = {"lost": 0, "changed": 0, "newer": 0}
    examples: dict[str, list[str]] = {kind: [] for kind in counts}

    def note(kind: str, document: Document) -> None:
        counts[kind] += 1
        if len(examples[kind]) < EXAMPLES_BOUND:
            examples[kind].append(document.id)
        each(unit, Differs(kind), document.id)

    for document in missing(cluster, present=copy, absent=live):
        note("lost", document)
    for document, held in _beside(cluster, first=live, second=copy, source=True):
        if held is None:
            note("newer", document)
        elif held.source != document.source:
            note("changed", document)
    told = tuple(itertools.chain.from_iterable(examples.values()))[:EXAMPLES_BOUND]
    return Difference(unit=unit, lost=counts["lost"], changed=counts["changed"], newer=counts["newer"], examples=told)


def missing(cluster: Cluster, *, present: str, absent: str) -> Iterator[Document]:
    """The documents, without their sources, that one index has and another lacks.

    Raises:
        BackupError: a shard does not answer.
    """
    for document, other in _beside(cluster, first=present, second=absent, source=False):
        if other is None:
            yield document


def written_after(cluster: Cluster, *, copy: str, live: str) -> Iterator[Document]:
    """The live index's documents that its copy lacks or holds with other content.

    Raises:
        BackupError: a shard does not answer, or the index keeps no sources.
    """
    for document, held in _beside(cluster, first=live, second=copy, source=True):
        if document.source is None:
            raise BackupError(
                f"{live} keeps no sources of its documents: they cannot be exported",
                mend="restore it under a new name and keep both",
            )
        if held is None or held.source != document.source:
            yield document


def bring_back(cluster: Cluster, *, copy: str, live: str) -> int:
    """Puts every document that the live index lacks into it; what it has stays as it is. Repeatable.

    Returns:
        how many were brought back.

    Raises:
        BackupError: some were refused for another reason than being there.
    """
    return put(cluster, live, _whole(cluster, copy, missing(cluster, present=copy, absent=live))).written


def put(cluster: Cluster, index: str, documents: Iterable[Document], *, overwrite: bool = False) -> Put:
    """Writes documents into an index, in pieces of some megabytes.

    Args:
        overwrite: those that are there get the new content; otherwise they stay as they are.

    Raises:
        BackupError: some were refused for another reason than being there; the message names one.
    """
    written = kept = 0
    for lines in _bulks(documents, "index" if overwrite else "create"):
        answer = cluster.post(index, "_bulk", what=f"writing documents into {index}", body="".join(lines))
        for item in answer["items"]:
            (result,) = item.values()
            if result["status"] == _CONFLICT:
                kept += 1
            elif "error" in result:
                raise BackupError(
                    f"{index} refused the document {result['_id']}: {result['error'].get('reason')}",
                    mend=f"see its mapping; {written} others were written, and giving the command again goes on",
                )
            else:
                written += 1
    cluster.post(index, "_refresh", what=f"writing documents into {index}")
    return Put(written=written, kept=kept)


def settle(cluster: Cluster, index: str) -> None:
    """Makes every write to an index visible to a search.

    Raises:
        UnreachableError: a shard is down. (OpenSearch would wait a minute for it, and then answer from the others.)
    """
    if is_red(cluster, index):
        raise UnreachableError(f"a shard of {index} is down", mend="see GET _cluster/allocation/explain")
    cluster.post(index, "_refresh", what=f"refreshing {index}")


def number_of(cluster: Cluster, index: str, *, query: Mapping[str, Any] | None = None, shard: int | None = None) -> int:
    """Counts documents, of one shard or of all.

    Raises:
        BackupError: a shard does not answer.
    """
    answer = cluster.post(
        index,
        "_count",
        what=f"counting {index}",
        body={"query": query or {"match_all": {}}},
        params={} if shard is None else {"preference": f"_shards:{shard}"},
    )
    _refuse_half(answer, index)
    return int(answer["count"])


def _whole(cluster: Cluster, index: str, documents: Iterable[Document]) -> Iterator[Document]:
    for page in _batched(documents):
        yield from _found(cluster, index, page, source=True).values()


def _beside(cluster: Cluster, *, first: str, second: str, source: bool) -> Iterator[tuple[Document, Document | None]]:
    """Each document of the first index, and the second one's of the same id and routing."""
    settle(cluster, second)
    for page in _pages(cluster, first, source=source):
        found = _found(cluster, second, page, source=source)
        for document in page:
            yield document, found.get(document.key)


def _pages(cluster: Cluster, index: str, *, source: bool) -> Iterator[Sequence[Document]]:
    what = f"reading {index}"
    settle(cluster, index)
    answer = cluster.post(
        index,
        "_search",
        what=what,
        body={"size": PAGE, "sort": ["_doc"], "_source": source},
        params={"scroll": _KEPT_OPEN, "allow_partial_search_results": "false"},
    )
    with _closing(cluster, str(answer["_scroll_id"])) as scroll:
        while True:
            _refuse_half(answer, index)
            if not answer["hits"]["hits"]:
                return
            yield [_document(hit) for hit in answer["hits"]["hits"]]
            answer = cluster.post("_search", "scroll", what=what, body={"scroll": _KEPT_OPEN, "scroll_id": scroll})


@contextmanager
def _closing(cluster: Cluster, scroll: str) -> Generator[str]:
    try:
        yield scroll
    finally:
        # It ends by itself after some minutes; what happened inside matters more.
        with suppress(BackupError):
            cluster.delete("_search", "scroll", what="ending a scroll", body={"scroll_id": [scroll]})


def _found(
    cluster: Cluster, index: str, wanted: Sequence[Document], *, source: bool
) -> dict[tuple[str, str | None], Document]:
    # By search: a lookup by id would need each one's routing, and one id can be there under two.
    ids = list(dict.fromkeys(document.id for document in wanted))
    body = {"size": 2 * len(ids), "query": {"ids": {"values": ids}}, "_source": source, "track_total_hits": True}
    answer = cluster.post(
        index,
        "_search",
        what=f"looking for documents in {index}",
        body=body,
        params={"allow_partial_search_results": "false"},
    )
    _refuse_half(answer, index)
    hits = answer["hits"]["hits"]
    if int(answer["hits"]["total"]["value"]) > len(hits):
        raise BackupError(
            f"{index} holds some id under more than two routings, such as {hits[0]['_id']}",
            mend="compare it by hand",
        )
    found = (_document(hit) for hit in hits)
    keys = {document.key for document in wanted}
    return {document.key: document for document in found if document.key in keys}


def _document(hit: Mapping[str, Any]) -> Document:
    return Document(id=str(hit["_id"]), routing=hit.get("_routing"), source=hit.get("_source"))


def _refuse_half(answer: Mapping[str, Any], index: str) -> None:
    shards = answer["_shards"]
    if int(shards["failed"]) or int(shards["successful"]) < int(shards["total"]):
        raise UnreachableError(
            f"only {shards['successful']} of {shards['total']} shards of {index} answer",
            mend="see GET _cluster/allocation/explain",
        )


def _bulks(documents: Iterable[Document], action: str) -> Iterator[list[str]]:
    lines: list[str] = []
    size = 0
    for document in documents:
        target = {"_id": document.id, **({"routing": document.routing} if document.routing is not None else {})}
        entry = f"{_line({action: target})}{_line(document.source)}"
        if lines and size + len(entry) > _BULK_BYTES:
            yield lines
            lines, size = [], 0
        lines.append(entry)
        size += len(entry)
    if lines:
        yield lines


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def _batched(documents: Iterable[Document]) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while page := list(itertools.islice(iterator, PAGE)):
        yield page
