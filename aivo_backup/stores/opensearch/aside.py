"""The old state of an index: kept as a clone (hard links, no second copy of the data), and put back.

OpenSearch renames no index. So an index that is restored in place is first cloned; when the restore fails, the clone is
cloned back under the former name, with the settings and aliases that it had, and only then removed.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.stores.opensearch.aliases import aliases_of
from aivo_backup.stores.opensearch.cluster import Cluster, settings_of
from aivo_backup.stores.opensearch.documents import number_of, settle
from aivo_backup.stores.opensearch.plan import PlannedIndex
from aivo_backup.stores.opensearch.recovery import wait_for_shards
from aivo_backup.stores.port import silent

_WRITE_BLOCK = "index.blocks.write"
_REPLICAS = ("index.number_of_replicas", "index.auto_expand_replicas")
_PLACES = "index.routing.allocation."
# OpenSearch's own note of where a clone was made.
_NOT_A_PLACE = f"{_PLACES}initial_recovery"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An index as it was, and the clone that holds it."""

    item: PlannedIndex
    settings: Mapping[str, str]
    aliases: Mapping[str, Mapping[str, Any]]

    @property
    def places(self) -> dict[str, str]:
        """Which nodes of this cluster the index was meant for."""
        return {
            name: value
            for name, value in self.settings.items()
            if name.startswith(_PLACES) and not name.startswith(_NOT_A_PLACE)
        }


def look(cluster: Cluster, item: PlannedIndex) -> Kept:
    """Notes how an index is, before anything is changed."""
    return Kept(item=item, settings=settings_of(cluster, item.source), aliases=aliases_of(cluster, item.source))


def keep(cluster: Cluster, kept: Kept) -> None:
    """Clones an index, and closes it.

    Raises:
        BackupError: it failed; :func:`leave` makes the index what it was.
    """
    item = kept.item
    # A closed index cannot be cloned, and a clone needs its source to stand still.
    cluster.post(item.source, "_open", what=f"opening {item.source}")
    _set(cluster, item.source, {_WRITE_BLOCK: "true"})
    # A clone lies where its source does. A place that the index asks for, and no node offers, would keep it from there.
    settings = {_REPLICAS[0]: 0, _REPLICAS[1]: "false", **dict.fromkeys(kept.places)}
    _clone(cluster, item.source, item.set_aside, settings, what=f"keeping {item.source}")
    cluster.post(item.source, "_close", what=f"closing {item.source}")


def leave(cluster: Cluster, kept: Kept) -> None:
    """Makes an index that was kept, and not restored over, what it was; its clone is then only a copy, and goes."""
    item = kept.item
    # What failed before matters more than what fails while tidying up after it.
    with suppress(BackupError):
        cluster.post(item.source, "_open", what=f"opening {item.source} again")
        _set(cluster, item.source, {_WRITE_BLOCK: kept.settings.get(_WRITE_BLOCK)})
        if item.closed:
            cluster.post(item.source, "_close", what=f"closing {item.source} again")
        if cluster.exists(item.set_aside):
            cluster.delete(item.set_aside, what=f"removing the copy {item.set_aside}")


def put_back(cluster: Cluster, kept: Kept) -> None:
    """Replaces what a failed restore left under the name of an index by its former state.

    Raises:
        BackupError: it failed; the clone is still there.
    """
    item = kept.item
    if cluster.exists(item.target):
        cluster.delete(item.target, what=f"removing the half restored {item.target}")
    settings = {name: kept.settings.get(name) for name in (*_REPLICAS, _WRITE_BLOCK)}
    what = f"putting {item.set_aside} back as {item.target}"
    _clone(cluster, item.set_aside, item.target, settings, aliases=kept.aliases, what=what)
    if kept.places:
        _set(cluster, item.target, kept.places)
    settle(cluster, item.target)
    found, held = number_of(cluster, item.target), number_of(cluster, item.set_aside)
    if found != held:
        raise BackupError(f"{what}: {found} documents instead of {held}")
    if item.closed:
        cluster.post(item.target, "_close", what=f"closing {item.target} again")
    cluster.delete(item.set_aside, what=f"removing the copy {item.set_aside}")


def _clone(
    cluster: Cluster,
    source: str,
    target: str,
    settings: Mapping[str, object],
    *,
    what: str,
    aliases: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    cluster.post(
        source,
        "_clone",
        target,
        what=f"{what} as {target}",
        body={"settings": dict(settings), "aliases": dict(aliases or {})},
        params={"wait_for_active_shards": "1"},
    )
    shards = wait_for_shards(cluster, (target,), silent)
    if shards.failures:
        raise BackupError(f"{what} failed: {shards.failures[0].line()}", mend="see the cluster's log")


def _set(cluster: Cluster, index: str, settings: Mapping[str, object]) -> None:
    cluster.put(index, "_settings", what=f"setting {', '.join(settings)} of {index}", body=dict(settings))
