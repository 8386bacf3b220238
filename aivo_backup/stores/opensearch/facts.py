"""What a run notes about the indices, and a restore test must find again.

Facts of a recovery point::

    snapshot_uuid            OpenSearch's own identity of the snapshot
    documents.<index>        documents counted just before the snapshot
    operations.<index>       operations written to the index by then (sequence numbers of its primaries)
    shards.<index>           JSON: for each primary, the history that numbers its operations and how many they were
    samples.<index>          JSON: document id to the first 16 hexadecimal digits of the SHA-256 of its source
    heartbeat                the heartbeat that the index held then
    total_documents, total_operations, total_bytes    sums; also in the snapshot's own metadata
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aivo_backup.catalog.records import Fact
from aivo_backup.policy.codec import parse_time
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster, in_batches
from aivo_backup.stores.opensearch.states import Counted, ShardHistory, histories

# All samples of one run go into one record.
_SAMPLES_OF_A_RUN = 2_000

HEARTBEAT_ID = "heartbeat"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One document: the sequence number of its last change, and the digest of its source."""

    seq_no: int
    digest: str


def digest(source: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a document's source, independent of the order of keys."""
    text = json.dumps(source, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def samples_per_index(wanted: int, indices: int) -> int:
    """How many documents of each index are sampled: what is wanted, as far as one record holds it, at least one."""
    return max(1, min(wanted, _SAMPLES_OF_A_RUN // max(indices, 1)))


def count(cluster: Cluster, indices: Sequence[str]) -> dict[str, Counted]:
    """Counts the documents of open indices, with the operations written to each before the count."""
    counted: dict[str, Counted] = {}
    what = "counting documents"
    for batch in in_batches(indices):
        # Order matters: operations first, so that each write after them is known as one that the count may lack.
        stats = cluster.get(batch, "_stats", "docs", what=what, params={"level": "shards"})
        cluster.post(batch, "_refresh", what=what)
        for index in batch.split(","):
            documents = int(cluster.get(index, "_count", what=f"{what} of {index}")["count"])
            shards = histories(stats["indices"].get(index, {}).get("shards", {}))
            counted[index] = Counted(
                documents=documents, operations=sum(shard.operations for shard in shards), shards=shards
            )
    return counted


def choose_samples(cluster: Cluster, index: str, number: int, seed: int) -> dict[str, Sample]:
    """A random choice of documents, another one for another seed. Documents without a source are left out."""
    query: dict[str, Any] = {
        "function_score": {"query": {"match_all": {}}, "random_score": {"seed": seed, "field": "_seq_no"}}
    }
    return _search(cluster, index, query, number)


def find_samples(cluster: Cluster, index: str, ids: Sequence[str]) -> dict[str, Sample]:
    """The named documents, as far as they exist. By search, since a lookup by id would need each one's routing."""
    return _search(cluster, index, {"ids": {"values": list(ids)}}, len(ids))


def _search(cluster: Cluster, index: str, query: Mapping[str, Any], size: int) -> dict[str, Sample]:
    if size == 0:
        return {}
    body = {"size": size, "seq_no_primary_term": True, "track_total_hits": False, "query": query}
    answer = cluster.post(index, "_search", what=f"sampling documents of {index}", body=body)
    return {
        hit["_id"]: Sample(seq_no=int(hit["_seq_no"]), digest=digest(hit["_source"]))
        for hit in answer["hits"]["hits"]
        if "_source" in hit
    }


def store_bytes(cluster: Cluster, indices: Sequence[str]) -> int:
    """Bytes of the primaries of open indices."""
    answers = (cluster.get(batch, "_stats", "store", what="measuring the indices") for batch in in_batches(indices))
    return sum(int(answer["_all"]["primaries"]["store"]["size_in_bytes"]) for answer in answers)


def unchanged(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> dict[str, str]:
    """Digests of the documents that no write touched while the snapshot was taken."""
    return {key: sample.digest for key, sample in before.items() if after.get(key) == sample}


def newest_heartbeat(cluster: Cluster, index: str) -> datetime | None:
    """The heartbeat that an index holds; None when the index or the document is missing or holds no time."""
    try:
        hit = cluster.get(index, "_doc", HEARTBEAT_ID, what=f"reading the heartbeat of {index}")
        return parse_time(str(hit["_source"]["at"]))
    except ClusterError as error:
        if error.status == 404:
            return None
        raise
    except (KeyError, ValueError):
        return None


def as_facts(
    counted: Mapping[str, Counted], samples: Mapping[str, Mapping[str, str]], *, heartbeat: str
) -> dict[str, Fact]:
    """The facts of one run, without those that only the snapshot tells."""
    facts: dict[str, Fact] = {}
    for index, number in counted.items():
        facts[f"documents.{index}"] = number.documents
        facts[f"operations.{index}"] = number.operations
        if number.shards:
            told = {str(shard.shard): [shard.history, shard.operations] for shard in number.shards}
            facts[f"shards.{index}"] = json.dumps(told, separators=(",", ":"))
    for index, digests in samples.items():
        if digests:
            facts[f"samples.{index}"] = json.dumps(digests, sort_keys=True, ensure_ascii=False)
    if heartbeat:
        facts["heartbeat"] = heartbeat
    return {**facts, **totals(counted)}


def totals(counted: Mapping[str, Counted]) -> dict[str, Fact]:
    """Sums over all indices; small enough for the snapshot's own metadata, which is limited to 1,024 bytes."""
    return {
        "total_documents": sum(number.documents for number in counted.values()),
        "total_operations": sum(number.operations for number in counted.values()),
    }


def expected_counts(facts: Mapping[str, Fact]) -> dict[str, Counted]:
    """The counts that facts hold, by index. Points of older versions do not tell the histories of the shards."""
    return {
        index: Counted(
            documents=int(value),
            operations=int(facts.get(f"operations.{index}", 0)),
            shards=_histories(str(facts.get(f"shards.{index}", "{}"))),
        )
        for key, value in facts.items()
        if (index := key.removeprefix("documents.")) != key
    }


def _histories(text: str) -> tuple[ShardHistory, ...]:
    return tuple(
        ShardHistory(shard=int(shard), history=str(history), operations=int(operations))
        for shard, (history, operations) in json.loads(text).items()
    )


def expected_samples(facts: Mapping[str, Fact]) -> dict[str, dict[str, str]]:
    """The digests that facts hold, by index and document id."""
    return {
        key.removeprefix("samples."): json.loads(str(value))
        for key, value in facts.items()
        if key.startswith("samples.")
    }
