"""OpenSearch as a store that is backed up, listed and restore-tested."""

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opensearchpy import OpenSearch

from aivo_backup import __version__
from aivo_backup.catalog.records import Fact, RecoveryPoint
from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import BackupKind, Component, OpenSearchSettings
from aivo_backup.stores.bundle import require_fresh
from aivo_backup.stores.opensearch import facts as noted
from aivo_backup.stores.opensearch.cluster import Cluster, in_batches
from aivo_backup.stores.opensearch.expiry import SnapshotExpiry, plan_expiry
from aivo_backup.stores.opensearch.names import chosen, verification_prefix
from aivo_backup.stores.opensearch.newer import Newer, newer_than
from aivo_backup.stores.opensearch.plan import Planner, RestoreMode, RestorePlan, RestoreRequest
from aivo_backup.stores.opensearch.recovery import existing
from aivo_backup.stores.opensearch.repository import Repository, repository_body
from aivo_backup.stores.opensearch.rescue import Imported, export, import_bundle
from aivo_backup.stores.opensearch.restore import Restorer, RestoreResult
from aivo_backup.stores.opensearch.snapshots import Snapshot, Snapshots
from aivo_backup.stores.opensearch.states import SnapshotOutcome
from aivo_backup.stores.opensearch.verification import RestoreTest
from aivo_backup.stores.port import (
    HeldPoint,
    Progress,
    RescueBundle,
    Stopwatch,
    TakenBackup,
    TestedRestore,
    VerifiedSince,
)


@dataclass(frozen=True, kw_only=True)
class BackupPlace:
    """Where an ``s3`` repository lies; all empty for ``fs``."""

    bucket: str = ""
    region: str = ""
    kms_key: str = ""
    account_id: str = ""


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """What a snapshot is asked for, and those of its indices that can be counted: open, with all primaries up."""

    asked: tuple[str, ...]
    countable: tuple[str, ...]


