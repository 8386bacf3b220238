import json

from aivo_backup.stores.opensearch.facts import (
    Sample,
    as_facts,
    digest,
    expected_counts,
    expected_samples,
    samples_per_index,
    unchanged,
)
from aivo_backup.stores.opensearch.states import Counted, ShardHistory


def test_a_digest_depends_on_content_and_not_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": "é"}) == digest({"b": "é", "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert len(digest({})) == 16


def test_many_indices_share_what_one_record_holds_and_each_has_a_sample() -> None:
    assert samples_per_index(50, 2) == 50
    assert samples_per_index(50, 100) == 20
    assert samples_per_index(50, 5_000) == 1
    assert samples_per_index(50, 0) == 50


def test_a_document_that_changed_or_went_while_the_snapshot_ran_is_no_sample() -> None:
    before = {name: Sample(seq_no=1, digest="d") for name in ("stays", "changes", "goes")}
    after = {"stays": Sample(seq_no=1, digest="d"), "changes": Sample(seq_no=7, digest="d")}
    assert unchanged(before, after) == {"stays": "d"}


def test_facts_are_read_back_also_for_names_with_dots() -> None:
    counted = {"logs.2024": Counted(documents=3, operations=4), ".ds-x-000001": Counted(documents=1, operations=1)}
    samples = {"logs.2024": {"a b": "0123"}, ".ds-x-000001": dict[str, str]()}
    facts = as_facts(counted, samples, heartbeat="2024-08-20T04:00:00.000000Z")
    assert expected_counts(facts) == counted
    assert expected_samples(facts) == {"logs.2024": {"a b": "0123"}}
    assert (facts["total_documents"], facts["total_operations"]) == (4, 5)
    assert json.loads(json.dumps(facts)) == facts
    assert "heartbeat" not in as_facts({}, {}, heartbeat="")


def test_the_histories_of_shards_are_read_back() -> None:
    shards = (ShardHistory(shard=0, history="h0", operations=4), ShardHistory(shard=10, history="h10", operations=0))
    facts = as_facts({"i": Counted(documents=3, operations=4, shards=shards)}, {}, heartbeat="")
    assert expected_counts(facts)["i"].shards == shards
