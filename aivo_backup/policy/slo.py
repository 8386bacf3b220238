"""The arithmetic of the objectives: which runs were expected, what became of them, and what that proves.

The denominator of a success rate is the runs that the schedule expects, not the runs that happened: a run that never
happened is a failed one. A superseded run is neither. Rates come with a Wilson interval, and a sample too small to
bound the rate at the objective is called insufficient evidence instead of being rounded to 100 %.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil, sqrt
from statistics import NormalDist

from aivo_backup.policy.schedules import expected_runs

CONFIDENCE = 0.95
"""Of the two-sided interval."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

_EARLY = timedelta(seconds=5)
"""How far a run's clock may be behind the scheduler's before its start no longer counts for the slot."""


class Verdict(StrEnum):
    """What the evidence says about an objective, from best to worst."""

    MET = "met"
    INSUFFICIENT = "insufficient evidence"
    ABSENT = "no evidence"
    MISSED = "missed"


_SEVERITY = tuple(Verdict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several objectives together; :attr:`Verdict.ABSENT` of none at all."""
    return max(verdicts, key=_SEVERITY.index, default=Verdict.ABSENT)


class Outcome(StrEnum):
    """How one attempt ended, as the objective counts it (a partial backup is a failed one)."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class SlotState(StrEnum):
    """What became of one expected run. ``PENDING``: its time is not over yet, so it counts nowhere."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    MISSING = "missing"
    PENDING = "pending"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A job that the schedule starts.

    Attributes:
        job: its name, as attempts carry it.
        group: what its rate is told for (a component).
        cron: five fields, UTC.
        window_seconds: how long after the due time an attempt still counts for it: the start deadline and the longest
            run together, so that a retry within one Kubernetes Job counts, and a run by hand hours later does not.
        retry_heals: a success makes up for failures at the same due time. True for a backup, since the data is then
            safe; False for a restore test: one that passes on the second try has still failed once.
    """

    job: str
    group: str
    cron: str
    window_seconds: int
    retry_heals: bool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run that did happen."""

    id: str
    job: str
    started: datetime
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One expected run and the attempts that were made at it, oldest first."""

    job: str
    group: str
    due: datetime
    state: SlotState
    attempts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Every expected run of a time span, by due time, and the ids of attempts that no schedule asked for."""

    slots: tuple[Slot, ...]
    unscheduled: tuple[str, ...]


def settle(
    expectations: Sequence[Expectation],
    attempts: Sequence[Attempt],
    *,
    since: datetime,
    until: datetime,
    now: datetime,
) -> Settlement:
    """Says what became of every run that was due in ``[since, until)``.

    An attempt belongs to the latest due time before its start, when it lies in that due time's window. The slot
    succeeded when any attempt did (or, without ``retry_heals``, when any did and none failed); else it failed when any
    failed; else it was superseded. Attempts outside every
    window, and those of jobs that are not in the schedule, are unscheduled: shown, never counted.

    Args:
        attempts: those that started in ``[since, until)``; others are ignored.
        now: decides whether a due time without an attempt is missing or still pending.
    """
    span = sorted((one for one in attempts if since <= one.started < until), key=lambda one: (one.started, one.id))
    unscheduled = {one.id: None for one in span}
    slots: list[Slot] = []
    # A year of half-hourly runs takes a while to expand, and jobs share expressions.
    due = {cron: list(expected_runs(cron, since, until)) for cron in {one.cron for one in expectations}}
    for expectation in expectations:
        window = timedelta(seconds=expectation.window_seconds)
        due_times = due[expectation.cron]
        made: list[list[Attempt]] = [[] for _ in due_times]
        for attempt in span:
            if attempt.job != expectation.job:
                continue
            number = bisect_right(due_times, attempt.started + _EARLY) - 1
            if number >= 0 and attempt.started - due_times[number] <= window:
                made[number].append(attempt)
                unscheduled.pop(attempt.id, None)
        for moment, own in zip(due_times, made, strict=True):
            slots.append(
                Slot(
                    job=expectation.job,
                    group=expectation.group,
                    due=moment,
                    state=_state(own, over=now > moment + window, retry_heals=expectation.retry_heals),
                    attempts=tuple(attempt.id for attempt in own),
                )
            )
    slots.sort(key=lambda slot: (slot.due, slot.job))
    return Settlement(slots=tuple(slots), unscheduled=tuple(unscheduled))


def _state(attempts: Sequence[Attempt], *, over: bool, retry_heals: bool) -> SlotState:
    outcomes = {attempt.outcome for attempt in attempts}
    decisive = (Outcome.SUCCEEDED, Outcome.FAILED) if retry_heals else (Outcome.FAILED, Outcome.SUCCEEDED)
    for outcome in (*decisive, Outcome.SUPERSEDED):
        if outcome in outcomes:
            return SlotState(outcome.value)
    return SlotState.MISSING if over else SlotState.PENDING


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where the true rate lies with :data:`CONFIDENCE`, as shares of one."""

    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """The Wilson score interval of a rate. Without trials it is everything from 0 to 1.

    Raises:
        ValueError: not ``0 <= successes <= trials``.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials cannot be")
    if trials == 0:
        return Interval(low=0.0, high=1.0)
    share, square = successes / trials, _Z * _Z
    scale = 1 + square / trials
    middle = (share + square / (2 * trials)) / scale
    reach = _Z / scale * sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    # At the two ends the bound is exactly 0 or 1; floating point would miss it by a hair.
    low = 0.0 if successes == 0 else middle - reach
    high = 1.0 if successes == trials else middle + reach
    return Interval(low=low, high=high)


def flawless_runs_needed(objective: float) -> int:
    """The smallest number of runs that, all flawless, bound the rate from below at ``objective``.

    With every run a success the Wilson lower bound is ``n / (n + z²)``; solved for n that is
    ``objective / (1 - objective) * z²``.

    Raises:
        ValueError: the objective is not between 0 and 1; 100 % can never be proven by counting.
    """
    if not 0 < objective < 1:
        raise ValueError(f"an objective of {objective} cannot be bounded by counting: set it between 0 and 1")
    return ceil(objective / (1 - objective) * _Z * _Z)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A success rate over expected runs.

    Attributes:
        objective: the share of one that is promised.
        expected: runs whose time is over and that were not superseded: the denominator.
        failed: expected runs that happened and did not succeed.
        missing: expected runs that never happened; they count as failed.
        superseded: runs that gave way to another; neither success nor failure.
        pending: runs whose time is not over; not counted.
        measured: ``succeeded / expected``; None when nothing was expected.
        interval: Wilson, on the same numbers.
        budget_runs: how many of the expected runs may fail.
        budget_spent: share of that budget that is used up; None when nothing was expected.
        needed: runs that a proof of the objective needs at the least.
    """

    objective: float
    expected: int
    succeeded: int
    failed: int
    missing: int
    superseded: int
    pending: int
    measured: float | None
    interval: Interval
    budget_runs: float
    budget_spent: float | None
    needed: int
    verdict: Verdict


def rate(slots: Iterable[Slot], objective: float) -> Rate:
    """The success rate of some slots against an objective.

    The verdict: nothing expected is no evidence; more failures than the budget allows is missed, however small the
    sample; within the budget, fewer runs than :func:`flawless_runs_needed` are insufficient evidence; else met.
    """
    count = dict.fromkeys(SlotState, 0)
    for slot in slots:
        count[slot.state] += 1
    succeeded, lost = count[SlotState.SUCCEEDED], count[SlotState.FAILED] + count[SlotState.MISSING]
    expected = succeeded + lost
    budget, needed = (1 - objective) * expected, flawless_runs_needed(objective)
    if not expected:
        verdict = Verdict.ABSENT
    elif succeeded / expected < objective:
        verdict = Verdict.MISSED
    else:
        verdict = Verdict.INSUFFICIENT if expected < needed else Verdict.MET
    return Rate(
        objective=objective,
        expected=expected,
        succeeded=succeeded,
        failed=count[SlotState.FAILED],
        missing=count[SlotState.MISSING],
        superseded=count[SlotState.SUPERSEDED],
        pending=count[SlotState.PENDING],
        measured=succeeded / expected if expected else None,
        interval=wilson(succeeded, expected),
        budget_runs=budget,
        budget_spent=lost / budget if expected else None,
        needed=needed,
        verdict=verdict,
    )


def judge_together(overall: Rate, parts: Iterable[Rate]) -> Verdict:
    """The verdict of an objective that is judged over several components together.

    A component whose whole interval lies below the objective makes it missed: a store backed up every half hour must
    not drown the failures of one that is backed up once a day.
    """
    if any(part.expected and part.interval.high < part.objective for part in parts):
        return Verdict.MISSED
    return overall.verdict


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The worst of some measured durations against a limit, in seconds.

    Attributes:
        seconds: the worst; None when nothing could be measured.
        measured: how many were measured; ``unmeasured`` how many tests ended without a measurement.
    """

    limit_seconds: float
    seconds: float | None
    measured: int
    unmeasured: int
    verdict: Verdict


def judge_worst(durations: Sequence[float | None], limit_seconds: float) -> Worst:
    """Judges an objective that every single measurement must meet (RPO, RTO).

    One measurement that is missing (None: a restored copy without any heartbeat) makes it missed, since the loss is
    then unknown and may be anything. No measurement at all is no evidence.
    """
    known = [seconds for seconds in durations if seconds is not None]
    unmeasured = len(durations) - len(known)
    if not durations:
        verdict = Verdict.ABSENT
    elif unmeasured or max(known) > limit_seconds:
        verdict = Verdict.MISSED
    else:
        verdict = Verdict.MET
    return Worst(
        limit_seconds=limit_seconds,
        seconds=max(known, default=None),
        measured=len(known),
        unmeasured=unmeasured,
        verdict=verdict,
    )
