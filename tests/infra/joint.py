"""One history of all that is backed up, in both regions: three stores, their expiries, and what is locked beside them.

Every day the stores' jobs run with their mishaps, what retention no longer keeps is expired by the policy, and all
of it is written to S3's buckets as the stores would. What S3 then does by itself follows from a plan's rules. Whether
everything promised is still there, and nothing else, is judged by oracles that share no code with the policy.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from tests.infra.joint_points import Minio, OpenSearch
from tests.infra.joint_stores import LOOK_AFTER, Decisions, Luck, Numbers, Postgres, Store
from tests.infra.plans import Plan
from tests.infra.regions import Region, Shelf, Stall, View, views
from tests.unit.retention.histories import BEGINNING, History
from tests.unit.retention.repository import left_of

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Played:
    """So many days of all three stores. ``wrong``: what is wrong with what their expiries decided."""

    luck: Luck
    numbers: Numbers
    days: int
    postgres: Postgres
    minio: Minio
    opensearch: OpenSearch
    wrong: tuple[str, ...]

    def findings(self, plan: Plan) -> Iterator[str]:
        """Everything that is wrong with the stores and with what is locked, under a plan's rules."""
        yield from self.wrong
        for store in (self.postgres, self.minio, self.opensearch):
            yield from store.findings(plan)
        yield from locked_findings(plan, self.luck, self.numbers, self.days)


def played(luck: Luck, numbers: Numbers, decisions: Decisions, days: int) -> Played:
    """Plays the stores' days; nothing of it depends on S3's rules."""
    stalls = [
        Stall(begins=BEGINNING + begins * _DAY + timedelta(minutes=1), ends=BEGINNING + (begins + lasts) * _DAY)
        for begins, lasts in luck.stalls
    ]
    postgres = Postgres(Shelf("postgres", stalls), numbers, luck, decisions)
    minio = Minio(Shelf("minio", stalls), numbers, luck, decisions)
    opensearch = OpenSearch(Shelf("opensearch", stalls), numbers, luck, decisions)
    stores: tuple[Store, ...] = (postgres, minio, opensearch)
    wrong = tuple(finding for _ in range(days) for store in stores for finding in store.day())
    return Played(
        luck=luck, numbers=numbers, days=days, postgres=postgres, minio=minio, opensearch=opensearch, wrong=wrong
    )


def locked_findings(plan: Plan, luck: Luck, numbers: Numbers, days: int) -> Iterator[str]:
    """Records, reports, logs of calls, documents and monthly copies: whatever anybody does, each stays its years."""
    dice = random.Random(luck.seed + 2)  # noqa: S311 - no secret
    for use, kept in numbers.locked_days.items():
        shelf = Shelf(use)
        for day in range(days):
            at = BEGINNING + day * _DAY + timedelta(minutes=dice.randrange(1440))
            shelf.put(f"records/{day}", at)
            if dice.random() < 0.3:  # somebody tries to hide it, under a marker or under another version
                later = at + timedelta(minutes=dice.randrange(1, 60 * 24 * kept))
                (shelf.delete if dice.random() < 0.5 else shelf.put)(f"records/{day}", later)
        shown = {region: shelf.fates(plan, region) for region in Region}
        for region, fates in shown.items():
            if len(fates) < len(shown[Region.HOME]):
                yield f"{region.name}: {use} is not copied whole"
            for fate in fates:
                age = fate.gone and fate.gone - fate.written.at
                # Two midnights: what is current expires, then the version that it became.
                if not fate.written.marker and not (age and timedelta(days=kept) <= age <= timedelta(days=kept + 3)):
                    yield f"{region.name}: {use} of {fate.written.at} stays {age}, not {kept} days"


def at_the_end(store: Store, plan: Plan, region: Region) -> View:
    """What one region shows when all is played."""
    return next(views(store.shelf.fates(plan, region), [store.now + LOOK_AFTER]))


def sets_at_the_end(store: Postgres, plan: Plan, region: Region) -> History:
    """The sets and WAL that one region shows when all is played."""
    return left_of(store.play.author.history(), at_the_end(store, plan, region).current)
