"""No lifecycle and no lock ends what a retained point needs, and none keeps anything beyond its class.

S3's rules of every stack are played over generated histories of single objects; ``test_both_regions.py`` plays those
of production over whole histories of the stores.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.infra.conftest import PlanOf
from tests.infra.plans import STACKS, Plan
from tests.infra.regions import Bucket, Written

EXAMPLES = 500 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 30
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
# The runbook's numbers, written out a second time on purpose.
KEPT_DAYS = {"postgres": 14, "minio": 30, "opensearch": 30}
LOCKED_DAYS = {"compliance": 2557, "audit": 1096, "dr-documents": 1827, "vault": 2557}


@dataclass(frozen=True)
class Version:
    """One version of one key; current until ``superseded`` (None: still current)."""

    created: datetime
    superseded: datetime | None

    def gone(self, bucket: Bucket) -> datetime | None:
        """When it is removed for good; None: never."""
        history = [Written(key="key", version=1, at=self.created)]
        if self.superseded is not None:
            history.append(Written(key="key", version=2, at=self.superseded))
        return bucket.fates([(each, each.at) for each in history])[0].gone


def _regions(plan: Plan, use: str) -> list[Bucket]:
    copies = [f"{use}-replica"] if plan.settings()["replica"]["region"] else []
    return [Bucket.of(plan, each) for each in (use, *copies)]


_MINUTES = st.integers(0, 120 * 24 * 60)


@st.composite
def _histories(draw: st.DrawFn) -> list[Version]:
    """A key that is written, overwritten and deleted over four months."""
    moments = sorted(
        BEGINNING + timedelta(minutes=each) for each in draw(st.lists(_MINUTES, min_size=1, max_size=8, unique=True))
    )
    ends: list[datetime | None] = [*moments[1:], None]
    if draw(st.booleans()):
        ends[-1] = moments[-1] + timedelta(minutes=draw(st.integers(1, 60 * 24 * 60)))
    return [Version(created, end) for created, end in zip(moments, ends, strict=True)]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("use", list(KEPT_DAYS))
@settings(max_examples=EXAMPLES, deadline=None)
@given(history=_histories(), taken=_MINUTES)
def test_what_a_point_names_stays_for_as_long_as_the_point(
    plan_of: PlanOf, stack: str, use: str, history: list[Version], taken: int
) -> None:
    """A point names the version that was current when it was taken; it is kept for the days of its class."""
    point = BEGINNING + timedelta(minutes=taken)
    needed = [
        version
        for version in history
        if version.created <= point and (version.superseded is None or version.superseded > point)
    ]
    until = point + timedelta(days=KEPT_DAYS[use])
    for bucket in _regions(plan_of(stack), use):
        for version in needed:
            gone = version.gone(bucket)
            assert gone is None or gone >= until


@pytest.mark.parametrize("use", list(KEPT_DAYS))
@settings(max_examples=EXAMPLES, deadline=None)
@given(history=_histories())
def test_what_no_point_names_any_more_goes(plan_of: PlanOf, use: str, history: list[Version]) -> None:
    for bucket in _regions(plan_of("prod"), use):
        for version in history:
            gone = version.gone(bucket)
            if version.superseded is None:
                assert gone is None, "a current object is the store's own to expire"
            else:
                assert gone is not None
                # A day for S3's midnight.
                assert gone <= version.superseded + timedelta(days=KEPT_DAYS[use] + 1)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("use", list(LOCKED_DAYS))
@settings(max_examples=EXAMPLES, deadline=None)
@given(written=_MINUTES, overwritten=st.none() | st.integers(1, 10_000))
def test_what_is_locked_stays_its_years_and_no_longer(
    plan_of: PlanOf, stack: str, use: str, written: int, overwritten: int | None
) -> None:
    created = BEGINNING + timedelta(minutes=written)
    untouched = Version(created, None)
    hidden = Version(created, created + timedelta(minutes=overwritten)) if overwritten else untouched
    plan = plan_of(stack)
    for bucket in _regions(plan, use):
        gone = untouched.gone(bucket)
        assert gone is not None, "kept for ever"
        # Two midnights: the current version expires, then the version that it became.
        assert timedelta(days=LOCKED_DAYS[use]) <= gone - created <= timedelta(days=LOCKED_DAYS[use] + 3)
        if plan.settings()["production"]:
            # Even under a delete marker or another version, the lock holds for the whole of the class.
            gone = hidden.gone(bucket)
            assert gone is not None
            assert gone - created >= timedelta(days=LOCKED_DAYS[use])


def test_the_play_itself_sees_a_rule_that_is_too_short(prod: Plan) -> None:
    mutant = prod.copy()
    rules = mutant.one(":BucketLifecycleConfiguration", "minio-lifecycle").inputs["rules"]
    rules[0]["noncurrentVersionExpiration"]["noncurrentDays"] = 29
    version = Version(BEGINNING, BEGINNING + timedelta(days=1))
    gone = version.gone(Bucket.of(mutant, "minio"))
    assert gone is not None
    assert gone < BEGINNING + timedelta(days=1, minutes=-1) + timedelta(days=30)
