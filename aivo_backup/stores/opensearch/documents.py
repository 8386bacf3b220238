"""Documents compared by id with a restored copy of their index on the same cluster, and lost ones brought back."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference

_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class _Document:
    id: str
    source: Any


def compare(cluster: Cluster, *, copy: str, live: str, unit: str) -> Difference:
    """How the live index differs from its copy: both are read in the order of their ids, a page at a time.

    Raises:
        ClusterError, UnreachableError: as the cluster answers.
    """
    if not cluster.exists(live):
        number = int(cluster.get(copy, "_count", what=f"counting {copy}")["count"])
        return Difference(unit=unit, lost=number, examples=("the whole index",))
    lost, newer, changed = 0, 0, 0
    examples: tuple[list[str], list[str], list[str]] = ([], [], [])
    for held, present in _side_by_side(_documents(cluster, copy), _documents(cluster, live)):
        if present is None:
            lost += 1
            kind, name = 0, held.id if held else ""
        elif held is None:
            newer += 1
            kind, name = 2, present.id
        elif held.source != present.source:
            changed += 1
            kind, name = 1, held.id
        else:
            continue
        if len(examples[kind]) < EXAMPLES_BOUND:
            examples[kind].append(name)
    told = tuple(itertools.chain(*examples))[:EXAMPLES_BOUND]
    return Difference(unit=unit, lost=lost, newer=newer, changed=changed, examples=told)


def bring_back(cluster: Cluster, *, copy: str, live: str) -> int:
    """Puts every document that the live index lacks into it; what it has stays as it is. Repeatable.

    Returns:
        how many were brought back.

    Raises:
        BackupError: some were refused for another reason than being there.
    """
    answer = cluster.post(
        "_reindex",
        what=f"bringing documents back into {live}",
        body={
            "conflicts": "proceed",
            "source": {"index": copy},
            "dest": {"index": live, "op_type": "create"},
        },
        params={"refresh": "true", "wait_for_completion": "true"},
    )
    failures: list[Any] = answer.get("failures") or []
    if failures:
        raise BackupError(f"{live} refused {len(failures)} documents: {failures[0]}", mend="see its mapping")
    return int(answer["created"])


def _documents(cluster: Cluster, index: str) -> Iterator[_Document]:
    cluster.post(index, "_refresh", what=f"comparing {index}")
    after: list[Any] = []
    while True:
        body: dict[str, Any] = {"size": _PAGE, "sort": [{"_id": "asc"}]}
        if after:
            body["search_after"] = after
        hits = cluster.post(index, "_search", what=f"comparing {index}", body=body)["hits"]["hits"]
        for hit in hits:
            yield _Document(id=hit["_id"], source=hit["_source"])
        if len(hits) < _PAGE:
            return
        after = hits[-1]["sort"]


def _side_by_side(
    copy: Iterator[_Document], live: Iterator[_Document]
) -> Iterator[tuple[_Document | None, _Document | None]]:
    held, present = next(copy, None), next(live, None)
    while held is not None or present is not None:
        if present is None or (held is not None and held.id < present.id):
            yield held, None
            held = next(copy, None)
        elif held is None or present.id < held.id:
            yield None, present
            present = next(live, None)
        else:
            yield held, present
            held, present = next(copy, None), next(live, None)
