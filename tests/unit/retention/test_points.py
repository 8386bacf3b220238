"""No pruning takes what was promised, and none leaves what was not: MinIO's points and OpenSearch's snapshots."""

import os
import random

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from aivo_backup.policy import pruning
from aivo_backup.policy.pruning import Because
from tests.unit.retention.play import mutated
from tests.unit.retention.points import Decide, Points

EXAMPLES = 500 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 20
DAYS = 75


def points_of(seed: int, **luck: float) -> Points:
    return Points(random.Random(seed), **luck)  # noqa: S311 # pyright: ignore[reportArgumentType] -- days are whole


def wrong(points: Points) -> list[str]:
    return [finding for _ in range(DAYS) for finding in points.whole_day()]


@seed(5)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32),
    unlucky=st.sampled_from([0.0, 0.1, 0.4]),
    last_day=st.integers(5, 2 * DAYS),
    unproven_from=st.integers(0, 2 * DAYS),
    chained=st.booleans(),
)
def test_what_is_promised_stays_and_nothing_else(
    seed: int, unlucky: float, last_day: int, unproven_from: int, chained: bool
) -> None:
    points = points_of(seed, unlucky=unlucky, last_day=last_day, unproven_from=unproven_from, chained=chained)
    assert wrong(points) == []


def test_without_mishaps_thirty_daily_points_and_two_days_of_increments_stay() -> None:
    points = points_of(1, unlucky=0.0)
    assert wrong(points) == []
    assert sum(point.daily for point in points.points.values()) == 30
    assert sum(not point.daily for point in points.points.values()) == 2 * 3


def test_when_everything_fails_for_months_the_last_verified_points_and_the_newest_stay() -> None:
    points = points_of(3, last_day=20, unproven_from=18)
    assert wrong(points) == []
    kept = points.prune().kept
    verified = [name for name, why in kept.items() if why is Because.VERIFIED]
    assert len(verified) == 2
    assert [why for why in kept.values() if why is Because.NEWEST] == [Because.NEWEST]
    assert set(kept.values()) <= {Because.VERIFIED, Because.NEWEST, Because.NEEDED, Because.ALONE}


MUTANTS = {
    "age alone": ('return Because.VERIFIED if point.id in verified else None', "return None"),
    "one verified point fewer": ("verified[-number:]", "verified[1 - number:]"),
    "the oldest verified points": ("verified[-number:]", "verified[:number]"),
    "the newest is not special": ("if point is newest:", "if False:"),
    "a base goes by its age": ("reasons[needed] = Because.NEEDED", "pass"),
    "seven hours too early": ("now - point.taken < kept_for", "timedelta(hours=7) + now - point.taken < kept_for"),
    "a day too late": ("now - point.taken < kept_for", "now - point.taken - timedelta(days=1) < kept_for"),
    "broken points stay": ("return Because.ALONE if young and not passed_over else None", "return Because.ALONE"),
    "remains go at once": ("return Because.ALONE if young and not passed_over else None", "return None"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MUTANTS))
def test_the_oracle_catches(name: str) -> None:
    choose: Decide = mutated(pruning, *MUTANTS[name]).decide
    for number in range(20):
        points = points_of(number, last_day=40 if number % 2 else DAYS, unproven_from=20 if number % 3 else DAYS)
        points.choose = choose
        if wrong(points):
            return
    pytest.fail("a wrong policy went unnoticed")
