"""What OpenSearch's answers mean: states of snapshots and shards, damage, and counts. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

_RUNNING = {"INIT", "IN_PROGRESS", "STARTED", "ABORTED", "WAITING", "QUEUED"}

# The table of contents carries no checksum: with a damaged name in it, an index of the snapshot is unknown there.
_NOT_IN_TABLE = "Tried to resolve unknown index"
# What OpenSearch says of a file that cannot be what was written. Names in Java class form come from the reasons of
# unassigned shards, those in lower case from answers to requests.
_DAMAGE = (
    "CorruptIndexException",
    "CorruptStateException",
    "IndexFormatTooOldException",
    "IndexFormatTooNewException",
    "NoSuchFileException",
    "FileNotFoundException",
    "EOFException",
    "NoSuchKeyException",
    "SnapshotMissingException",
    "corrupt_state_exception",
    "corrupt_index_exception",
    "no_such_file_exception",
    "snapshot_missing_exception",
    "Unexpected exception when loading repository data",
    "Could not read repository data",
    "could not read repository data",
    "json_parse_exception",
    "parsing_exception",
    _NOT_IN_TABLE,
)
TABLE_OF_CONTENTS = "the table of contents (index-N)"
_FILE = re.compile(
    r"name \[([^\]]+)\]|blob=\\?\"([^\"\\]+)|VerifyingIndexOutput\(([^)]+)\)|NoSuchFileException\[([^\]]+)"
)
_CAUSE = re.compile(r"nested: (?!IndexShard|RecoveryFailed)(.*)", re.DOTALL)


class SnapshotOutcome(Enum):
    """What a snapshot's state means for us. Only ``COMPLETE`` is a recovery point."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


def outcome(snapshot: Mapping[str, Any]) -> SnapshotOutcome:
    """Judges one entry of ``GET _snapshot``: a state that says success and counts a failed shard is partial."""
    state = str(snapshot.get("state", ""))
    if state in _RUNNING:
        return SnapshotOutcome.RUNNING
    shards = snapshot.get("shards", {})
    if state == "PARTIAL":
        return SnapshotOutcome.PARTIAL
    if state != "SUCCESS":
        return SnapshotOutcome.FAILED
    whole = int(shards.get("failed", 0)) == 0 and int(shards.get("successful", 0)) == int(shards.get("total", 0))
    return SnapshotOutcome.COMPLETE if whole else SnapshotOutcome.PARTIAL


def snapshot_failures(snapshot: Mapping[str, Any]) -> str:
    """The shards that a snapshot lacks and why, in one line; at most three are told in full."""
    failures: list[Mapping[str, Any]] = list(snapshot.get("failures", ()))
    told = [f"{item.get('index')}[{item.get('shard_id')}]: {item.get('reason')}" for item in failures[:3]]
    if len(failures) > len(told):
        told.append(f"and {len(failures) - len(told)} more")
    return "; ".join(told) or str(snapshot.get("reason") or "no reason given")


def is_damage(text: str) -> bool:
    """True when OpenSearch's words say that stored files are missing or are not what was written."""
    return any(word in text for word in _DAMAGE)


def damaged_file(text: str) -> str:
    """The file that OpenSearch names in a failure, or an empty string.

    For data it is Lucene's own name (``_1.cfs``), for metadata the blob in the repository (``snap-….dat``).
    """
    if _NOT_IN_TABLE in text:
        return TABLE_OF_CONTENTS
    match = _FILE.search(text)
    return next((group for group in match.groups() if group), "") if match else ""


@dataclass(frozen=True, kw_only=True)
class ShardFailure:
    """One shard that could not be restored."""

    index: str
    shard: str
    reason: str

    @property
    def is_damage(self) -> bool:
        """The snapshot's files are at fault, not the cluster."""
        return is_damage(self.reason)

    def line(self) -> str:
        """``index[shard] file: reason``, for a check or an error."""
        file = damaged_file(self.reason)
        cause = _CAUSE.search(self.reason)
        reason = " ".join((cause[1] if cause else self.reason).split()).strip("; ")
        return f"{self.index}[{self.shard}]{f' {file}' if file else ''}: {reason[:400]}"


@dataclass(frozen=True, kw_only=True)
class ShardProgress:
    """How far the primaries of some indices are."""

    total: int
    started: int
    failures: tuple[ShardFailure, ...]

    @property
    def over(self) -> bool:
        """Nothing more will happen: every primary has started or has failed."""
        return self.total > 0 and self.started + len(self.failures) >= self.total


