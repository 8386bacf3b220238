"""What a restore by an operator would do, found out before anything is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from aivo_backup.errors import RefusedError, UsageError, VerificationError
from aivo_backup.stores.opensearch.aliases import aliases_of
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster, is_red, settings_of
from aivo_backup.stores.opensearch.names import data_stream_of, is_system, matching, renamed, restored, set_aside
from aivo_backup.stores.opensearch.newer import Newer
from aivo_backup.stores.opensearch.recovery import existing
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.room import DISK_FACTOR, refuse_without_room
from aivo_backup.stores.opensearch.snapshots import Snapshot, Snapshots
from aivo_backup.stores.opensearch.states import SnapshotOutcome, damaged_file, is_damage

_NAMES_TOLD = 20
_SETTLES_SECONDS = 5


class RestoreMode(StrEnum):
    """Where restored indices go."""

    IN_PLACE = "in-place"
    RENAMED = "renamed"
    ALIAS_SWAP = "alias-swap"


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """What to restore.

    Attributes:
        snapshot: its name.
        indices: names or wildcards as in the snapshot; empty means all of it.
        mode: where they go.
        rename_pattern: regular expression over the index name, for :attr:`RestoreMode.RENAMED`.
        rename_replacement: the new name, with ``$1`` for the first group.
        replicas: copies of each shard; None keeps the snapshot's number as far as the cluster has nodes for it.
    """

    snapshot: str
    indices: tuple[str, ...] = ()
    mode: RestoreMode = RestoreMode.IN_PLACE
    rename_pattern: str = ""
    rename_replacement: str = ""
    replicas: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedIndex:
    """What a restore would do with one index.

    Attributes:
        source: name in the snapshot.
        target: name that the restored index gets.
        set_aside: name under which the old state is kept; empty where there is none to keep.
        aliases: aliases that move from ``source`` to ``target``.
        data_stream: the lost data stream that it belongs to and comes back with.
        closed: the present one is closed.
        down: a primary of the present one is down.
    """

    source: str
    target: str
    set_aside: str = ""
    aliases: tuple[str, ...] = ()
    data_stream: str = ""
    closed: bool = False
    down: bool = False

    @property
    def uncountable(self) -> str:
        """Why nobody can tell what the present one holds; empty when it can be told."""
        return "closed" if self.closed else "down" if self.down else ""


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """A restore that was checked and changes nothing yet.

    Attributes:
        bytes_needed: room on the cluster's disks that it was checked for.
        newer: what users of the present indices would lose sight of, of those that can be counted.
    """

    snapshot: str
    taken: datetime
    mode: RestoreMode
    indices: tuple[PlannedIndex, ...]
    bytes_needed: int = 0
    newer: tuple[Newer, ...] = ()

    @property
    def replaced(self) -> tuple[PlannedIndex, ...]:
        """Those whose present state will not be what users see."""
        return tuple(index for index in self.indices if index.set_aside or index.aliases)


class Planner:
    """Plans restores from one repository into the cluster that it is registered on."""

    def __init__(self, repository: Repository) -> None:
        self._cluster: Cluster = repository.cluster
        self._snapshots = Snapshots(repository)

    def plan(self, request: RestoreRequest, *, now: datetime) -> RestorePlan:
        """Checks everything that can be checked, and changes nothing.

        Raises:
            UsageError: the snapshot or an index is unknown (the message lists what there is), or the rename is wrong.
            VerificationError: the snapshot's description of a shard or an index is damaged.
            RefusedError: the snapshot is not complete, a target exists already, the old state cannot be kept, a system
                index is asked for, or the cluster lacks room.
        """
        snapshot = self._known_snapshot(request.snapshot)
        sources = self._chosen(snapshot, request)
        match request.mode:
            case RestoreMode.IN_PLACE:
                planned = self._plan_all_in_place(snapshot, sources, now)
            case RestoreMode.RENAMED:
                planned = self._plan_renamed(sources, request)
            case RestoreMode.ALIAS_SWAP:
                planned = [self._plan_alias_swap(source, now) for source in sources]
        sizes = self._sizes(snapshot.name)
        needed = int(sum(sizes.get(item.source, 0) for item in planned) * DISK_FACTOR)
        refuse_without_room(self._cluster, needed, what=f"restoring from {snapshot.name}")
        return RestorePlan(
            snapshot=snapshot.name,
            taken=snapshot.started,
            mode=request.mode,
            indices=tuple(planned),
            bytes_needed=needed,
        )

    def _sizes(self, snapshot: str) -> dict[str, int]:
        try:
            return self._snapshots.sizes(snapshot)
        except ClusterError as error:
            if not is_damage(error.reason):
                raise
            raise damaged_snapshot(snapshot, error) from error

    def _chosen(self, snapshot: Snapshot, request: RestoreRequest) -> tuple[str, ...]:
        """The indices that are meant. Wildcards mean no system index, which only its plugin may fill."""
        system = {index for index in snapshot.indices if is_system(index, snapshot.data_streams)}
        named = sorted(system & set(request.indices))
        if named:
            raise RefusedError(
                f"{named[0]} is a system index, which a restore would put out of step with the cluster",
                mend="restore what it holds with the tool that it belongs to",
            )
        held = [index for index in snapshot.indices if index not in system]
        sources, unknown = matching(request.indices or ("*",), held)
        if unknown or not sources:
            raise UsageError(
                f"the snapshot {snapshot.name} holds no index {', '.join(unknown) or 'that is no system index'}",
                mend=f"it holds: {_some(held)}",
            )
        return sources

    def _known_snapshot(self, name: str) -> Snapshot:
        snapshot = self._snapshots.get(name)
        if snapshot is None:
            known = [item.name for item in self._snapshots.all() if item.outcome is SnapshotOutcome.COMPLETE]
            raise UsageError(f"there is no snapshot {name}", mend=f"known: {_some(known[::-1])}")
        if snapshot.outcome is not SnapshotOutcome.COMPLETE:
            raise RefusedError(
                f"the snapshot {name} is {snapshot.outcome.value}: {snapshot.failures}", mend="choose another one"
            )
        return snapshot

    def _plan_all_in_place(self, snapshot: Snapshot, sources: Sequence[str], now: datetime) -> list[PlannedIndex]:
        streams = {index: data_stream_of(index, snapshot.data_streams) for index in snapshot.indices}
        wanted = {streams[source] for source in sources} - {""}
        for stream in sorted(wanted):
            # OpenSearch lets nobody close the index that a data stream writes to.
            if self._cluster.exists(stream):
                raise RefusedError(
                    f"the data stream {stream} exists, and cannot be restored in place",
                    mend="restore its indices under new names",
                )
        return [
            *(self._plan_in_place(source, now) for source in sources if not streams[source]),
            *(
                PlannedIndex(source=index, target=index, data_stream=stream)
                for index, stream in streams.items()
                if stream in wanted
            ),
        ]

    def _plan_in_place(self, source: str, now: datetime) -> PlannedIndex:
        if not self._cluster.exists(source):
            return PlannedIndex(source=source, target=source)
        # The shards of an index that was closed just now come up again.
        if is_red(self._cluster, source, patience_seconds=_SETTLES_SECONDS):
            kept = existing(self._cluster, f"aside-*-{source}")
            raise RefusedError(
                f"the old state of {source} cannot be kept: it is red",
                mend=f"restore it under a new name, or remove it by hand first{_earlier(kept)}",
            )
        self._refuse_read_only(source)
        return PlannedIndex(
            source=source, target=source, set_aside=set_aside(source, now), closed=self._is_closed(source)
        )

    def _refuse_read_only(self, index: str) -> None:
        """Such an index can be neither closed nor kept, and OpenSearch would say so half way through."""
        settings = settings_of(self._cluster, index)
        for block in ("read_only", "read_only_allow_delete", "metadata"):
            if str(settings.get(f"index.blocks.{block}", "false")) == "true":
                why = ": a disk had passed its flood stage" if block == "read_only_allow_delete" else ""
                raise RefusedError(
                    f"{index} has the block index.blocks.{block}{why}",
                    mend=f"mend its cause, take the block off {index}, and give the command again",
                )

    def _is_closed(self, index: str) -> bool:
        what = f"looking at {index}"
        answer = self._cluster.get("_resolve", "index", index, what=what, params={"expand_wildcards": "all"})
        return any("closed" in item.get("attributes", ()) for item in answer.get("indices", ()))

    def _plan_renamed(self, sources: Sequence[str], request: RestoreRequest) -> list[PlannedIndex]:
        if not request.rename_pattern or not request.rename_replacement:
            raise UsageError(
                "a restore under new names needs a pattern and a replacement", mend="for example (.+) and restored-$1"
            )
        try:
            planned = [
                PlannedIndex(source=source, target=renamed(source, request.rename_pattern, request.rename_replacement))
                for source in sources
            ]
        except ValueError as error:
            raise UsageError(str(error), mend="write the replacement as restored-$1") from error
        targets = [item.target for item in planned]
        for item in planned:
            if item.target == item.source:
                raise RefusedError(
                    f"the rename leaves {item.source} as it is", mend="restore in place, or mend the pattern"
                )
            if targets.count(item.target) > 1:
                raise RefusedError(f"the rename makes {item.target} out of two indices", mend="mend the pattern")
            if self._cluster.exists(item.target):
                raise RefusedError(f"{item.target} exists already", mend="choose another name")
        return planned

    def _plan_alias_swap(self, source: str, now: datetime) -> PlannedIndex:
        if not self._cluster.exists(source):
            raise RefusedError(
                f"there is no {source} whose aliases could be moved", mend="it is gone: restore it in place"
            )
        aliases = tuple(sorted(aliases_of(self._cluster, source)))
        if not aliases:
            raise RefusedError(
                f"no alias points to {source}, so none can be moved", mend="restore it in place or under a new name"
            )
        return PlannedIndex(
            source=source,
            target=restored(source, now),
            aliases=aliases,
            closed=self._is_closed(source),
            down=is_red(self._cluster, source),
        )


def damaged_snapshot(name: str, error: ClusterError) -> VerificationError:
    """What to say of a snapshot from which nothing can be restored."""
    return VerificationError(
        f"the snapshot {name} is damaged: {damaged_file(error.reason)} ({error.reason[:300]})",
        mend="nothing was restored; choose another one",
    )


def _earlier(kept: Sequence[str]) -> str:
    return f"; an earlier state of it is in {', '.join(kept)}" if kept else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return (", ".join(names[:_NAMES_TOLD]) or "none") + more
