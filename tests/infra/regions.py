"""S3 in two regions, from a plan's own JSON: versions, lifecycle, locks and replication as AWS documents them.

Nothing here is shared with the code that writes the rules. S3 counts in whole days: an action is due at the first
midnight UTC after the day count is over. A replica keeps the version id, the date and the lock of what it copies;
deletions for good are not replicated, and markers that S3's own lifecycle leaves are not either.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from tests.infra.plans import Plan

Rule = dict[str, Any]


class Region(Enum):
    """The suffix that the names of its resources have."""

    HOME = ""
    SECOND = "-replica"


@dataclass(frozen=True, kw_only=True)
class Written:
    """One version of one key, or a delete marker, as its writer left it."""

    key: str
    version: int
    at: datetime
    marker: bool = False


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What becomes of it in one region; None: that never happens.

    Attributes:
        arrived: since when it is there.
        superseded: from when on the lifecycle counts it as noncurrent.
        hidden: since when a reader of the key does not see it any more.
        gone: when it is removed for good.
    """

    written: Written
    arrived: datetime
    superseded: datetime | None
    hidden: datetime | None
    gone: datetime | None

    def there(self, moment: datetime) -> bool:
        return self.arrived <= moment and (self.gone is None or moment < self.gone)

    def current(self, moment: datetime) -> bool:
        return not self.written.marker and self.there(moment) and (self.hidden is None or moment < self.hidden)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket's lifecycle and lock. A version that comes with no lock of its own has the bucket's."""

    rules: Sequence[Rule]
    lock_days: int = 0

    @staticmethod
    def of(plan: Plan, name: str) -> "Bucket":
        """The bucket whose resources are called ``name``: its use, and the region's suffix."""
        locks = {
            entry.name: entry.inputs["rule"]["defaultRetention"]["days"]
            for entry in plan.all(":BucketObjectLockConfiguration")
        }
        rules = plan.one(":BucketLifecycleConfiguration", f"{name}-lifecycle").inputs["rules"]
        return Bucket(rules=rules, lock_days=locks.get(f"{name}-lock", 0))

    def fates(self, history: Sequence[tuple[Written, datetime]], lock_days: int | None = None) -> list[Fate]:
        """What becomes of all versions of one key, each with its arrival, the oldest first."""
        locked = timedelta(days=self.lock_days if lock_days is None else lock_days)
        fates: list[Fate] = []
        for position, (written, arrived) in enumerate(history):
            after = history[position + 1] if position + 1 < len(history) else None
            expires = None if written.marker else self._expires(written)
            superseded = _earlier(expires, after and after[0].at)
            hidden = _earlier(expires, after and after[1])
            gone = self._lone(written, fates) if superseded is None else self._removed(written, superseded, locked)
            gone = gone and max(gone, arrived)
            fates.append(Fate(written=written, arrived=arrived, superseded=superseded, hidden=hidden, gone=gone))
        return fates

    def _expires(self, written: Written) -> datetime | None:
        days = self._days(written.key, "expiration", "days")
        return _midnight_after(written.at + timedelta(days=min(days))) if days else None

    def _removed(self, written: Written, superseded: datetime, locked: timedelta) -> datetime | None:
        days = self._days(written.key, "noncurrentVersionExpiration", "noncurrentDays")
        if not days:
            return None
        due = superseded + timedelta(days=min(days))
        # A locked version waits until its lock is over; nobody needs to lock a marker.
        return _midnight_after(due if written.marker else max(due, written.at + locked))

    def _lone(self, written: Written, older: Sequence[Fate]) -> datetime | None:
        """A marker that hides nothing any more goes, if a rule says so; what is current and no marker stays."""
        cleared = self._days(written.key, "expiration", "expiredObjectDeleteMarker")
        left = [fate.gone for fate in older]
        if not written.marker or not any(cleared) or None in left:
            return None
        return _midnight_after(max((moment for moment in left if moment), default=written.at))

    def _days(self, key: str, action: str, number: str) -> list[int]:
        return [
            rule[action][number]
            for rule in self.rules
            if rule["status"] == "Enabled"
            and key.startswith(rule["filter"]["prefix"])
            and number in rule.get(action, {})
        ]


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _midnight_after(moment: datetime) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day == moment else day + timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Stall:
    """What is written between the two moments reaches the second region at the end only."""

    begins: datetime
    ends: datetime


LAG = timedelta(minutes=5)
"""What a copy usually takes."""


class Shelf:
    """One bucket and its copy: everything that anybody ever wrote to it, whatever its rules are."""

    def __init__(self, use: str, stalls: Sequence[Stall] = ()) -> None:
        self._use = use
        self._stalls = stalls
        self._keys: dict[str, list[Written]] = defaultdict(list)
        self._number = 0

    def put(self, key: str, at: datetime) -> int:
        """Writes a version; answers its id."""
        return self._write(key, at, marker=False)

    def delete(self, key: str, at: datetime) -> int:
        """Leaves a delete marker."""
        return self._write(key, at, marker=True)

    def seen(self, region: Region, moment: datetime) -> datetime:
        """Everything that was written up to that moment has to be there by ``moment``."""
        if region is Region.HOME:
            return moment
        stalled = [stall.begins for stall in self._stalls if stall.begins <= moment < stall.ends + LAG]
        return min([moment - LAG, *stalled])

    def fates(self, plan: Plan, region: Region) -> list[Fate]:
        """What becomes of everything, all keys together, under a plan's rules."""
        bucket, home = (Bucket.of(plan, f"{self._use}{each.value}") for each in (region, Region.HOME))
        rules: list[Rule] = plan.one(":BucketReplicationConfig", f"{self._use}-replication").inputs["rules"]
        found: list[Fate] = []
        for history in self._keys.values():
            there = [
                each for each in history if region is Region.HOME or any(_replicates(rule, each) for rule in rules)
            ]
            # The lock travels with the version.
            found += bucket.fates([(each, self._arrives(region, each)) for each in there], home.lock_days or None)
        return found

    def _write(self, key: str, at: datetime, *, marker: bool) -> int:
        history = self._keys[key]
        assert not history or history[-1].at <= at, f"{key} is written in the past"
        self._number += 1
        history.append(Written(key=key, version=self._number, at=at, marker=marker))
        return self._number

    def _arrives(self, region: Region, written: Written) -> datetime:
        if region is Region.HOME:
            return written.at
        return LAG + max([written.at, *(each.ends for each in self._stalls if each.begins <= written.at < each.ends)])


def _replicates(rule: Rule, written: Written) -> bool:
    if rule["status"] != "Enabled" or not written.key.startswith(rule["filter"]["prefix"]):
        return False
    if written.marker:
        return rule.get("deleteMarkerReplication", {}).get("status") == "Enabled"
    # Every bucket that is copied is under KMS, and S3 leaves such objects out unless told.
    criteria = rule.get("sourceSelectionCriteria", {}).get("sseKmsEncryptedObjects", {})
    return criteria.get("status") == "Enabled"


@dataclass(frozen=True)
class View:
    """What one region shows at one moment."""

    current: frozenset[str]
    versions: frozenset[int]


def views(fates: Sequence[Fate], moments: Sequence[datetime]) -> Iterator[View]:
    """What is there at each moment."""
    for moment in moments:
        there = [fate for fate in fates if fate.there(moment)]
        yield View(
            frozenset(fate.written.key for fate in there if fate.current(moment)),
            frozenset(fate.written.version for fate in there),
        )
