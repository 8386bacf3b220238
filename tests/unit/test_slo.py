"""The denominator is what the schedule expects, small samples prove nothing, and silence is not success."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivo_backup.policy.slo import (
    Attempt,
    Expectation,
    Outcome,
    Rate,
    Settlement,
    Slot,
    SlotState,
    Verdict,
    flawless_runs_needed,
    judge_together,
    judge_worst,
    rate,
    settle,
    wilson,
    worst,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
DAILY = Expectation(job="nightly", group="postgres", cron="0 2 * * *", window_seconds=3600, retry_heals=True)
TESTED = Expectation(job="verify", group="postgres", cron="0 2 * * *", window_seconds=3600, retry_heals=False)


def attempt(day: int, *, minutes: float = 0.2, outcome: Outcome = Outcome.SUCCEEDED, job: str = "nightly") -> Attempt:
    started = START + timedelta(days=day, hours=2, minutes=minutes)
    return Attempt(id=f"{job}-{day}-{minutes}-{outcome}", job=job, started=started, outcome=outcome)


def settled(
    *attempts: Attempt, expectation: Expectation = DAILY, days: float = 3, now: float | None = None
) -> Settlement:
    until = START + timedelta(days=days)
    present = until if now is None else START + timedelta(days=now)
    return settle([expectation], attempts, since=START, until=until, now=present)


def states(settlement: Settlement) -> list[SlotState]:
    return [slot.state for slot in settlement.slots]


def slots(succeeded: int, failed: int = 0, missing: int = 0, superseded: int = 0, pending: int = 0) -> list[Slot]:
    made = {
        SlotState.SUCCEEDED: succeeded,
        SlotState.FAILED: failed,
        SlotState.MISSING: missing,
        SlotState.SUPERSEDED: superseded,
        SlotState.PENDING: pending,
    }
    return [
        Slot(job="j", group="g", due=START, state=state, attempts=())
        for state, number in made.items()
        for _ in range(number)
    ]


class TestSettling:
    def test_a_run_that_never_happened_is_missing(self) -> None:
        assert states(settled(attempt(0), attempt(2))) == [SlotState.SUCCEEDED, SlotState.MISSING, SlotState.SUCCEEDED]

    def test_a_run_whose_time_is_not_over_is_pending_and_then_missing(self) -> None:
        due = 2 / 24
        assert states(settled(days=1, now=due + 0.9 / 24)) == [SlotState.PENDING]
        assert states(settled(days=1, now=due + 1.1 / 24)) == [SlotState.MISSING]

    def test_a_failed_backup_is_healed_by_a_retry_in_its_window(self) -> None:
        tries = attempt(0, outcome=Outcome.FAILED), attempt(0, minutes=20)
        assert states(settled(*tries, days=1)) == [SlotState.SUCCEEDED]

    def test_a_failed_restore_test_is_not_healed(self) -> None:
        tries = attempt(0, outcome=Outcome.FAILED, job="verify"), attempt(0, minutes=20, job="verify")
        assert states(settled(*tries, expectation=TESTED, days=1)) == [SlotState.FAILED]

    def test_a_success_after_the_window_is_a_run_by_hand(self) -> None:
        late = attempt(0, minutes=61)
        settlement = settled(late, days=1)
        assert states(settlement) == [SlotState.MISSING]
        assert settlement.unscheduled == (late.id,)

    def test_a_start_at_the_very_edge_of_the_window_counts(self) -> None:
        assert states(settled(attempt(0, minutes=60), days=1)) == [SlotState.SUCCEEDED]

    def test_a_job_that_is_not_scheduled_never_counts(self) -> None:
        by_hand = attempt(0, job="manual")
        settlement = settled(by_hand, days=1)
        assert states(settlement) == [SlotState.MISSING]
        assert settlement.unscheduled == (by_hand.id,)

    def test_superseded_alone_is_superseded_and_beside_a_failure_it_failed(self) -> None:
        gave_way = attempt(0, outcome=Outcome.SUPERSEDED)
        assert states(settled(gave_way, days=1)) == [SlotState.SUPERSEDED]
        assert states(settled(gave_way, attempt(0, minutes=5, outcome=Outcome.FAILED), days=1)) == [SlotState.FAILED]

    def test_a_clock_a_little_behind_the_scheduler_still_meets_its_own_slot(self) -> None:
        assert states(settled(attempt(1, minutes=-0.05), days=2)) == [SlotState.MISSING, SlotState.SUCCEEDED]

    def test_one_success_fills_one_slot_only(self) -> None:
        wide = Expectation(job="nightly", group="p", cron="0 * * * *", window_seconds=86400, retry_heals=True)
        settlement = settled(attempt(0), expectation=wide, days=0.25)
        assert states(settlement).count(SlotState.SUCCEEDED) == 1

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(-90, 200), st.sampled_from(Outcome)), max_size=12))
    def test_every_attempt_is_in_one_slot_or_unscheduled(self, made: list[tuple[int, int, Outcome]]) -> None:
        tries = [
            Attempt(id=str(n), job="nightly", started=START + timedelta(days=d, hours=2, minutes=m), outcome=o)
            for n, (d, m, o) in enumerate(made)
        ]
        settlement = settled(*tries)
        placed = [one for slot in settlement.slots for one in slot.attempts] + list(settlement.unscheduled)
        assert sorted(placed) == sorted(one.id for one in tries)
        assert len(settlement.slots) == 3


class TestWilson:
    def test_the_numbers_of_a_textbook_example(self) -> None:
        interval = wilson(9, 10)
        assert interval.low == pytest.approx(0.5958, abs=5e-5)
        assert interval.high == pytest.approx(0.9821, abs=5e-5)

    def test_nothing_tried_bounds_nothing(self) -> None:
        assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)

    def test_impossible_counts_are_refused(self) -> None:
        with pytest.raises(ValueError, match="5 successes of 4 trials"):
            wilson(5, 4)

    @given(st.integers(1, 5000), st.data())
    def test_it_holds_the_measured_rate(self, trials: int, data: st.DataObject) -> None:
        successes = data.draw(st.integers(0, trials))
        interval = wilson(successes, trials)
        assert 0 <= interval.low <= successes / trials <= interval.high <= 1

    @pytest.mark.parametrize(("objective", "needed"), [(0.99, 381), (0.995, 765)])
    def test_how_many_flawless_runs_prove_an_objective(self, objective: float, needed: int) -> None:
        assert flawless_runs_needed(objective) == needed
        assert wilson(needed, needed).low >= objective
        assert wilson(needed - 1, needed - 1).low < objective

    def test_a_perfect_rate_cannot_be_an_objective(self) -> None:
        with pytest.raises(ValueError, match="set it between 0 and 1"):
            flawless_runs_needed(1.0)


class TestRate:
    def test_missing_runs_are_in_the_denominator_and_superseded_and_pending_are_not(self) -> None:
        found = rate(slots(7, failed=1, missing=2, superseded=5, pending=4), 0.995)
        assert (found.expected, found.succeeded, found.failed, found.missing) == (10, 7, 1, 2)
        assert found.measured == 0.7
        assert found.budget_runs == pytest.approx(0.05)
        assert found.budget_spent == pytest.approx(60)

    @pytest.mark.parametrize(
        ("made", "verdict"),
        [
            (slots(0), Verdict.ABSENT),
            (slots(0, pending=3, superseded=1), Verdict.ABSENT),
            (slots(3), Verdict.INSUFFICIENT),
            (slots(380), Verdict.INSUFFICIENT),
            (slots(381), Verdict.MET),
            (slots(2, failed=1), Verdict.MISSED),
            (slots(2, missing=1), Verdict.MISSED),
            (slots(1085, failed=10), Verdict.MET),
            (slots(1084, failed=11), Verdict.MISSED),
        ],
    )
    def test_verdicts_at_99_percent(self, made: list[Slot], verdict: Verdict) -> None:
        assert rate(made, 0.99).verdict is verdict

    def test_a_daily_store_is_not_drowned_by_half_hourly_ones(self) -> None:
        rare, often = rate(slots(300, failed=65), 0.995), rate(slots(35_000), 0.995)
        together = rate([*slots(300, failed=65), *slots(35_000)], 0.995)
        assert together.verdict is Verdict.MET
        assert judge_together(together, [rare, often]) is Verdict.MISSED

    def test_a_component_with_few_runs_does_not_spoil_the_whole(self) -> None:
        parts: list[Rate] = [rate(slots(365), 0.99) for _ in range(3)]
        together = rate(slots(1095), 0.99)
        assert {part.verdict for part in parts} == {Verdict.INSUFFICIENT}
        assert judge_together(together, parts) is Verdict.MET


class TestWorst:
    @pytest.mark.parametrize(
        ("durations", "verdict", "seconds"),
        [
            ([], Verdict.ABSENT, None),
            ([40.0, 3600.0], Verdict.MET, 3600.0),
            ([40.0, 3600.1], Verdict.MISSED, 3600.1),
            ([40.0, None], Verdict.MISSED, 40.0),
            ([None], Verdict.MISSED, None),
        ],
    )
    def test_one_bad_or_unknown_measurement_is_enough(
        self, durations: list[float | None], verdict: Verdict, seconds: float | None
    ) -> None:
        found = judge_worst(durations, 3600)
        assert (found.verdict, found.seconds) == (verdict, seconds)

    def test_verdicts_together_are_as_bad_as_the_worst(self) -> None:
        assert worst([Verdict.MET, Verdict.INSUFFICIENT]) is Verdict.INSUFFICIENT
        assert worst([Verdict.INSUFFICIENT, Verdict.ABSENT]) is Verdict.ABSENT
        assert worst([Verdict.MISSED, Verdict.ABSENT]) is Verdict.MISSED
        assert worst([]) is Verdict.ABSENT
