"""Whether a cluster has room for what is to be restored, below the marks at which it stops taking data in."""

from collections.abc import Mapping
from typing import Any

from aivo_backup.errors import RefusedError
from aivo_backup.stores.opensearch.cluster import Cluster

DISK_FACTOR = 1.2
"""Room beside the data itself: translogs, and merges that start as soon as a shard is open."""

_DISK = "cluster.routing.allocation.disk"
_CLUSTER_BLOCKS = (
    "cluster.blocks.create_index",
    "cluster.blocks.read_only",
    "cluster.blocks.read_only_allow_delete",
)
_UNITS = {"tb": 1024**4, "gb": 1024**3, "mb": 1024**2, "kb": 1024, "b": 1}


def refuse_without_room(cluster: Cluster, wanted: int, *, what: str) -> None:
    """Refuses what the cluster could not take in.

    Args:
        wanted: bytes.
        what: what needs them.

    Raises:
        RefusedError: the disks lack room below the low watermark, or the cluster takes no new index.
    """
    looking = "looking at the cluster's disks"
    settings = _settings(cluster, looking)
    for block in _blocks(settings):
        raise RefusedError(
            f"{what}: the cluster takes no new index ({block})",
            mend="free disk space on its nodes, or take the block off",
        )
    answer = cluster.get("_nodes", "data:true", "stats", "fs", what=looking)
    watched = settings.get(f"{_DISK}.threshold_enabled", "true") == "true"
    watermark = settings.get(f"{_DISK}.watermark.low", "85%") if watched else "100%"
    free = sum(room_of(node["fs"]["total"], watermark) for node in answer["nodes"].values())
    if free < wanted:
        below = f" below the watermark of {watermark}" if watched else ""
        raise RefusedError(
            f"{what} needs {wanted / 1e9:.1f} GB, the cluster has {free / 1e9:.1f} GB free{below}",
            mend="free or add disk space",
        )


def refusing(cluster: Cluster) -> dict[str, str]:
    """The indices that were made read-only when a disk passed its flood stage, and the blocks of the whole cluster.

    Returns:
        each index, or ``the cluster``, and its block.
    """
    answer = cluster.get(
        "_all",
        "_settings",
        "index.blocks.read_only_allow_delete",
        what="looking for indices that refuse writes",
        params={"flat_settings": "true", "expand_wildcards": "all"},
    )
    found = {
        index: block
        for index, entry in sorted(answer.items())
        for block, value in entry["settings"].items()
        if value == "true"
    }
    blocks = _blocks(_settings(cluster, "looking for blocks of the cluster"))
    return {**found, **({"the cluster": ", ".join(blocks)} if blocks else {})}


def room_of(disk: Mapping[str, Any], watermark: str) -> int:
    """Bytes that a node still takes in.

    Args:
        disk: ``total_in_bytes`` and ``available_in_bytes``.
        watermark: ``85%`` or ``0.85`` of the disk used, or ``50gb`` left free.
    """
    total, free = int(disk["total_in_bytes"]), int(disk["available_in_bytes"])
    for unit, factor in _UNITS.items():
        if watermark.endswith(unit):
            kept = float(watermark.removesuffix(unit)) * factor
            break
    else:
        share = float(watermark.removesuffix("%")) / (100 if watermark.endswith("%") else 1)
        kept = total * (1 - share)
    return max(0, free - int(kept))


def _blocks(settings: Mapping[str, str]) -> list[str]:
    return [name for name in _CLUSTER_BLOCKS if settings.get(name) == "true"]


def _settings(cluster: Cluster, what: str) -> dict[str, str]:
    answer = cluster.get(
        "_cluster", "settings", what=what, params={"include_defaults": "true", "flat_settings": "true"}
    )
    merged = {**answer.get("defaults", {}), **answer["persistent"], **answer["transient"]}
    return {name: str(value) for name, value in merged.items()}
