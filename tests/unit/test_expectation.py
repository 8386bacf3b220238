"""What the records say of a restore before it begins."""

from dataclasses import replace
from datetime import timedelta

import pytest

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Check, Phase, Purpose, Restore
from aivo_backup.errors import RefusedError
from aivo_backup.jobs.expectation import check_proven, expected_seconds
from aivo_backup.policy.environment import Component, UnprovenPoints
from tests.unit.conftest import SetClock

POINT = "20261122-010000F"
DRIVERS = {"fetch": "bytes", "checks": ""}


def restored(clock: SetClock, name: str, **changes: object) -> Restore:
    record = Restore(
        id=name,
        component=Component.POSTGRES,
        purpose=Purpose.TEST,
        recovery_point=POINT,
        started=clock(),
        finished=clock(),
        target_time=clock(),
        phases=(Phase(name="fetch", seconds=20.0), Phase(name="checks", seconds=300.0)),
        checks=(Check(name="target", passed=True, detail=""),),
        amounts={"bytes": 1e9},
    )
    return replace(record, **changes)  # pyright: ignore[reportArgumentType] -- each test names fields of the record


def expected(catalog: Catalog, clock: SetClock) -> tuple[float, int]:
    prediction = expected_seconds(
        catalog,
        Component.POSTGRES,
        now=clock(),
        drivers=DRIVERS,
        amounts={"bytes": 2e9},
        fallback_seconds=7.0,
    )
    return prediction.seconds, prediction.measured


def test_only_what_passed_and_is_alike_is_measured_by(catalog: Catalog, clock: SetClock) -> None:
    assert expected(catalog, clock) == (7.0, 0)
    catalog.append(restored(clock, "old", started=clock() - timedelta(days=100), finished=clock()))
    catalog.append(restored(clock, "failed", error="it broke"))
    catalog.append(restored(clock, "other", component=Component.MINIO))
    assert expected(catalog, clock) == (7.0, 0)
    # A test checks every page, a person's restore does not: its time for that says nothing.
    catalog.append(restored(clock, "test"))
    assert expected(catalog, clock) == (40.0, 1)
    own = (Phase(name="fetch", seconds=20.0), Phase(name="checks", seconds=2.0))
    catalog.append(restored(clock, "drill", purpose=Purpose.DRILL, phases=own))
    assert expected(catalog, clock) == (42.0, 2)


def test_a_point_is_proven_by_a_restore_of_its_own_that_passed(catalog: Catalog, clock: SetClock) -> None:
    def proven(rule: UnprovenPoints) -> str:
        return check_proven(catalog, Component.POSTGRES, POINT, rule=rule, since=clock())

    catalog.append(restored(clock, "failed", error="it broke"))
    catalog.append(restored(clock, "of another", recovery_point="20261115-010000F"))
    catalog.append(restored(clock, "of one table", purpose=Purpose.RECOVERY))
    assert "has not passed a restore test" in proven(UnprovenPoints.WARN)
    with pytest.raises(RefusedError, match=f"aivo-backup verify postgres --point {POINT}"):
        proven(UnprovenPoints.REFUSE)
    catalog.append(restored(clock, "passed"))
    assert proven(UnprovenPoints.REFUSE) == ""
