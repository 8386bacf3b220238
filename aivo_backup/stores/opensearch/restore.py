"""Restores by an operator: in place, under new names, or beside the live index with its aliases moved over.

No mode deletes an index. In place, the old state is first set aside as a clone (hard links, no second copy of the
data); with aliases moved, the old index stays under its own name.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from aivo_backup.catalog.records import Phase
from aivo_backup.errors import BackupError, RefusedError, UsageError, VerificationError
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.opensearch.facts import count
from aivo_backup.stores.opensearch.names import matching, renamed, restored, set_aside
from aivo_backup.stores.opensearch.recovery import (
    LIFECYCLE_SETTINGS,
    SETTINGS_THAT_STAY,
    request_restore,
    wait_for_shards,
)
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.snapshots import Snapshot, Snapshots
from aivo_backup.stores.opensearch.states import SnapshotOutcome, damaged_file, is_damage
from aivo_backup.stores.port import Progress, Stopwatch

_NAMES_TOLD = 20


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
    """

    source: str
    target: str
    set_aside: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """A restore that was checked and changes nothing yet."""

    snapshot: str
    taken: datetime
    mode: RestoreMode
    indices: tuple[PlannedIndex, ...]


@dataclass(frozen=True, kw_only=True)
class RestoredIndex:
    """One index that came back. ``documents`` were counted after the restore."""

    source: str
    target: str
    documents: int
    set_aside: str
    aliases: tuple[str, ...]
    replicas: int


@dataclass(frozen=True, kw_only=True)
class RestoreResult:
    """A restore that ran to its end. ``adapted`` says which settings were changed to fit the cluster."""

    snapshot: str
    taken: datetime
    indices: tuple[RestoredIndex, ...]
    adapted: tuple[str, ...]
    phases: tuple[Phase, ...]

    @property
    def documents(self) -> int:
        """Documents in all restored indices."""
        return sum(index.documents for index in self.indices)


