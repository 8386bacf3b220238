"""No expiry takes what was promised, and none leaves what was not: PostgreSQL's sets and WAL over months."""

import os
from datetime import timedelta

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from aivo_backup.policy import expiry
from tests.unit.retention.histories import Author, Lucky
from tests.unit.retention.oracle import Promise
from tests.unit.retention.play import Play, author_of, findings, mutants_findings, mutated

FULL_COUNT = os.environ.get("AIVO_BACKUP_TESTS") == "full"
EXAMPLES = 300 if FULL_COUNT else 6
DAYS = 90

_PROMISES = st.builds(
    Promise,
    window=st.integers(1, 21).map(lambda days: timedelta(days=days)),
    fulls=st.integers(1, 9),
    verified=st.integers(1, 4),
)


@seed(5)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(seed=st.integers(0, 2**32))
def test_the_runbooks_numbers(seed: int) -> None:
    assert list(findings(Play(author_of(seed)), DAYS)) == []


@seed(5)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32),
    promise=_PROMISES,
    unlucky=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    last_day=st.integers(10, DAYS),
)
def test_other_numbers_and_worse_luck(seed: int, promise: Promise, unlucky: float, last_day: int) -> None:
    author = author_of(seed, unlucky=unlucky, last_day=last_day, promise=promise)
    assert list(findings(Play(author, promise=promise), DAYS)) == []


def test_without_mishaps_seven_weekly_fulls_and_fourteen_days_of_increments_stay() -> None:
    play = Play(Author(Lucky()))
    assert list(findings(play, 120)) == []
    left = play.after().sets
    fulls = [entry for entry in left if not entry.references]
    increments = [entry for entry in left if entry.references]
    assert len(fulls) == 7
    # The increments of one week go together, when the last of them is past the fourteen days.
    assert 14 <= len(increments) <= 14 + 6
    plan = play.decide()
    assert (plan.goes, plan.heads) == ((), ())
    assert plan.window_start == fulls[-plan.archive_fulls].label
    assert play.author.now - fulls[-plan.archive_fulls].ended >= timedelta(days=14)
    assert play.author.now - fulls[1 - plan.archive_fulls].ended < timedelta(days=14)


MUTANTS = {
    "every set is judged by its own age": ("kept = with_needed(reasons, {", "kept = (lambda kept, _: kept)(reasons, {"),
    "fulls are counted with damaged ones": (
        "counted = [entry for entry in fulls if not entry.damaged]",
        "counted = [entry for entry in fulls]",
    ),
    "one full fewer": ("[-fulls_kept:]", "[1 - fulls_kept :]"),
    "the archive is kept for a fixed number of fulls": (
        "archive_fulls=sum(start is None or entry.label >= start.label for entry in fulls)",
        "archive_fulls=2",
    ),
    "the archive is kept for one full fewer": (
        "archive_fulls=sum(start is None or entry.label >= start.label for entry in fulls)",
        "archive_fulls=max(1, sum(start is None or entry.label >= start.label for entry in fulls) - 1)",
    ),
    "the archive is kept for one full more": (
        "archive_fulls=sum(start is None or entry.label >= start.label for entry in fulls)",
        "archive_fulls=1 + sum(start is None or entry.label >= start.label for entry in fulls)",
    ),
    "the window begins with a damaged full": ("if not entry.damaged and entry.recovers and", "if entry.recovers and"),
    "the window begins before a gap": ("if not entry.damaged and entry.recovers and", "if not entry.damaged and"),
    "the window begins within the window": (
        "entry.ended <= cutoff]",
        "entry.ended <= cutoff + __import__('datetime').timedelta(days=3)]",
    ),
    "the newest is not special": ("    if sound:\n", "    if False:\n"),
    "verified sets are not special": ("    for label in verified:\n", "    for label in ():\n"),
    "increments stay a day less": (
        "if entry.ended > cutoff}",
        "if entry.ended > cutoff + __import__('datetime').timedelta(days=1)}",
    ),
    "increments stay a day more": (
        "if entry.ended > cutoff}",
        "if entry.ended > cutoff - __import__('datetime').timedelta(days=1)}",
    ),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_the_oracle_catches(name: str) -> None:
    old, new = MUTANTS[name]
    mutant = mutated(expiry, old, new)
    assert mutants_findings(mutant.plan_expiry, range(40), DAYS), "a wrong policy went unnoticed"
