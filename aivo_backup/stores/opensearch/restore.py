"""Restores by an operator: in place, under new names, or beside the live index with its aliases moved over.

No mode deletes an index. In place, the old state is first set aside as a clone (hard links, no second copy of the
data); with aliases moved, the old index stays under its own name.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aivo_backup.catalog.records import Phase
from aivo_backup.errors import BackupError, RefusedError, VerificationError
from aivo_backup.stores.opensearch.aliases import move_aliases
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.opensearch.facts import count
from aivo_backup.stores.opensearch.plan import PlannedIndex, Planner, RestoreMode, RestorePlan, RestoreRequest
from aivo_backup.stores.opensearch.recovery import (
    LIFECYCLE_SETTINGS,
    SETTINGS_THAT_STAY,
    request_restore,
    wait_for_shards,
)
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.states import Counted, damaged_file, is_damage
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
        """Plans, then restores, waits for every shard, fits the replicas to the cluster, moves aliases, counts.

        Raises:
            UsageError, RefusedError: as :meth:`Planner.plan`; nothing was changed.
            VerificationError: the snapshot's files are damaged; the message names index, shard and file.
            BackupError: the cluster failed; the message says where the old state is.
        """
        with stopwatch.phase("plan"):
            plan = self._planner.plan(request, now=now)
        with stopwatch.phase("set aside"):
            self._set_aside(plan, progress)
        with stopwatch.phase("restore"):
            self._restore(plan, request, progress)
        with stopwatch.phase("finish"):
            adapted = self._fit_replicas(plan)
            if plan.mode is RestoreMode.ALIAS_SWAP:
                move_aliases(self._cluster, [(item.source, item.target) for item in plan.indices])
            indices = self._counted(plan)
        return RestoreResult(
            snapshot=plan.snapshot, taken=plan.taken, indices=indices, adapted=adapted, phases=stopwatch.phases
        )

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
            self._undo(done)
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

    def _undo(self, items: Sequence[PlannedIndex]) -> None:
        """Opens the indices again; only where that worked does the copy go, which is then no more than a copy."""
        for item in items:
            # What failed before matters more than what fails while tidying up after it.
            with suppress(BackupError):
                self._cluster.post(item.source, "_open", what=f"opening {item.source} again")
                self._block_writes(item.source, blocked=False)
                self._cluster.delete(item.set_aside, what=f"removing the copy {item.set_aside}")

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
                tuple(dict.fromkeys(item.data_stream or item.source for item in plan.indices)),
                rename=_rename(plan, request) if beside else None,
                aliases=not beside,
                ignored_settings=(*SETTINGS_THAT_STAY, *(LIFECYCLE_SETTINGS if beside else ())),
                settings=settings,
            )
        except BackupError as error:
            # It never began: the indices that were closed for it go on as they were.
            self._undo([item for item in plan.indices if item.set_aside])
            if isinstance(error, ClusterError) and is_damage(error.reason):
                raise VerificationError(
                    f"the snapshot {plan.snapshot} is damaged: {damaged_file(error.reason)} ({error.reason[:300]})",
                    mend="nothing was restored; choose another one",
                ) from error
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

    def _replicas(self, index: str) -> int:
        answer = self._cluster.get(
            index, "_settings", what=f"reading the settings of {index}", params={"flat_settings": "true"}
        )
        return int(answer[index]["settings"].get("index.number_of_replicas", 1))

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