class Restorer:
    """Restores from one repository into the cluster that it is registered on."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._cluster: Cluster = repository.cluster
        self._snapshots = Snapshots(repository)

    def plan(self, request: RestoreRequest, *, now: datetime) -> RestorePlan:
        """Checks everything that can be checked, and changes nothing.

        Raises:
            UsageError: the snapshot or an index is unknown (the message lists what there is), or the rename is wrong.
            RefusedError: the snapshot is not complete, a target exists already, or the old state cannot be kept.
        """
        snapshot = self._known_snapshot(request.snapshot)
        sources, unknown = matching(request.indices or ("*",), snapshot.indices)
        if unknown:
            raise UsageError(
                f"the snapshot {snapshot.name} holds no index {', '.join(unknown)}",
                mend=f"it holds: {_some(snapshot.indices)}",
            )
        match request.mode:
            case RestoreMode.IN_PLACE:
                planned = [self._plan_in_place(source, now) for source in sources]
            case RestoreMode.RENAMED:
                planned = self._plan_renamed(sources, request)
            case RestoreMode.ALIAS_SWAP:
                planned = [self._plan_alias_swap(source, now) for source in sources]
        return RestorePlan(snapshot=snapshot.name, taken=snapshot.started, mode=request.mode, indices=tuple(planned))

    def run(self, request: RestoreRequest, *, now: datetime, stopwatch: Stopwatch, progress: Progress) -> RestoreResult:
        """Plans, then restores, waits for every shard, fits the replicas to the cluster, moves aliases, counts.

        Raises:
            UsageError, RefusedError: as :meth:`plan`; nothing was changed.
            VerificationError: the snapshot's files are damaged; the message names index, shard and file.
            BackupError: the cluster failed; the message says where the old state is.
        """
        with stopwatch.phase("plan"):
            plan = self.plan(request, now=now)
        with stopwatch.phase("set aside"):
            self._set_aside(plan, progress)
        with stopwatch.phase("restore"):
            self._restore(plan, request, progress)
        with stopwatch.phase("finish"):
            adapted = self._fit_replicas(plan)
            if plan.mode is RestoreMode.ALIAS_SWAP:
                self._move_aliases(plan)
            indices = self._counted(plan)
        return RestoreResult(
            snapshot=plan.snapshot, taken=plan.taken, indices=indices, adapted=adapted, phases=stopwatch.phases
        )

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

    def _plan_in_place(self, source: str, now: datetime) -> PlannedIndex:
        if not self._cluster.exists(source):
            return PlannedIndex(source=source, target=source)
        health = self._cluster.get(
            "_cluster", "health", source, what=f"looking at {source}", params={"expand_wildcards": "all"}
        )
        if health["status"] == "red":
            raise RefusedError(
                f"the old state of {source} cannot be kept: it is red",
                mend="restore it under a new name, or remove it by hand first",
            )
        return PlannedIndex(source=source, target=source, set_aside=set_aside(source, now))

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
        aliases = tuple(sorted(self._aliases(source)))
        if not aliases:
            raise RefusedError(
                f"no alias points to {source}, so none can be moved", mend="restore it in place or under a new name"
            )
        return PlannedIndex(source=source, target=restored(source, now), aliases=aliases)

    def _aliases(self, index: str) -> Mapping[str, Mapping[str, Any]]:
        try:
            answer = self._cluster.get(index, "_alias", what=f"reading the aliases of {index}")
        except ClusterError as error:
            if error.status == 404:
                return {}
            raise
        return answer.get(index, {}).get("aliases", {})

    def _set_aside(self, plan: RestorePlan, progress: Progress) -> None:
        """Keeps and closes the old state of each index; whatever fails, indices not reached stay as they were."""
        done: list[PlannedIndex] = []
        try:
            for item in plan.indices:
                if item.set_aside:
                    progress(f"{item.source}: its present state is kept as {item.set_aside}")
                    done.append(item)
                    self._clone_and_close(item)
        except BackupError:
            self._reopen(done)
            raise

    def _clone_and_close(self, item: PlannedIndex) -> None:
        # A closed index cannot be cloned, and a clone needs its source to stand still.
        self._cluster.post(item.source, "_open", what=f"opening {item.source}")
        self._block_writes(item.source, blocked=True)
        self._cluster.post(
            item.source,
            "_clone",
            item.set_aside,
            what=f"keeping {item.source} as {item.set_aside}",
            body={"settings": {"index.number_of_replicas": 0, "index.auto_expand_replicas": "false"}},
            params={"wait_for_active_shards": "1"},
        )
        shards = wait_for_shards(self._cluster, (item.set_aside,), lambda _line: None)
        if shards.failures:
            raise BackupError(f"the old state of {item.source} could not be kept: {shards.failures[0].line()}")
        self._cluster.post(item.source, "_close", what=f"closing {item.source}")

    def _reopen(self, items: Sequence[PlannedIndex]) -> None:
        # What failed before matters more than what fails while tidying up after it.
        for item in items:
            with suppress(BackupError):
                self._cluster.post(item.source, "_open", what=f"opening {item.source} again")
                self._block_writes(item.source, blocked=False)

    def _block_writes(self, index: str, *, blocked: bool) -> None:
        self._cluster.put(
            index,
            "_settings",
            what=f"{'stopping' if blocked else 'allowing'} writes to {index}",
            body={"index.blocks.write": True if blocked else None},
        )

    def _restore(self, plan: RestorePlan, request: RestoreRequest, progress: Progress) -> None:
        self._start(plan, request)
        shards = wait_for_shards(self._cluster, tuple(item.target for item in plan.indices), progress)
        if not shards.failures:
            return
        kept = ", ".join(item.set_aside for item in plan.indices if item.set_aside)
        mend = f"the old state is kept: {kept}" if kept else "no other index was touched"
        lines = "; ".join(failure.line() for failure in shards.failures[:3])
        if any(failure.is_damage for failure in shards.failures):
            raise VerificationError(f"the snapshot {plan.snapshot} is damaged: {lines}", mend=mend)
        raise BackupError(f"the restore from {plan.snapshot} failed: {lines}", mend=mend)

    def _start(self, plan: RestorePlan, request: RestoreRequest) -> None:
        beside = plan.mode is not RestoreMode.IN_PLACE
        settings: dict[str, Any] = {}
        if request.replicas is not None:
            settings = {"index.number_of_replicas": request.replicas, "index.auto_expand_replicas": "false"}
        try:
            request_restore(
                self._repository,
                plan.snapshot,
                tuple(item.source for item in plan.indices),
                rename=_rename(plan, request) if beside else None,
                aliases=not beside,
                ignored_settings=(*SETTINGS_THAT_STAY, *(LIFECYCLE_SETTINGS if beside else ())),
                settings=settings,
            )
        except BackupError as error:
            # It never began: the indices that were closed for it go on as they were.
            self._reopen([item for item in plan.indices if item.set_aside])
            if isinstance(error, ClusterError) and is_damage(error.reason):
                raise VerificationError(
                    f"the snapshot {plan.snapshot} is damaged: {damaged_file(error.reason)} ({error.reason[:300]})",
                    mend="nothing was restored; choose another one",
                ) from error
            raise

    def _fit_replicas(self, plan: RestorePlan) -> tuple[str, ...]:
        """More copies than nodes would leave an index yellow for ever."""
        nodes = int(self._cluster.get("_cluster", "health", what="counting the nodes")["number_of_data_nodes"])
        adapted: list[str] = []
        for item in plan.indices:
            replicas = self._replicas(item.target)
            fitting = max(0, nodes - 1)
            if replicas > fitting:
                self._cluster.put(
                    item.target,
                    "_settings",
                    what=f"setting the replicas of {item.target}",
                    body={"index.number_of_replicas": fitting},
                )
                adapted.append(f"{item.target}: {fitting} replicas instead of {replicas}")
        return tuple(adapted)

    def _replicas(self, index: str) -> int:
        answer = self._cluster.get(
            index, "_settings", what=f"reading the settings of {index}", params={"flat_settings": "true"}
        )
        return int(answer[index]["settings"].get("index.number_of_replicas", 1))

    def _move_aliases(self, plan: RestorePlan) -> None:
        actions: list[Mapping[str, Any]] = []
        for item in plan.indices:
            for alias, options in self._aliases(item.source).items():
                if alias in item.aliases:
                    actions.append({"remove": {"index": item.source, "alias": alias}})
                    actions.append({"add": {"index": item.target, "alias": alias, **options}})
        # One request: no search finds the alias on both, or on neither.
        self._cluster.post("_aliases", what="moving the aliases", body={"actions": actions})

    def _counted(self, plan: RestorePlan) -> tuple[RestoredIndex, ...]:
        counted = count(self._cluster, tuple(item.target for item in plan.indices))
        return tuple(
            RestoredIndex(
                source=item.source,
                target=item.target,
                documents=counted[item.target].documents,
                set_aside=item.set_aside,
                aliases=item.aliases,
                replicas=self._replicas(item.target),
            )
            for item in plan.indices
        )


def _rename(plan: RestorePlan, request: RestoreRequest) -> tuple[str, str]:
    if plan.mode is RestoreMode.RENAMED:
        return request.rename_pattern, request.rename_replacement
    first = plan.indices[0]
    return "(.+)", first.target.removesuffix(first.source) + "$1"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return (", ".join(names[:_NAMES_TOLD]) or "none") + more
