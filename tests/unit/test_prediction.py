"""The predicted time of a restore: from measured ones, phase by phase."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivo_backup.policy.prediction import Measured, Prediction, predict

DRIVERS = {"fetch": "bytes", "replay": "segments", "start": ""}
GIB = 2.0**30


def drill(gib: float, *, fetch: float, replay: float = 5.0, segments: float = 10.0) -> Measured:
    return Measured(
        phases={"fetch": fetch, "replay": replay, "start": 1.0}, amounts={"bytes": gib * GIB, "segments": segments}
    )


def predicted(history: list[Measured], gib: float, segments: float = 10.0) -> Prediction:
    return predict(history, drivers=DRIVERS, amounts={"bytes": gib * GIB, "segments": segments}, fallback_seconds=100.0)


def test_without_history_the_configured_rate_answers() -> None:
    assert predicted([], 1.0) == Prediction(seconds=100.0, measured=0)


def test_three_drills_of_the_same_size_predict_the_fourth() -> None:
    history = [drill(1.0, fetch=18.0), drill(1.0, fetch=22.0), drill(1.0, fetch=20.0)]
    assert predicted(history, 1.0) == Prediction(seconds=26.0, measured=3)


def test_a_larger_database_takes_longer_in_what_its_size_drives_alone() -> None:
    history = [drill(1.0, fetch=20.0)] * 3
    assert predicted(history, 4.0).seconds == 80.0 + 5.0 + 1.0
    assert predicted(history, 1.0, segments=40.0).seconds == 20.0 + 20.0 + 1.0


def test_a_fixed_cost_is_told_from_the_rate() -> None:
    history = [drill(size, fetch=10.0 + 5.0 * size) for size in (1.0, 2.0, 4.0)]
    assert predicted(history, 8.0).seconds == pytest.approx(10.0 + 40.0 + 6.0)


def test_one_slow_day_moves_nothing() -> None:
    history = [drill(1.0, fetch=20.0) for _ in range(4)] + [drill(1.0, fetch=400.0)]
    assert predicted(history, 1.0).seconds == 26.0


def test_what_is_long_past_does_not_count() -> None:
    history = [drill(1.0, fetch=400.0)] * 30 + [drill(1.0, fetch=20.0)] * 10
    assert predicted(history, 1.0) == Prediction(seconds=26.0, measured=10)


def test_restores_that_did_not_say_how_much_there_was_count_by_their_time() -> None:
    history = [Measured(phases={"fetch": 20.0})] * 3
    assert predicted(history, 50.0).seconds == 20.0


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 1000)), min_size=1, max_size=12),
    st.floats(0.01, 100),
    st.floats(1, 10),
)
def test_more_is_never_faster(history: list[tuple[float, float]], gib: float, factor: float) -> None:
    measured = [drill(size, fetch=seconds) for size, seconds in history]
    smaller, larger = predicted(measured, gib), predicted(measured, gib * factor)
    assert 0 <= smaller.seconds <= larger.seconds + 0.1
