from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivo_backup.stores.opensearch.states import (
    Counted,
    SnapshotOutcome,
    count_problem,
    damaged_file,
    histories,
    is_damage,
    outcome,
    recovery_progress,
    shard_progress,
    snapshot_failures,
)

SEGMENT = (
    "failed shard on node [n]: failed recovery, failure RecoveryFailedException[[verify-x-packages][0]: Recovery "
    "failed on {vm}]; nested: IndexShardRecoveryException[failed recovery]; nested: IndexShardRestoreFailedException"
    "[restore failed]; nested: IndexShardRestoreFailedException[failed to restore snapshot [s1/u]]; nested: "
    "CorruptIndexException[checksum failed (hardware problem?) : expected=1 actual=2 (resource=name [_1.cfs], length "
    "[2467580], checksum [1], writtenBy [10.3.2]) (resource=VerifyingIndexOutput(_1.cfs))]; "
)


@pytest.mark.parametrize(
    ("state", "failed", "means"),
    [
        ("SUCCESS", 0, SnapshotOutcome.COMPLETE),
        ("SUCCESS", 1, SnapshotOutcome.PARTIAL),
        ("PARTIAL", 1, SnapshotOutcome.PARTIAL),
        ("FAILED", 2, SnapshotOutcome.FAILED),
        ("INCOMPATIBLE", 0, SnapshotOutcome.FAILED),
        ("", 0, SnapshotOutcome.FAILED),
        ("IN_PROGRESS", 0, SnapshotOutcome.RUNNING),
    ],
)
def test_only_a_success_without_a_failed_shard_is_complete(state: str, failed: int, means: SnapshotOutcome) -> None:
    assert outcome({"state": state, "shards": {"total": 2, "failed": failed, "successful": 2 - failed}}) is means


def test_a_success_that_lost_count_of_a_shard_is_partial() -> None:
    shards = {"total": 3, "failed": 0, "successful": 2}
    assert outcome({"state": "SUCCESS", "shards": shards}) is SnapshotOutcome.PARTIAL


def test_missing_shards_are_named_and_many_are_summed_up() -> None:
    failures = [{"index": "a", "shard_id": n, "reason": "primary down"} for n in range(5)]
    told = "a[0]: primary down; a[1]: primary down; a[2]: primary down; and 2 more"
    assert snapshot_failures({"failures": failures}) == told
    assert snapshot_failures({}) == "no reason given"


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (SEGMENT, "_1.cfs"),
        ('CorruptIndexException: (resource=X(readBlob(blob="snap-abc.dat")))', "snap-abc.dat"),
        (r"CorruptStateException (blob=\"meta-abc.dat\")", "meta-abc.dat"),
        ("NoSuchFileException[/snapshots/indices/i/0/__blob]", "/snapshots/indices/i/0/__blob"),
        ("null_pointer_exception: Tried to resolve unknown index [packages]", "the table of contents (index-N)"),
        ("repository_exception: Unexpected exception when loading repository data", ""),
    ],
)
def test_damage_is_recognised_and_its_file_named(text: str, file: str) -> None:
    assert is_damage(text)
    assert damaged_file(text) == file


@pytest.mark.parametrize("text", ["no node has room", "IOException[No space left on device]", "access_denied"])
def test_what_the_cluster_lacks_is_no_damage_of_the_snapshot(text: str) -> None:
    assert not is_damage(text)


def row(state: str, *, shard: int = 0, prirep: str = "p", reason: str = "", details: str = "") -> dict[str, Any]:
    return {
        "index": "packages",
        "shard": str(shard),
        "prirep": prirep,
        "state": state,
        "unassigned.reason": reason,
        "unassigned.details": details,
    }


def test_a_restore_is_over_when_every_primary_started_or_failed() -> None:
    waiting = shard_progress([row("STARTED"), row("UNASSIGNED", shard=1, reason="NEW_INDEX_RESTORED")])
    assert (waiting.started, waiting.failures, waiting.over) == (1, (), False)
    failed = shard_progress([row("STARTED"), row("UNASSIGNED", shard=1, reason="ALLOCATION_FAILED", details=SEGMENT)])
    assert failed.over
    assert failed.failures[0].is_damage
    assert failed.failures[0].line().startswith("packages[1] _1.cfs: CorruptIndexException[checksum failed")
    with_replica = shard_progress([row("STARTED"), row("UNASSIGNED", prirep="r", reason="INDEX_CREATED")])
    assert (with_replica.total, with_replica.over) == (1, True)
    assert not shard_progress([]).over


def test_progress_is_summed_over_primaries_and_names_the_shards_at_work() -> None:
    def shard(number: int, stage: str, recovered: int, *, primary: bool = True) -> dict[str, Any]:
        size = {"total_in_bytes": 10_000_000, "recovered_in_bytes": recovered, "reused_in_bytes": 0, "percent": "50.0%"}
        return {"id": number, "stage": stage, "primary": primary, "index": {"size": size}}

    found = recovery_progress(
        {
            "a": {
                "shards": [
                    shard(0, "DONE", 10_000_000),
                    shard(1, "INDEX", 5_000_000),
                    shard(1, "INIT", 0, primary=False),
                ]
            }
        }
    )
    assert found.line() == "1 of 2 shards, 75 % of 20.0 MB (a[1] 50.0%)"


def test_operations_are_counted_on_primaries_and_an_empty_shard_has_none() -> None:
    def copy(highest: int, *, primary: bool) -> dict[str, Any]:
        return {"routing": {"primary": primary}, "seq_no": {"max_seq_no": highest}}

    shards = {"0": [copy(9, primary=True), copy(9, primary=False)], "1": [copy(-1, primary=True)]}
    assert [(shard.shard, shard.operations) for shard in histories(shards)] == [(0, 10), (1, 0)]


def test_without_writes_the_count_is_exact() -> None:
    before = Counted(documents=10, operations=12)
    assert count_problem(before, before) == ""
    assert "9 documents, but the run counted 10" in count_problem(before, Counted(documents=9, operations=12))
    assert "11 documents" in count_problem(before, Counted(documents=11, operations=12))


def test_an_older_state_is_told_even_when_the_count_is_equal() -> None:
    assert "an older state" in count_problem(Counted(documents=10, operations=12), Counted(documents=10, operations=11))


WRITES = st.lists(st.sampled_from(["add", "update", "delete"]), max_size=60)
MOMENTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))


@given(WRITES, MOMENTS)
def test_no_order_of_writes_fails_the_comparison_and_no_loss_beyond_them_passes(
    writes: list[str], moments: tuple[int, int, int]
) -> None:
    """The run reads the operations, then counts; writes go on; the snapshot holds all up to some later write."""
    operations_read, counted_at, snapshot_at = sorted(min(moment, len(writes)) for moment in moments)

    def documents(upto: int) -> int:
        held = 100
        for write in writes[:upto]:
            held += {"add": 1, "update": 0, "delete": -1}[write]
        return held

    before = Counted(documents=documents(counted_at), operations=1000 + operations_read)
    restored = Counted(documents=documents(snapshot_at), operations=1000 + snapshot_at)
    assert count_problem(before, restored) == ""
    between = snapshot_at - operations_read
    lost = Counted(documents=before.documents - between - 1, operations=restored.operations)
    assert count_problem(before, lost) != ""