def shard_progress(rows: Iterable[Mapping[str, Any]]) -> ShardProgress:
    """Judges rows of ``_cat/shards`` (``index,shard,prirep,state,unassigned.reason,unassigned.details``).

    OpenSearch does not try a failed restore of a shard again: a primary that is unassigned because its allocation
    failed stays so.
    """
    total = started = 0
    failures: list[ShardFailure] = []
    for row in rows:
        if row.get("prirep") != "p":
            continue
        total += 1
        if row.get("state") in ("STARTED", "RELOCATING"):
            started += 1
        elif row.get("state") == "UNASSIGNED" and row.get("unassigned.reason") == "ALLOCATION_FAILED":
            failures.append(
                ShardFailure(
                    index=str(row.get("index")),
                    shard=str(row.get("shard")),
                    reason=str(row.get("unassigned.details") or "no reason given"),
                )
            )
    return ShardProgress(total=total, started=started, failures=tuple(failures))


@dataclass(frozen=True, kw_only=True)
class RecoveryProgress:
    """Bytes and shards of a restore so far, from ``_recovery``."""

    shards: int
    done: int
    bytes_total: int
    bytes_recovered: int
    active: tuple[str, ...]

    def line(self) -> str:
        """One line for a person: shards, share of the bytes, and the shards at work."""
        share = 100.0 * self.bytes_recovered / self.bytes_total if self.bytes_total else 0.0
        working = f" ({', '.join(self.active[:4])})" if self.active else ""
        return f"{self.done} of {self.shards} shards, {share:.0f} % of {self.bytes_total / 1e6:.1f} MB{working}"


def recovery_progress(answer: Mapping[str, Any]) -> RecoveryProgress:
    """Sums the primaries of a ``_recovery`` answer."""
    shards = done = total = recovered = 0
    active: list[str] = []
    for index, entry in sorted(answer.items()):
        for shard in entry.get("shards", ()):
            if not shard.get("primary"):
                continue
            size = shard.get("index", {}).get("size", {})
            shards += 1
            total += int(size.get("total_in_bytes", 0))
            recovered += int(size.get("recovered_in_bytes", 0)) + int(size.get("reused_in_bytes", 0))
            if shard.get("stage") == "DONE":
                done += 1
            else:
                active.append(f"{index}[{shard.get('id')}] {size.get('percent', '0%')}")
    return RecoveryProgress(
        shards=shards, done=done, bytes_total=total, bytes_recovered=recovered, active=tuple(active)
    )


@dataclass(frozen=True, kw_only=True)
class ShardHistory:
    """One primary's operations so far, and the history that numbers them.

    A later number is a later write as long as the history is the same one; OpenSearch begins another when an index is
    made anew or restored.
    """

    shard: int
    history: str
    operations: int


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Documents of an index and the operations that had been written to it, by its primaries' sequence numbers."""

    documents: int
    operations: int
    shards: tuple[ShardHistory, ...] = field(default=(), compare=False)


def histories(shards: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[ShardHistory, ...]:
    """Operations ever written to each primary, from an index's entry ``shards`` of ``_stats?level=shards``."""
    return tuple(
        ShardHistory(
            shard=int(shard),
            history=str(copy.get("commit", {}).get("user_data", {}).get("history_uuid", "")),
            operations=int(copy.get("seq_no", {}).get("max_seq_no", -1)) + 1,
        )
        for shard, copies in sorted(shards.items(), key=lambda entry: int(entry[0]))
        for copy in copies
        if copy.get("routing", {}).get("primary")
    )


def count_problem(before: Counted, restored: Counted) -> str:
    """What is wrong with a restored count; empty when it is right.

    The count was taken before the snapshot, and writes may have come in between. The restored index itself tells how
    many: its sequence numbers are those of the moment of the snapshot, and one operation changes the count by at
    most one. Without writes the comparison is exact.
    """
    between = restored.operations - before.operations
    if between < 0:
        return (
            f"{restored.documents} documents after {restored.operations} operations, but the run had already seen "
            f"{before.documents} after {before.operations}: an older state"
        )
    if abs(restored.documents - before.documents) > between:
        writes = f" and {between} writes came before the snapshot" if between else ""
        return f"{restored.documents} documents, but the run counted {before.documents}{writes}"
    return ""
