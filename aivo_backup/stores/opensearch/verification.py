"""The restore test: a snapshot restored under other names, looked at, and removed again."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.errors import BackupError, VerificationError
from aivo_backup.policy.codec import format_time, parse_time
from aivo_backup.stores.opensearch import facts as noted
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster, in_batches
from aivo_backup.stores.opensearch.names import abandoned, verification_prefix
from aivo_backup.stores.opensearch.recovery import (
    LIFECYCLE_SETTINGS,
    SETTINGS_THAT_STAY,
    existing,
    request_restore,
    wait_for_shards,
)
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.room import DISK_FACTOR, refuse_without_room
from aivo_backup.stores.opensearch.snapshots import Snapshot, Snapshots
from aivo_backup.stores.opensearch.states import (
    TABLE_OF_CONTENTS,
    Counted,
    SnapshotOutcome,
    count_problem,
    damaged_file,
    is_damage,
)
from aivo_backup.stores.port import Progress, Stopwatch, TestedRestore

_TOLD = 5


@dataclass(frozen=True, kw_only=True)
class _Restored:
    """What came back: index in the snapshot to index in the cluster, and the lines of what did not."""

    indices: Mapping[str, str]
    damage: tuple[str, ...]


class RestoreTest:
    """One restore test of one point on one cluster."""

    def __init__(
        self, repository: Repository, point: RecoveryPoint, *, heartbeat_index: str, now: datetime, progress: Progress
    ) -> None:
        token = secrets.token_hex(3)
        self._repository = repository
        self._cluster: Cluster = repository.cluster
        self._point = point
        self._heartbeat_index = heartbeat_index
        self._now = now
        self._progress = progress
        self._prefix = verification_prefix(now, token)
        self._alias = f"{repository.name}-{self._prefix.rstrip('-')}"

    def run(self, stopwatch: Stopwatch) -> TestedRestore:
        """Restores, checks, removes.

        Raises:
            VerificationError: the snapshot cannot be read at all; the message names the damaged file.
            RefusedError: the cluster has too little room.
            BackupError: the cluster, not the snapshot, is at fault.
        """
        with stopwatch.phase("prepare"):
            self._remove(abandoned(existing(self._cluster, "verify-*"), self._now))
            wanted = int(self._point.size_bytes * DISK_FACTOR)
            refuse_without_room(self._cluster, wanted, what=f"restoring {self._point.id}")
        try:
            with self._repository.afresh(self._alias) as fresh:
                with stopwatch.phase("read snapshot"):
                    snapshot = self._read(fresh)
                with stopwatch.phase("restore"):
                    restored = self._restore(fresh, snapshot)
            with stopwatch.phase("check"):
                return self._check(snapshot, restored)
        finally:
            with stopwatch.phase("clean up"), suppress(BackupError):
                # Only names with this test's own token; a cluster that is gone now is told by the next test, which
                # also removes what this one leaves.
                self._remove(existing(self._cluster, f"{self._prefix}*"))

    def _read(self, fresh: Repository) -> Snapshot:
        try:
            snapshot = Snapshots(fresh).get(self._point.id)
        except ClusterError as error:
            if is_damage(error.reason):
                raise VerificationError(_unreadable(self._point.id, error.reason)) from error
            raise
        if snapshot is None:
            raise VerificationError(f"the repository holds no snapshot {self._point.id}")
        if snapshot.outcome is not SnapshotOutcome.COMPLETE:
            raise VerificationError(f"the snapshot {snapshot.name} is {snapshot.outcome.value}: {snapshot.failures}")
        return snapshot

    def _restore(self, fresh: Repository, snapshot: Snapshot) -> _Restored:
        started, damage = self._start(fresh, snapshot)
        if not started:
            return _Restored(indices={}, damage=damage)
        targets = {index: f"{self._prefix}{index}" for index in started}
        shards = wait_for_shards(self._cluster, tuple(targets.values()), self._tell)
        for failure in shards.failures:
            if not failure.is_damage:
                raise BackupError(f"the cluster could not restore {failure.line()}", mend="see the cluster's log")
        broken = {failure.index for failure in shards.failures}
        return _Restored(
            indices={index: target for index, target in targets.items() if target not in broken},
            damage=(*damage, *(failure.line().removeprefix(self._prefix) for failure in shards.failures)),
        )

    def _start(self, fresh: Repository, snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Starts all indices; when a damaged one keeps the others from starting, each on its own.

        Returns:
            the indices that were started, and a line for each that could not be.
        """
        try:
            self._request(fresh, snapshot, snapshot.indices)
        except ClusterError as error:
            if not is_damage(error.reason):
                raise
        else:
            return snapshot.indices, ()
        started: list[str] = []
        damage: list[str] = []
        for index in snapshot.indices:
            try:
                self._request(fresh, snapshot, (index,))
                started.append(index)
            except ClusterError as error:
                if not is_damage(error.reason):
                    raise
                damage.append(f"{index} {damaged_file(error.reason)}: {error.reason[:300]}")
        return tuple(started), tuple(damage)

    def _request(self, fresh: Repository, snapshot: Snapshot, indices: Sequence[str]) -> None:
        request_restore(
            fresh,
            snapshot.name,
            indices,
            rename=("(.+)", f"{self._prefix}$1"),
            # An alias would send the users of the live index to this copy.
            aliases=False,
            ignored_settings=(*SETTINGS_THAT_STAY, *LIFECYCLE_SETTINGS),
            settings={"index.number_of_replicas": 0, "index.auto_expand_replicas": "false"},
        )

    def _check(self, snapshot: Snapshot, restored: _Restored) -> TestedRestore:
        counted = {
            index: found
            for index, target in restored.indices.items()
            for found in noted.count(self._cluster, (target,)).values()
        }
        heartbeat_copy = restored.indices.get(self._heartbeat_index)
        heartbeat = noted.newest_heartbeat(self._cluster, heartbeat_copy) if heartbeat_copy else None
        checks = [
            self._check_identity(snapshot),
            _check(
                "shards",
                restored.damage,
                f"every primary of {len(restored.indices)} indices was restored and has its checksums",
            ),
            self._check_documents(snapshot, counted),
            self._check_samples(restored.indices),
        ]
        if "heartbeat" in self._point.facts:
            checks.append(self._check_heartbeat(heartbeat))
        return TestedRestore(checks=tuple(checks), newest_heartbeat=heartbeat)

    def _check_identity(self, snapshot: Snapshot) -> Check:
        expected = self._point.facts.get("snapshot_uuid", snapshot.uuid)
        problems = [f"{snapshot.name} is {snapshot.uuid}, the run took {expected}"] if snapshot.uuid != expected else []
        if not snapshot.indices:
            problems.append(f"{snapshot.name} holds no index")
        return _check("snapshot", problems, f"{snapshot.name} ({snapshot.uuid}) with {len(snapshot.indices)} indices")

    def _check_documents(self, snapshot: Snapshot, counted: Mapping[str, Counted]) -> Check:
        expected = noted.expected_counts(self._point.facts)
        total = sum(found.documents for found in counted.values())
        if not expected:
            return self._check_totals(counted)
        problems = [f"{index}: not in the snapshot" for index in expected if index not in snapshot.indices]
        for index, before in expected.items():
            if index in counted:
                problem = count_problem(before, counted[index])
                problems += [f"{index}: {problem}"] if problem else []
            elif index in snapshot.indices:
                problems.append(f"{index}: not restored")
        return _check("documents", problems, f"{total} documents in {len(counted)} indices, as the run counted")

    def _check_totals(self, counted: Mapping[str, Counted]) -> Check:
        """For a point that registration found: its run ended before it could tell more than the snapshot holds."""
        facts = self._point.facts
        if "total_documents" not in facts:
            return Check(
                name="documents", passed=False, detail=f"{self._point.id} carries no counts: it was not taken by us"
            )
        before = Counted(documents=int(facts["total_documents"]), operations=int(facts.get("total_operations", 0)))
        found = Counted(
            documents=sum(item.documents for item in counted.values()),
            operations=sum(item.operations for item in counted.values()),
        )
        problem = count_problem(before, found)
        return _check(
            "documents", [problem] if problem else [], f"{found.documents} documents in all, as the snapshot says"
        )

    def _check_samples(self, indices: Mapping[str, str]) -> Check:
        problems: list[str] = []
        compared = 0
        for index, digests in noted.expected_samples(self._point.facts).items():
            if index not in indices:
                problems.append(f"{index}: not restored")
                continue
            found = noted.find_samples(self._cluster, indices[index], tuple(digests))
            compared += len(digests)
            for key, digest in sorted(digests.items()):
                if key not in found:
                    problems.append(f"{index}/{key}: missing")
                elif found[key].digest != digest:
                    problems.append(f"{index}/{key}: another content")
        return _check("samples", problems, f"{compared} sampled documents are equal")

    def _check_heartbeat(self, found: datetime | None) -> Check:
        expected = parse_time(str(self._point.facts["heartbeat"]))
        problems: list[str] = []
        if found is None:
            problems.append(f"{self._heartbeat_index}: no heartbeat was restored")
        elif found < expected:
            problems.append(f"{self._heartbeat_index}: {format_time(found)}, the run saw {format_time(expected)}")
        return _check("heartbeat", problems, f"{format_time(found)}" if found else "")

    def _tell(self, line: str) -> None:
        self._progress(line.replace(self._prefix, ""))

    def _remove(self, indices: Sequence[str]) -> None:
        for batch in in_batches(indices):
            self._cluster.delete(batch, what="removing what the restore test has restored")


def _check(name: str, problems: Sequence[str], fine: str) -> Check:
    if not problems:
        return Check(name=name, passed=True, detail=fine)
    more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
    return Check(name=name, passed=False, detail="; ".join(problems[:_TOLD]) + more)


def _unreadable(name: str, reason: str) -> str:
    file = damaged_file(reason) or TABLE_OF_CONTENTS
    return f"the snapshot {name} cannot be read: {file} is damaged ({reason[:300]})"
