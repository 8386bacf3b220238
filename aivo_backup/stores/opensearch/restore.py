"""Restores by an operator: in place, under new names, or beside the live index with its aliases moved over.

No mode deletes what users had. In place, the old state is first set aside as a clone (hard links, no second copy of
the data), and put back when the restore fails; with aliases moved, the old index stays under its own name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aivo_backup.catalog.records import Phase
from aivo_backup.errors import BackupError, RefusedError, VerificationError
from aivo_backup.stores.opensearch.aliases import move_aliases
from aivo_backup.stores.opensearch.aside import Kept, keep, leave, look, put_back
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster, settings_of
from aivo_backup.stores.opensearch.facts import count
from aivo_backup.stores.opensearch.plan import Planner, RestoreMode, RestorePlan, RestoreRequest, damaged_snapshot
from aivo_backup.stores.opensearch.recovery import (
    LIFECYCLE_SETTINGS,
    SETTINGS_THAT_STAY,
    request_restore,
    wait_for_shards,
)
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.states import Counted, is_damage
from aivo_backup.stores.port import Progress, Stopwatch


@dataclass(frozen=True, kw_only=True)
class RestoredIndex:
    """One index that came back, counted after the restore."""

    source: str
    target: str
    counted: Counted
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
        return sum(index.counted.documents for index in self.indices)


class Restorer:
    """Restores from one repository into the cluster that it is registered on."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._cluster: Cluster = repository.cluster
        self._planner = Planner(repository)

    def run(self, request: RestoreRequest, *, now: datetime, stopwatch: Stopwatch, progress: Progress) -> RestoreResult:
        """Plans, then restores, waits for every shard, fits settings to the cluster, moves aliases, counts.

        A restore that fails leaves every index that it was to replace as it was, and of the others none that is half
        there; indices that were lost and have come back whole stay, and the message names them.

        Raises:
            UsageError, RefusedError: as :meth:`Planner.plan`; nothing was changed.
            VerificationError: the snapshot's files are damaged; the message names index, shard and file.
            BackupError: the cluster failed; the message says where the old state is.
        """
        with stopwatch.phase("plan"):
            plan = self._planner.plan(request, now=now)
        with stopwatch.phase("set aside"):
            kept = self._set_aside(plan, progress)
        with stopwatch.phase("restore"):
            self._restore(plan, request, kept, progress)
        with stopwatch.phase("finish"):
            try:
                adapted = (*self._fit_replicas(plan), *self._fit_places(kept))
                if plan.mode is RestoreMode.ALIAS_SWAP:
                    move_aliases(self._cluster, [(item.source, item.target) for item in plan.indices])
                indices = self._counted(plan)
            except BackupError as error:
                where = ", ".join(item.set_aside or item.source for item in plan.replaced)
                raise BackupError(
                    f"{', '.join(item.target for item in plan.indices)} is restored, but then: {error.what}",
                    mend=f"{error.mend or 'see the cluster'}; the former state is {where}" if where else error.mend,
                ) from error
        return RestoreResult(
            snapshot=plan.snapshot, taken=plan.taken, indices=indices, adapted=adapted, phases=stopwatch.phases
        )

    def _set_aside(self, plan: RestorePlan, progress: Progress) -> tuple[Kept, ...]:
        """Keeps and closes the old state of each index; whatever fails, all of them are as they were."""
        kept = tuple(look(self._cluster, item) for item in plan.indices if item.set_aside)
        done: list[Kept] = []
        try:
            for each in kept:
                progress(f"{each.item.source}: its present state is kept as {each.item.set_aside}")
                done.append(each)
                keep(self._cluster, each)
        except BackupError:
            for each in done:
                leave(self._cluster, each)
            raise
        return kept

    def _restore(self, plan: RestorePlan, request: RestoreRequest, kept: Sequence[Kept], progress: Progress) -> None:
        self._start(plan, request, kept)
        try:
            shards = wait_for_shards(self._cluster, tuple(item.target for item in plan.indices), progress)
        except BackupError as error:
            broken = frozenset(item.target for item in plan.indices)
            mend = self._mend(plan, kept, broken, progress)
            raise BackupError(f"the restore from {plan.snapshot} failed: {error.what}", mend=mend) from error
        if not shards.failures:
            return
        mend = self._mend(plan, kept, frozenset(failure.index for failure in shards.failures), progress)
        lines = "; ".join(failure.line() for failure in shards.failures[:3])
        if any(failure.is_damage for failure in shards.failures):
            raise VerificationError(f"the snapshot {plan.snapshot} is damaged: {lines}", mend=mend)
        raise BackupError(f"the restore from {plan.snapshot} failed: {lines}", mend=mend)

    def _mend(self, plan: RestorePlan, kept: Sequence[Kept], broken: frozenset[str], progress: Progress) -> str:
        """Puts back what was replaced and removes what is half there.

        A red index left behind would make every snapshot from now on a partial one.

        Returns:
            what became of the indices, for the person who reads the error.
        """
        lost = [item.target for item in plan.indices if not item.set_aside]
        still: list[str] = []
        for each in kept:
            try:
                progress(f"{each.item.source}: its former state is put back")
                put_back(self._cluster, each)
            except BackupError as error:
                progress(f"{each.item.source}: {error}")
                still.append(f"the old state of {each.item.source} is kept: {each.item.set_aside}")
        for target in lost:
            if target in broken:
                try:
                    self._cluster.delete(target, what=f"removing the half restored {target}")
                except BackupError as error:
                    progress(f"{target}: {error}")
                    still.append(f"the half restored {target} is there and is to be removed by hand")
        whole = [target for target in lost if target not in broken]
        told = [*still, *([f"whole and there: {', '.join(whole)}"] if whole else [])]
        return "; ".join(told) or "everything is as it was before"

    def _start(self, plan: RestorePlan, request: RestoreRequest, kept: Sequence[Kept]) -> None:
        beside = plan.mode is not RestoreMode.IN_PLACE
        settings: dict[str, Any] = {}
        if request.replicas is not None:
            settings = {"index.number_of_replicas": request.replicas, "index.auto_expand_replicas": "false"}
        try:
            request_restore(
                self._repository,
                plan.snapshot,
                tuple(dict.fromkeys(item.data_stream or item.source for item in plan.indices)),
                rename=_rename(plan, request) if beside else None,
                aliases=not beside,
                ignored_settings=(*SETTINGS_THAT_STAY, *(LIFECYCLE_SETTINGS if beside else ())),
                settings=settings,
            )
        except BackupError as error:
            # It never began: the indices that were closed for it go on as they were.
            for each in kept:
                leave(self._cluster, each)
            if isinstance(error, ClusterError) and is_damage(error.reason):
                raise damaged_snapshot(plan.snapshot, error) from error
            if isinstance(error, ClusterError) and error.kind == "snapshot_restore_exception":
                # For example an index that was made anew since, with another number of shards.
                raise RefusedError(f"nothing was restored: {error.reason}", mend="restore under a new name") from error
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

    def _fit_places(self, kept: Sequence[Kept]) -> tuple[str, ...]:
        """Which nodes an index is for is this cluster's affair: what its former state said about it is said again."""
        adapted: list[str] = []
        for each in kept:
            if each.places:
                index = each.item.target
                self._cluster.put(index, "_settings", what=f"setting where {index} lies", body=each.places)
                told = ", ".join(f"{name} {value}" for name, value in sorted(each.places.items()))
                adapted.append(f"{index}: lies where it did, {told}")
        return tuple(adapted)

    def _replicas(self, index: str) -> int:
        return int(settings_of(self._cluster, index).get("index.number_of_replicas", 1))

    def _counted(self, plan: RestorePlan) -> tuple[RestoredIndex, ...]:
        counted = count(self._cluster, tuple(item.target for item in plan.indices))
        return tuple(
            RestoredIndex(
                source=item.source,
                target=item.target,
                counted=counted[item.target],
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
