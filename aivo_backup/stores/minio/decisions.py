"""What a run does with each object, from ordered streams: the source's listing, the last manifest, the target's.

The deletion guard needs the count of deletions before anything is changed. So decisions are held back (beyond a
while on disk) until so many of the last point's objects were found again that the guard can no longer stop the run,
and flow freely from then on: the listing is read once, and copying overlaps with it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from aivo_backup.errors import RefusedError
from aivo_backup.policy.names import MINIO_DATA_PREFIX
from aivo_backup.stores.minio.manifest import Entry, target_key
from aivo_backup.stores.minio.objects import AbsentError, ListedObject, ListedVersion, ObjectStore
from aivo_backup.stores.minio.ordered import VersionCursor, ordered_objects
from aivo_backup.stores.minio.points import Recorded
from aivo_backup.stores.minio.spool import Spool


class Action(StrEnum):
    """What is done with one key."""

    KEEP = "keep"
    """Unchanged: the entry is carried over with its version."""
    COMPARE = "compare"
    """Same ETag and size, other time: rewritten with the same bytes, or with other metadata; its headers tell."""
    COPY = "copy"
    """New or changed."""
    REPAIR = "repair"
    """Unchanged at the source; its version at the target is missing, wrong, or no longer the current one."""
    REMOVE = "remove"
    """Gone at the source: a delete marker at the target."""
    CLEAR = "clear"
    """At the target, but in no point and not at the source: left by a run that died. A delete marker."""
    FORGET = "forget"
    """Gone for longer: the last point lacks it too; only an increment's manifest says so again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One key and what is done with it.

    Attributes:
        listed: the object at the source; None for REMOVE, CLEAR and FORGET.
        recorded: what the last point says; None when it says nothing.
        salvaged: what a run that died has copied of this very object; kept in place of what the last point says.
        target_key: of the object in the backup bucket.
    """

    action: Action
    bucket: str
    key: str
    target_key: str
    listed: ListedObject | None = None
    recorded: Recorded | None = None
    salvaged: Entry | None = None

    @property
    def entry(self) -> Entry | None:
        """The last point's entry."""
        return self.recorded.entry if self.recorded else None

    @property
    def kept(self) -> Entry | None:
        """The entry that is carried over, if the object is kept."""
        return self.salvaged or self.entry


def source_listing(source: ObjectStore, buckets: Iterable[str]) -> Iterator[tuple[str, ListedObject]]:
    """The current objects of all buckets, ordered by bucket and key."""
    for bucket in sorted(buckets):
        for listed in ordered_objects(source, bucket):
            yield bucket, listed


def decide(listing: Iterator[tuple[str, ListedObject]], last: Iterator[Recorded]) -> Iterator[Decision]:
    """Merges the source's listing with the last point, both ordered by bucket and key."""
    found, known = next(listing, None), next(last, None)
    while found is not None or known is not None:
        found_at = (found[0], found[1].key) if found else None
        known_at = (known.bucket, known.key) if known else None
        if known is not None and (found_at is None or (known_at is not None and known_at < found_at)):
            yield _absent(known)
            known = next(last, None)
        elif found is not None:
            same = found_at == known_at
            yield _present(found[0], found[1], known if same else None)
            found = next(listing, None)
            known = next(last, None) if same else known


def _absent(known: Recorded) -> Decision:
    return Decision(
        action=Action.REMOVE if known.entry else Action.FORGET,
        bucket=known.bucket,
        key=known.key,
        target_key=known.entry.target_key if known.entry else target_key(known.bucket, known.key),
        recorded=known,
    )


def _present(bucket: str, listed: ListedObject, known: Recorded | None) -> Decision:
    entry = known.entry if known else None
    if entry is None or (entry.etag, entry.size) != (listed.etag, listed.size):
        action = Action.COPY
    elif entry.last_modified != listed.last_modified:
        action = Action.COMPARE
    else:
        action = Action.KEEP
    return Decision(
        action=action,
        bucket=bucket,
        key=listed.key,
        target_key=target_key(bucket, listed.key),
        listed=listed,
        recorded=known,
    )


def resumed(decisions: Iterator[Decision], abandoned: Iterator[Entry]) -> Iterator[Decision]:
    """Keeps what a run that died had copied, where the source has not changed since; both are in order."""
    copied = next(abandoned, None)
    for decision in decisions:
        while copied is not None and (copied.bucket, copied.key) < (decision.bucket, decision.key):
            copied = next(abandoned, None)
        at_hand = copied is not None and (copied.bucket, copied.key) == (decision.bucket, decision.key)
        if copied is not None and at_hand and decision.action is Action.COPY and _is_of(copied, decision.listed):
            yield replace(decision, action=Action.KEEP, salvaged=copied)
        else:
            yield decision


def _is_of(entry: Entry, listed: ListedObject | None) -> bool:
    return listed is not None and (entry.etag, entry.size, entry.last_modified) == (
        listed.etag,
        listed.size,
        listed.last_modified,
    )


