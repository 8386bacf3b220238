"""Asks OpenSearch to restore, and follows it shard by shard; shared by restore tests and restores."""

from collections.abc import Mapping, Sequence
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.stores.opensearch.cluster import Cluster, in_batches
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.states import (
    RecoveryProgress,
    ShardProgress,
    recovery_progress,
    shard_progress,
)
from aivo_backup.stores.port import Progress

# Where shards lay and what blocked writes belongs to the cluster and the moment of the snapshot.
SETTINGS_THAT_STAY = ("index.routing.allocation.*", "index.blocks.*")
# For a copy beside the live index: a lifecycle policy would roll it over or delete it.
LIFECYCLE_SETTINGS = ("index.plugins.index_state_management.*", "index.opendistro.index_state_management.*")

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 3.0
_PATIENCE_SECONDS = 120.0
_STALLED_AFTER_SECONDS = 600.0


def request_restore(
    repository: Repository,
    snapshot: str,
    indices: Sequence[str],
    *,
    rename: tuple[str, str] | None = None,
    aliases: bool,
    ignored_settings: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Starts a restore of indices by name, never of the global state, never of a part of an index.

    Args:
        repository: where the snapshot is.
        snapshot: its name.
        indices: names as in the snapshot.
        rename: OpenSearch's pattern and replacement.
        aliases: bring the aliases back too.
        ignored_settings: patterns of settings that do not travel.
        settings: what is set instead.
    """
    body: dict[str, Any] = {
        "indices": list(indices),
        "include_global_state": False,
        "include_aliases": aliases,
        "partial": False,
        "ignore_index_settings": list(ignored_settings),
        "index_settings": dict(settings),
    }
    if rename is not None:
        body["rename_pattern"], body["rename_replacement"] = rename
    repository.cluster.post(
        "_snapshot", repository.name, snapshot, "_restore", what=f"restoring from {snapshot}", body=body
    )


def wait_for_shards(cluster: Cluster, indices: Sequence[str], progress: Progress) -> ShardProgress:
    """Waits until each primary of the indices has started or has failed, telling the progress by shard.

    Raises:
        BackupError: nothing moved for ten minutes; the message says why a shard finds no place.
    """
    pause, still_seconds, told = _FIRST_PAUSE_SECONDS, 0.0, ""
    while True:
        shards = shard_progress(_shard_rows(cluster, indices))
        recovery = _recovery(cluster, indices)
        line = f"restore: {recovery.line()}"
        if line != told:
            progress(line)
            told, still_seconds = line, 0.0
        if shards.over:
            return shards
        if still_seconds >= _STALLED_AFTER_SECONDS:
            raise BackupError(
                f"the restore stands still at {recovery.line()}: {_why_unassigned(cluster)}",
                mend="see the cluster's health and disk space",
            )
        cluster.sleep(pause)
        still_seconds += pause
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def existing(cluster: Cluster, pattern: str) -> tuple[str, ...]:
    """Indices, hidden and closed ones too, that a wildcard means."""
    rows = cluster.get(
        "_cat",
        "indices",
        pattern,
        what=f"listing {pattern}",
        params={"format": "json", "h": "index", "expand_wildcards": "all"},
    )
    return tuple(sorted(row["index"] for row in rows))


def _shard_rows(cluster: Cluster, indices: Sequence[str]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    params = {"format": "json", "h": "index,shard,prirep,state,unassigned.reason,unassigned.details"}
    for batch in in_batches(indices):
        rows.extend(
            cluster.get(
                "_cat", "shards", batch, what="following the shards", params=params, patience_seconds=_PATIENCE_SECONDS
            )
        )
    return rows


def _recovery(cluster: Cluster, indices: Sequence[str]) -> RecoveryProgress:
    answer: dict[str, Any] = {}
    for batch in in_batches(indices):
        answer.update(cluster.get(batch, "_recovery", what="following the restore", patience_seconds=_PATIENCE_SECONDS))
    return recovery_progress(answer)


def _why_unassigned(cluster: Cluster) -> str:
    try:
        answer = cluster.get("_cluster", "allocation", "explain", what="asking why a shard finds no place")
    except BackupError as error:
        return str(error)
    return f"{answer.get('index')}[{answer.get('shard')}]: {answer.get('allocate_explanation', 'no reason given')}"