class OpenSearchStore:
    """One production cluster, its repository, and the cluster on which its snapshots are tested.

    Args:
        client: of the production cluster.
        settings: what is backed up, and how fast.
        place: where an ``s3`` repository lies.
        verification_client: of the cluster for restore tests, where the repository is read-only; the production
            cluster itself when None.
        sleep: waits between two questions.
    """

    def __init__(
        self,
        *,
        client: OpenSearch,
        settings: OpenSearchSettings,
        place: BackupPlace | None = None,
        verification_client: OpenSearch | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        place = place or BackupPlace()
        self._settings = settings
        self._cluster = Cluster(client, sleep=sleep)
        self._repository = Repository(self._cluster, settings.repository, _body(settings, place, readonly=False))
        self._snapshots = Snapshots(self._repository)
        self._tested_on = self._repository
        if verification_client is not None:
            self._tested_on = Repository(
                Cluster(verification_client, sleep=sleep), settings.repository, _body(settings, place, readonly=True)
            )

    @property
    def component(self) -> Component:
        """Always OpenSearch."""
        return Component.OPENSEARCH

    def register(self) -> bool:
        """Registers or mends the repository on the production cluster, and read-only on the verification cluster.

        Returns:
            True when something had to be changed.

        Raises:
            RefusedError: the cluster is too old for a key of ours.
            ConfigurationError: the cluster cannot use the repository.
        """
        changed = self._repository.register()
        if self._tested_on is not self._repository:
            changed = self._tested_on.register() or changed
        return changed

    @property
    def repository(self) -> Repository:
        """The repository as the production cluster sees it."""
        return self._repository

    def backup(self, kind: BackupKind, *, now: datetime, progress: Progress) -> TakenBackup:
        """Takes one snapshot. OpenSearch copies only what the repository lacks, whatever the kind.

        Raises:
            PartialSnapshotError: it lacks shards, and is no recovery point.
            BackupError: it failed, or there is no index to back up.
        """
        what = self._choose()
        counted = noted.count(self._cluster, what.countable)
        number = noted.samples_per_index(self._settings.sampled_documents, len(what.countable))
        seed = int(now.timestamp())
        before = {index: noted.choose_samples(self._cluster, index, number, seed) for index in what.countable}
        heartbeat = noted.newest_heartbeat(self._cluster, self._settings.heartbeat_index)
        sums: dict[str, Fact] = {
            **noted.totals(counted),
            "total_bytes": noted.store_bytes(self._cluster, what.countable),
        }
        snapshot = self._snapshots.take(
            what.asked,
            now=now,
            metadata={
                "taken_by": f"aivo-backup {__version__}",
                "kind": kind.value,
                "run": format_time(now),
                **sums,
            },
            progress=progress,
        )
        counted = {index: number for index, number in counted.items() if index in snapshot.indices}
        samples = {index: self._unchanged(index, before[index]) for index in counted}
        size = self._snapshots.size(snapshot.name)
        return TakenBackup(
            point=snapshot.name,
            recoverable_at=snapshot.started,
            size_bytes=size.total_bytes,
            bytes_transferred=size.added_bytes,
            facts={
                "snapshot_uuid": snapshot.uuid,
                **noted.as_facts(counted, samples, heartbeat=format_time(heartbeat) if heartbeat else ""),
                **sums,
            },
        )

    def held_points(self) -> tuple[HeldPoint, ...]:
        """Every complete snapshot that the repository describes, oldest first, ours or not."""
        return tuple(
            self._held(snapshot) for snapshot in self._snapshots.all() if snapshot.outcome is SnapshotOutcome.COMPLETE
        )

    def restore_test(
        self, point: RecoveryPoint, *, scratch: Path, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> TestedRestore:
        """Restores the snapshot under other names on the verification cluster; ``scratch`` stays empty.

        Raises:
            VerificationError: the snapshot cannot be read; the message names the file.
            RefusedError: the cluster has too little room.
        """
        test = RestoreTest(
            self._tested_on, point, heartbeat_index=self._settings.heartbeat_index, now=now, progress=progress
        )
        return test.run(stopwatch)

    def plan_expiry(self, *, now: datetime, verified: VerifiedSince) -> SnapshotExpiry:
        """See :class:`~aivo_backup.stores.port.Expirable`."""
        return plan_expiry(self._snapshots, self._settings, now=now, verified=verified)

    def plan_restore(self, request: RestoreRequest, *, now: datetime) -> RestorePlan:
        """What :meth:`restore` would do; changes nothing.

        Raises:
            UsageError: an unknown snapshot or index, or a wrong rename.
            RefusedError: the snapshot is incomplete, a target exists, or the old state cannot be kept.
        """
        return Planner(self._repository).plan(request, now=now)

    def newer_than(self, plan: RestorePlan, point: RecoveryPoint) -> tuple[Newer, ...]:
        """What users of the present indices would lose sight of, for each that the plan replaces and can be counted.

        Args:
            point: the recovery point that the plan restores.

        Raises:
            BackupError: a shard does not answer.
        """
        held = noted.expected_counts(point.facts)
        return tuple(
            newer_than(self._cluster, item.source, held.get(item.source))
            for item in plan.replaced
            if not item.uncountable
        )

    def rescue(
        self,
        plan: RestorePlan,
        point: RecoveryPoint,
        folder: Path,
        *,
        now: datetime,
        stopwatch: Stopwatch,
        progress: Progress,
    ) -> RescueBundle:
        """Exports what the plan would lose, by comparing with copies that are restored beside and removed again.

        Args:
            folder: made; must not exist or be empty.

        Raises:
            RefusedError: the folder is taken, an index is closed or down, or the cluster lacks room.
            BackupError: the copies cannot be restored or compared, or the folder cannot be written.
        """
        for item in plan.replaced:
            if item.uncountable:
                raise RefusedError(
                    f"{item.source} is {item.uncountable}: what it holds newer cannot be exported",
                    mend="bring it up, or leave --rescue out",
                )
        require_fresh(folder)
        sources = [newer.index for newer in self.newer_than(plan, point) if not newer.surely_none]
        prefix = verification_prefix(now, secrets.token_hex(3))
        copies = {source: f"{prefix}{source}" for source in sources}
        try:
            if sources:
                progress(f"restoring copies of {len(sources)} indices, to see what was written after {plan.snapshot}")
                beside = RestoreRequest(
                    snapshot=plan.snapshot,
                    indices=tuple(sources),
                    mode=RestoreMode.RENAMED,
                    rename_pattern="(.+)",
                    rename_replacement=f"{prefix}$1",
                    replicas=0,
                )
                self.restore(beside, now=now, stopwatch=stopwatch, progress=progress)
            return export(self._cluster, copies, folder, after=plan.snapshot, now=now, progress=progress)
        finally:
            # Only names with this rescue's own token; what a cluster that is gone now keeps, the next test removes.
            with suppress(BackupError):
                for batch in in_batches(existing(self._cluster, f"{prefix}*")):
                    self._cluster.delete(batch, what="removing the copies that were compared with")

    def bring_back(self, folder: Path, *, overwrite: bool, progress: Progress) -> tuple[Imported, ...]:
        """Puts rescued documents back: see :func:`~aivo_backup.stores.opensearch.rescue.import_bundle`."""
        return import_bundle(self._cluster, folder, overwrite=overwrite, progress=progress)

    def restore(
        self, request: RestoreRequest, *, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> RestoreResult:
        """Restores into the production cluster for an operator.

        Raises:
            UsageError, RefusedError: as :meth:`plan_restore`; nothing was changed.
            VerificationError: the snapshot's files are damaged.
            BackupError: the cluster failed; the message says where the old state is.
        """
        return Restorer(self._repository).run(request, now=now, stopwatch=stopwatch, progress=progress)

    def _choose(self) -> _Chosen:
        answer = self._cluster.get(
            "_resolve", "index", "*", what="listing the indices", params={"expand_wildcards": "all"}
        )
        streams = {item["name"]: item["backing_indices"] for item in answer.get("data_streams", ())}
        backing = {
            index: stream
            for stream, indices in streams.items()
            for index in ([indices] if isinstance(indices, str) else indices)
        }
        states: Mapping[str, list[str]] = {
            item["name"]: item.get("attributes", []) for item in answer.get("indices", ())
        }
        patterns = self._settings.index_patterns
        asked_streams = set(chosen(streams, patterns))
        asked_indices = chosen((name for name in states if name not in backing), patterns)
        asked = (*asked_indices, *sorted(asked_streams))
        if not asked:
            raise BackupError(
                f"no index matches {', '.join(patterns)}", mend="check opensearch.index_patterns and the cluster"
            )
        held = [*asked_indices, *(index for index, stream in backing.items() if stream in asked_streams)]
        red = self._red()
        return _Chosen(
            asked=asked,
            countable=tuple(sorted(index for index in held if "open" in states.get(index, ()) and index not in red)),
        )

    def _red(self) -> frozenset[str]:
        """Indices with a primary that is down. They are asked for, and make the snapshot partial."""
        answer = self._cluster.get(
            "_cluster",
            "health",
            what="looking at the indices' health",
            params={"level": "indices", "expand_wildcards": "all"},
        )
        return frozenset(name for name, entry in answer["indices"].items() if entry["status"] == "red")

    def _unchanged(self, index: str, before: Mapping[str, noted.Sample]) -> dict[str, str]:
        # A search sees a write only after a refresh, and a document that changed must not be taken for one that did
        # not.
        self._cluster.post(index, "_refresh", what=f"sampling documents of {index}")
        return noted.unchanged(before, noted.find_samples(self._cluster, index, tuple(before)))

    def _held(self, snapshot: Snapshot) -> HeldPoint:
        metadata = snapshot.metadata
        known: dict[str, Fact] = {
            key: int(metadata[key]) for key in ("total_documents", "total_operations", "total_bytes") if key in metadata
        }
        return HeldPoint(
            point=snapshot.name,
            kind=snapshot.kind,
            started=snapshot.started,
            recoverable_at=snapshot.started,
            # Reading a size costs one file per shard: only for snapshots that do not carry it.
            size_bytes=int(known.get("total_bytes", 0)) or self._snapshots.size(snapshot.name).total_bytes,
            facts={"snapshot_uuid": snapshot.uuid, **known},
        )


def _body(settings: OpenSearchSettings, place: BackupPlace, *, readonly: bool) -> dict[str, object]:
    return repository_body(
        settings,
        bucket=place.bucket,
        region=place.region,
        kms_key=place.kms_key,
        account_id=place.account_id,
        readonly=readonly,
    )
