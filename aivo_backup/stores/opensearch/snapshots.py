"""Takes snapshots and lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aivo_backup.errors import AccessDeniedError, BackupError, UnreachableError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.names import snapshot_name
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.states import SnapshotOutcome, outcome, snapshot_failures
from aivo_backup.stores.port import PartialBackupError, Progress

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# A cluster that restarts a node, or a proxy that answers 503, must not cost a snapshot that goes on meanwhile.
_PATIENCE_SECONDS = 120.0
_DELETION_SECONDS = 600.0


class PartialSnapshotError(PartialBackupError):
    """The snapshot ended without some shards. It is no recovery point; the run is *partial*."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One snapshot as the repository tells it.

    Attributes:
        uuid: OpenSearch's identity of it; a name can be used again, this cannot.
        indices: names as they were, indices of data streams among them.
        started: UTC; every write acknowledged before it is in.
        metadata: what the run wrote into it; empty for one taken by other means.
        failures: the shards it lacks and why, in one line.
    """

    name: str
    uuid: str
    outcome: SnapshotOutcome
    indices: tuple[str, ...]
    data_streams: tuple[str, ...]
    started: datetime
    metadata: Mapping[str, Any]
    failures: str

    @property
    def kind(self) -> BackupKind:
        """Its retention class; one that was taken by other means counts as a daily one."""
        incremental = self.metadata.get("kind") == BackupKind.INCREMENTAL.value
        return BackupKind.INCREMENTAL if incremental else BackupKind.FULL


@dataclass(frozen=True, kw_only=True)
class SnapshotSize:
    """Bytes that a snapshot stands for, and those that it added to the repository."""

    total_bytes: int
    added_bytes: int


class Snapshots:
    """The snapshots of one repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._cluster = repository.cluster

    def names(self) -> frozenset[str]:
        """Every name that is taken, whatever became of the snapshot; the damaged ones too."""
        return frozenset(item["snapshot"] for item in self._list({"verbose": "false"}))

    def all(self) -> tuple[Snapshot, ...]:
        """Every snapshot whose own description can be read, oldest first."""
        # Without ignore_unavailable a single damaged description hides all the others.
        found = [_snapshot(item) for item in self._list({"ignore_unavailable": "true"})]
        return tuple(sorted(found, key=lambda item: (item.started, item.name)))

    def get(self, name: str, *, patience_seconds: float = 0.0) -> Snapshot | None:
        """One snapshot, or None when the repository holds none of that name.

        Raises:
            ClusterError: its description, or the repository's table of contents, cannot be read.
        """
        try:
            answer = self._cluster.get(
                "_snapshot",
                self._repository.name,
                name,
                what=f"reading the snapshot {name}",
                patience_seconds=patience_seconds,
            )
        except ClusterError as error:
            if error.kind == "snapshot_missing_exception":
                return None
            if error.kind == "repository_missing_exception":
                raise self._repository.unknown(error) from error
            raise
        return _snapshot(answer["snapshots"][0])

    def size(self, name: str) -> SnapshotSize:
        """Reads the description of every shard: for one snapshot, not for a list."""
        status = self._status(name)
        return SnapshotSize(
            total_bytes=int(status["stats"]["total"]["size_in_bytes"]),
            added_bytes=int(status["stats"]["incremental"]["size_in_bytes"]),
        )

    def sizes(self, name: str) -> dict[str, int]:
        """Bytes of each index of a snapshot; reads the description of every shard."""
        return {
            index: int(entry["stats"]["total"]["size_in_bytes"])
            for index, entry in self._status(name)["indices"].items()
        }

    def take(
        self, indices: Sequence[str], *, now: datetime, metadata: Mapping[str, Any], progress: Progress
    ) -> Snapshot:
        """Takes one snapshot of the named indices and data streams, and waits for its end.

        Raises:
            PartialSnapshotError: some shards are missing from it.
            BackupError: it failed.
        """
        name = self._start(indices, now=now, metadata=metadata)
        progress(f"snapshot {name} of {len(indices)} indices has started")
        snapshot = self._wait(name, progress)
        if snapshot.outcome is SnapshotOutcome.PARTIAL:
            raise PartialSnapshotError(
                f"the snapshot {name} is partial: {snapshot.failures}", mend="see the cluster's health, then run again"
            )
        if snapshot.outcome is not SnapshotOutcome.COMPLETE:
            raise BackupError(
                f"the snapshot {name} failed: {snapshot.failures}", mend="see OpenSearch's log, then run again"
            )
        return snapshot

    def delete(self, name: str) -> None:
        """Deletes one snapshot and the files that no other one uses; waits for its end. One that is gone stays so.

        Raises:
            ClusterError: OpenSearch refuses.
            UnreachableError: it does not answer, and has not deleted it after some patience either.
        """
        try:
            self._cluster.delete("_snapshot", self._repository.name, name, what=f"deleting the snapshot {name}")
        except ClusterError as error:
            if error.kind != "snapshot_missing_exception":
                raise
        except AccessDeniedError:
            raise
        except UnreachableError:
            # A large one takes longer than an answer may; the cluster goes on with it.
            self._wait_until_gone(name)

    def _wait_until_gone(self, name: str) -> None:
        waited = 0.0
        while self.get(name, patience_seconds=_PATIENCE_SECONDS) is not None:
            if waited >= _DELETION_SECONDS:
                raise UnreachableError(
                    f"the snapshot {name} is still there {_DELETION_SECONDS:.0f} s after its deletion was asked for",
                    mend="look at the cluster's tasks (GET _tasks?actions=*snapshot*), and run again",
                )
            self._cluster.sleep(_LONGEST_PAUSE_SECONDS)
            waited += _LONGEST_PAUSE_SECONDS

    def _start(self, indices: Sequence[str], *, now: datetime, metadata: Mapping[str, Any]) -> str:
        taken = set(self.names())
        while True:
            name = snapshot_name(now, taken)
            try:
                self._cluster.put(
                    "_snapshot",
                    self._repository.name,
                    name,
                    what=f"starting the snapshot {name}",
                    body={
                        "indices": list(indices),
                        "include_global_state": False,
                        # An index deleted since we listed it is not in the snapshot, and no reason to have none.
                        "ignore_unavailable": True,
                        # With partial false, one primary that is down would fail the run at once, without a word
                        # about the others; the outcome is judged by us either way.
                        "partial": True,
                        "metadata": dict(metadata),
                    },
                )
            except ClusterError as error:
                if error.kind == "invalid_snapshot_name_exception" and "already exists" in error.reason:
                    taken.add(name)
                    continue
                raise
            return name

    def _wait(self, name: str, progress: Progress) -> Snapshot:
        pause = _FIRST_PAUSE_SECONDS
        told = ""
        while True:
            snapshot = self.get(name, patience_seconds=_PATIENCE_SECONDS)
            if snapshot is None:
                raise BackupError(f"the snapshot {name} is gone", mend="somebody deleted it while it ran; run again")
            if snapshot.outcome is not SnapshotOutcome.RUNNING:
                return snapshot
            line = self._progress_line(name)
            if line != told:
                progress(line)
                told = line
            self._cluster.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)

    def _progress_line(self, name: str) -> str:
        status = self._status(name)
        shards, stats = status["shards_stats"], status["stats"]
        moved = int(stats.get("processed", {}).get("size_in_bytes", 0))
        return (
            f"snapshot {name}: {shards['done']} of {shards['total']} shards, "
            f"{moved / 1e6:.1f} of {int(stats['incremental']['size_in_bytes']) / 1e6:.1f} MB"
        )

    def _status(self, name: str) -> Mapping[str, Any]:
        answer = self._cluster.get(
            "_snapshot",
            self._repository.name,
            name,
            "_status",
            what=f"reading the state of the snapshot {name}",
            patience_seconds=_PATIENCE_SECONDS,
        )
        return answer["snapshots"][0]

    def _list(self, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
        try:
            answer = self._cluster.get(
                "_snapshot", self._repository.name, "_all", what="listing the snapshots", params=params
            )
        except ClusterError as error:
            if error.kind == "repository_missing_exception":
                raise self._repository.unknown(error) from error
            raise
        return answer["snapshots"]


def _snapshot(item: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        name=item["snapshot"],
        uuid=item["uuid"],
        outcome=outcome(item),
        indices=tuple(sorted(item.get("indices", ()))),
        data_streams=tuple(sorted(item.get("data_streams", ()))),
        started=datetime.fromtimestamp(int(item.get("start_time_in_millis", 0)) / 1000, tz=UTC),
        metadata=item.get("metadata") or {},
        failures=snapshot_failures(item),
    )