def audited(decisions: Iterator[Decision], target: ObjectStore, target_bucket: str) -> Iterator[Decision]:
    """Holds the decisions against what the target really has.

    An object is kept only if its version is there, with the size and ETag that were written, and is the *current*
    one: S3 expires versions that are not, however many manifests name them. Current objects that nobody knows are
    cleared. The target is listed bucket by bucket, because with the slash after the name buckets order differently.
    """
    strangers = iter(target.folders(target_bucket, MINIO_DATA_PREFIX))
    stranger = next(strangers, None)
    for bucket, group in groupby(decisions, key=lambda decision: decision.bucket):
        while stranger is not None and stranger <= bucket:
            if stranger < bucket:
                yield from _audited_bucket(iter(()), stranger, target, target_bucket)
            stranger = next(strangers, None)
        yield from _audited_bucket(group, bucket, target, target_bucket)
    while stranger is not None:
        yield from _audited_bucket(iter(()), stranger, target, target_bucket)
        stranger = next(strangers, None)


def _audited_bucket(
    decisions: Iterator[Decision], bucket: str, target: ObjectStore, target_bucket: str
) -> Iterator[Decision]:
    prefix = f"{MINIO_DATA_PREFIX}{bucket}/"
    cursor = VersionCursor(target, target_bucket, prefix)
    for decision in decisions:
        if not decision.target_key.startswith(MINIO_DATA_PREFIX):
            yield _audited_alone(decision, target, target_bucket)
            continue
        for group in cursor.before(decision.target_key):
            if group.latest is not None:
                yield _cleared(bucket, group.key, prefix)
        group = cursor.at(decision.target_key)
        found = group.find(decision.kept.version_id) if group and decision.kept else None
        yield _held_against(decision, found)
    for group in cursor.rest():
        if group.latest is not None:
            yield _cleared(bucket, group.key, prefix)


def _audited_alone(decision: Decision, target: ObjectStore, target_bucket: str) -> Decision:
    """For the few keys too long to be mirrored: they are not in the listing's order, so each is asked for."""
    found = None
    if decision.action in (Action.KEEP, Action.COMPARE) and decision.kept:
        try:
            current = target.info(target_bucket, decision.target_key)
        except AbsentError:
            current = None
        if current is not None and current.version_id == decision.kept.version_id:
            found = ListedVersion(
                key=decision.target_key,
                version_id=current.version_id,
                size=current.size,
                etag=current.etag,
                is_latest=True,
                is_marker=False,
            )
    return _held_against(decision, found)


def _held_against(decision: Decision, found: ListedVersion | None) -> Decision:
    entry = decision.kept
    if decision.action not in (Action.KEEP, Action.COMPARE) or entry is None:
        return decision
    if found and found.is_latest and (found.size, found.etag) == (entry.size, entry.target_etag):
        return decision
    return replace(decision, action=Action.REPAIR, salvaged=None)


def _cleared(bucket: str, key: str, prefix: str) -> Decision:
    return Decision(action=Action.CLEAR, bucket=bucket, key=key.removeprefix(prefix), target_key=key)


@dataclass(kw_only=True)
class DeletionGuard:
    """Stops a run whose source lost more than a share of the last point's objects.

    Attributes:
        point: the last point, for the message; ``known`` is its number of objects.
        share: the largest share of them that may be gone.
        by_name: False when the last point's manifest is damaged, so that only numbers can be compared.
    """

    point: str
    known: int
    share: float
    by_name: bool = True
    _found: int = 0

    def count(self, decision: Decision, number: int = 1) -> None:
        """Takes a decision into account; ``number`` is -1 for an object that vanished before it was copied."""
        if decision.listed is not None and (decision.entry is not None or not self.by_name):
            self._found += number

    @property
    def lets_pass(self) -> bool:
        """Whether so many were found that all others may be gone."""
        # The small addend undoes what binary fractions take: 0.29 of 100 is 29.
        return self.known - self._found <= math.floor(self.known * self.share + 1e-9)

    def check(self) -> None:
        """Stops the run if too many are gone, once everything was counted.

        Raises:
            RefusedError: naming the numbers.
        """
        if not self.lets_pass:
            raise RefusedError(
                f"{self.known - self._found} of the {self.known} objects of the last point {self.point} are gone at "
                f"the source, more than the {self.share:.0%} that minio.deletion_guard_share allows; nothing was "
                "deleted",
                mend="check the source; if the deletion was meant, run the backup once with --accept-deletions",
            )


def guarded(decisions: Iterator[Decision], guard: DeletionGuard) -> Iterator[Decision]:
    """Lets decisions through only once the guard cannot stop the run any more.

    Raises:
        RefusedError: too many objects are gone; no decision was let through.
    """
    with Spool[Decision]() as held:
        for decision in decisions:
            guard.count(decision)
            held.add(decision)
            if guard.lets_pass:
                break
        guard.check()
        yield from held
    for decision in decisions:
        guard.count(decision)
        yield decision
