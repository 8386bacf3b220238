"""What the records say about a restore before it begins: how long it will take, and whether its point was proven."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Purpose, Restore
from aivo_backup.errors import RefusedError
from aivo_backup.policy.environment import Component, UnprovenPoints
from aivo_backup.policy.prediction import Measured, Prediction, predict

_LOOKED_BACK = timedelta(days=90)
# A restore test looks at everything, an operator's restore at what tells whether it worked.
_OTHER_IN_TESTS = frozenset({"checks"})


def expected_seconds(
    catalog: Catalog,
    component: Component,
    *,
    now: datetime,
    drivers: Mapping[str, str],
    amounts: Mapping[str, float],
    fallback_seconds: float,
) -> Prediction:
    """How long a restore will take, from those of the last 90 days that passed.

    Args:
        drivers: each phase of the restore to come, and the unit that drives its time.
        amounts: how much there is to do, by unit.
        fallback_seconds: from the configured rate, for when nothing was measured yet.
    """
    records = catalog.restores(component, since=now - _LOOKED_BACK)
    history = [_measured(record) for record in records if record.passed]
    return predict(history, drivers=drivers, amounts=amounts, fallback_seconds=fallback_seconds)


def _measured(record: Restore) -> Measured:
    left_out = _OTHER_IN_TESTS if record.purpose is Purpose.TEST else frozenset[str]()
    phases = {phase.name: phase.seconds for phase in record.phases if phase.name not in left_out}
    return Measured(phases=phases, amounts=record.amounts)


def check_proven(catalog: Catalog, component: Component, point: str, *, rule: UnprovenPoints, since: datetime) -> str:
    """Whether a restore test or a drill of ``point`` has ever passed. A person's restore may have been of one key.

    Args:
        since: when the point was taken; no older record can be about it.

    Returns:
        a warning for the person who restores; empty when it was proven.

    Raises:
        RefusedError: it was not, and the environment's settings refuse such a point.
    """
    tests = (each for each in catalog.restores(component, since=since) if each.purpose is not Purpose.RECOVERY)
    if any(record.passed and record.recovery_point == point for record in tests):
        return ""
    said = f"recovery point {point} has not passed a restore test yet"
    if rule is UnprovenPoints.REFUSE:
        raise RefusedError(
            said,
            mend=f"test it with `aivo-backup verify {component} --point {point}`, take another, or give --unproven",
        )
    return said
