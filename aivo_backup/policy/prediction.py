"""How long a restore will take, from those that were measured. Pure.

A restore is a row of phases, and each phase has at most one thing that drives its time: bytes to fetch, WAL segments to
replay. So each phase is predicted on its own, from the newest restores that had it, and the sum is the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

_NEWEST = 10
"""Older restores tell of another machine, another size, another network."""

_SPREAD = 1.5
"""From so much difference between the smallest and the largest measure on, a slope can be told from noise."""

_FEWEST_FOR_A_SLOPE = 3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One restore that ended well.

    Attributes:
        phases: seconds by name.
        amounts: what there was to do, by the unit of the phase's driver, for example ``bytes``.
    """

    phases: Mapping[str, float]
    amounts: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The expected duration, and how many measured restores it rests on. None of them: the configured rate alone."""

    seconds: float
    measured: int


def predict(
    history: Sequence[Measured],
    *,
    drivers: Mapping[str, str],
    amounts: Mapping[str, float],
    fallback_seconds: float,
) -> Prediction:
    """Predicts one restore.

    Args:
        history: measured restores, oldest first.
        drivers: every phase of the restore to come, with the unit of what drives its time; empty when nothing does.
        amounts: what there is to do, by unit.
        fallback_seconds: the answer without history (size divided by the configured rate).
    """
    total, rests_on = 0.0, 0
    for phase, unit in drivers.items():
        measured = [entry for entry in history if phase in entry.phases][-_NEWEST:]
        if measured:
            total += _phase(phase, unit, measured, amounts.get(unit))
            rests_on = max(rests_on, len(measured))
    if rests_on == 0:
        return Prediction(seconds=round(fallback_seconds, 1), measured=0)
    return Prediction(seconds=round(total, 1), measured=rests_on)


def _phase(phase: str, unit: str, measured: Sequence[Measured], amount: float | None) -> float:
    usual = median(entry.phases[phase] for entry in measured)
    pairs = [(entry.amounts[unit], entry.phases[phase]) for entry in measured if entry.amounts.get(unit, 0) > 0]
    if not unit or amount is None or not pairs:
        return usual
    done = [x for x, _ in pairs]
    if len(pairs) >= _FEWEST_FOR_A_SLOPE and max(done) >= _SPREAD * min(done):
        # Theil and Sen: the median of all slopes, which one slow day does not move.
        slope = max(0.0, median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(pairs, 2) if a[0] != b[0]))
        fixed = max(0.0, median(seconds - slope * x for x, seconds in pairs))
        return fixed + slope * amount
    typical = median(done)
    if typical / _SPREAD <= amount <= typical * _SPREAD:
        return median(seconds for _, seconds in pairs)
    return median(seconds for _, seconds in pairs) * amount / typical
