"""Aliases of indices: read, and moved."""

from collections.abc import Mapping, Sequence
from typing import Any

from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster


def aliases_of(cluster: Cluster, index: str) -> Mapping[str, Mapping[str, Any]]:
    """The aliases that point to an index, with their options (filter, routing, write index); none if it is gone."""
    try:
        answer = cluster.get(index, "_alias", what=f"reading the aliases of {index}")
    except ClusterError as error:
        if error.status == 404:
            return {}
        raise
    return answer.get(index, {}).get("aliases", {})


def move_aliases(cluster: Cluster, moves: Sequence[tuple[str, str]]) -> None:
    """Moves every alias from the first to the second index of each pair, with its options, in one step.

    One request for all: no search finds an alias on both, or on neither.
    """
    actions: list[Mapping[str, Any]] = []
    for source, target in moves:
        for alias, options in aliases_of(cluster, source).items():
            actions.append({"remove": {"index": source, "alias": alias}})
            actions.append({"add": {"index": target, "alias": alias, **options}})
    cluster.post("_aliases", what="moving the aliases", body={"actions": actions})
