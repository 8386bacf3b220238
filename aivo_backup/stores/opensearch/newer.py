"""What production holds that a recovery point does not: told before a restore, without restoring anything."""

from dataclasses import dataclass

from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.opensearch.documents import number_of, settle
from aivo_backup.stores.opensearch.states import Counted, histories


@dataclass(frozen=True, kw_only=True)
class Newer:
    """One index of production against a point.

    Attributes:
        index: its name.
        present: documents that it holds now.
        held: documents that the point holds; None when the point does not tell.
        written: how many of the present ones were written, new or changed, since the point was counted; None when
            sequence numbers cannot tell, because the index was made anew or restored since, or the point is older
            than such notes.
    """

    index: str
    present: int
    held: int | None
    written: int | None

    @property
    def surely_none(self) -> bool:
        """Nothing would be lost."""
        return self.written == 0 or self.present == 0

    def line(self) -> str:
        """One line for a person."""
        then = "an unknown number" if self.held is None else str(self.held)
        if self.written is not None:
            return f"{self.index}: {self.written} of its {self.present} documents were written since the point"
        return (
            f"{self.index}: it was made anew or restored since, so any of its {self.present} documents may be newer "
            f"(the point holds {then})"
        )


def newer_than(cluster: Cluster, index: str, held: Counted | None) -> Newer:
    """Counts the documents of an open index that were written since a point was counted.

    Every write takes the next sequence number of its shard, and a snapshot holds all numbers up to those that its run
    had noted: documents with a later one are new or changed.

    Raises:
        BackupError: a shard does not answer.
    """
    what = f"counting what is newer in {index}"
    settle(cluster, index)
    present = number_of(cluster, index)
    stats = cluster.get(index, "_stats", "docs", what=what, params={"level": "shards"})
    now = histories(stats["indices"].get(index, {}).get("shards", {}))
    then = {shard.shard: shard for shard in held.shards} if held else {}
    known = bool(now) and all(
        shard.history and shard.shard in then and then[shard.shard].history == shard.history for shard in now
    )
    written = None
    if known and len(now) == len(then):
        written = 0
        for shard in now:
            since = then[shard.shard].operations
            if shard.operations > since:  # otherwise the shard has seen no write: nothing to search for
                later = {"range": {"_seq_no": {"gte": since}}}
                written += number_of(cluster, index, query=later, shard=shard.shard)
    return Newer(index=index, present=present, held=held.documents if held else None, written=written)
