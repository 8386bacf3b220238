"""Worst-case loss and restore time: the bound holds in a simulation, and what misses an objective is refused."""

import os
import random
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import (
    BackupKind,
    Component,
    MinioSettings,
    Objectives,
    OpenSearchSettings,
    PostgresSettings,
    ScheduledRun,
)
from aivo_backup.policy.objectives import require_objectives, restore_time, worst_loss
from aivo_backup.policy.schedules import BACKUPS

EXAMPLES = 1000 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 25

POSTGRES = PostgresSettings(host="pg", sidecar_host="pg")
MINIO = MinioSettings(endpoint="http://minio:9000")
OPENSEARCH = OpenSearchSettings(endpoint="https://search:9200")


def _require(
    *,
    backups: tuple[ScheduledRun, ...] = BACKUPS,
    objectives: Objectives | None = None,
    postgres: PostgresSettings = POSTGRES,
    minio: MinioSettings = MINIO,
    opensearch: OpenSearchSettings = OPENSEARCH,
) -> None:
    require_objectives(
        objectives=objectives or Objectives(), backups=backups, postgres=postgres, minio=minio, opensearch=opensearch
    )


def test_the_default_table_meets_the_runbooks_objectives() -> None:
    _require()


@pytest.mark.parametrize("component", [Component.MINIO, Component.OPENSEARCH])
def test_daily_only_is_refused_with_component_and_mend(component: Component) -> None:
    daily = tuple(row for row in BACKUPS if row.component is not component or row.kind is BackupKind.FULL)
    with pytest.raises(ConfigurationError) as refused:
        _require(backups=daily)
    assert str(refused.value).startswith(f"{component.value} can lose")
    assert "RPO is 3600 s" in str(refused.value)
    assert "more often" in refused.value.mend


def test_a_long_full_is_counted_because_no_point_appears_while_it_runs() -> None:
    longer = tuple(
        replace(row, longest_run_seconds=row.longest_run_seconds + 60) if row.name == "minio-backup" else row
        for row in BACKUPS
    )
    # A minute past 03:30, so that the increment of 03:30 may find the lease taken and be superseded.
    with pytest.raises(ConfigurationError, match=r"^minio can lose 5400 s"):
        _require(backups=longer)


def test_the_archive_timeout_bounds_postgres() -> None:
    with pytest.raises(ConfigurationError, match=r"^postgres can lose 3601 s") as refused:
        _require(postgres=replace(POSTGRES, archive_timeout_seconds=3601))
    assert "archive_timeout_seconds" in refused.value.mend


def test_no_schedule_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="opensearch has no backup schedule"):
        _require(backups=tuple(row for row in BACKUPS if row.component is not Component.OPENSEARCH))


@pytest.mark.parametrize("component", list(Component))
def test_a_size_beyond_the_rate_is_refused(component: Component) -> None:
    size, rate = 7200 * 50_000_000 + 50_000_000, 50_000_000
    changed = {"size_bytes": size, "restore_bytes_per_second": rate}
    larger = {
        Component.POSTGRES: lambda: _require(postgres=replace(POSTGRES, **changed)),
        Component.MINIO: lambda: _require(minio=replace(MINIO, **changed)),
        Component.OPENSEARCH: lambda: _require(opensearch=replace(OPENSEARCH, **changed)),
    }
    with pytest.raises(ConfigurationError) as refused:
        larger[component]()
    assert str(refused.value).startswith(f"{component.value} takes 7201 s to restore")
    assert "RTO is 7200 s" in str(refused.value)


def test_opensearch_restores_no_faster_than_its_repository_lets_it() -> None:
    limited = replace(OPENSEARCH, size_bytes=400, restore_bytes_per_second=100, bytes_per_second=40)
    assert restore_time(limited).seconds == 10


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"minio\.restore_bytes_per_second is 0"):
        _require(minio=replace(MINIO, restore_bytes_per_second=0))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    size=st.integers(0, 10**15),
    rate=st.integers(1, 10**10),
    rto=st.integers(60, 10**5),
)
def test_restore_time_is_refused_exactly_when_it_exceeds_the_objective(size: int, rate: int, rto: int) -> None:
    minio = replace(MINIO, size_bytes=size, restore_bytes_per_second=rate)
    if size / rate > rto:
        with pytest.raises(ConfigurationError, match=r"^minio takes"):
            _require(minio=minio, objectives=Objectives(rto_seconds=rto))
    else:
        _require(minio=minio, objectives=Objectives(rto_seconds=rto))


def test_a_start_that_finds_the_lease_taken_does_not_count() -> None:
    """Every 10 minutes, but each run may take 45: the next point begins when the lease is free again."""
    (row,) = (
        replace(row, cron="*/10 * * * *", start_deadline_seconds=300, longest_run_seconds=2700)
        for row in BACKUPS
        if row.name == "minio-backup-incr"
    )
    assert worst_loss(Component.MINIO, [row], POSTGRES).seconds == (50 + 5 + 45) * 60


@pytest.mark.parametrize(
    ("cron", "gap"),
    [
        ("0 2 * * *", timedelta(days=1)),
        ("0 1 * * 0", timedelta(days=7)),
        ("0 0 1 * *", timedelta(days=31)),
        ("0 8-18 * * 1-5", timedelta(days=2, hours=14)),
    ],
)
def test_the_longest_interval_is_found_wherever_it_is_in_the_calendar(cron: str, gap: timedelta) -> None:
    row = replace(BACKUPS[2], cron=cron, start_deadline_seconds=10, longest_run_seconds=60)
    assert worst_loss(row.component, [row], POSTGRES).seconds == gap.total_seconds() + 70


@dataclass(frozen=True)
class Case:
    """Two rows in minutes of an hour, and how late and long each of their runs is."""

    rows: tuple[ScheduledRun, ...]
    seed: int


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    def row(kind: BackupKind, cron: str) -> ScheduledRun:
        return _row(kind, cron, late=draw(st.integers(0, 1800)), longest=draw(st.integers(1, 7200)))

    every = draw(st.sampled_from(["*/5", "*/10", "*/20", "*/30", "0", "7,50"]))
    hours = draw(st.sampled_from(["3", "*/6", "1,13"]))
    full = row(BackupKind.FULL, f"{draw(st.integers(0, 59))} {hours} * * *")
    return Case((full, row(BackupKind.INCREMENTAL, f"{every} * * * *")), draw(st.integers(0, 2**32)))


def _minutes(field: str, limit: int) -> set[int]:
    if field == "*":
        return set(range(limit))
    if field.startswith("*/"):
        return set(range(0, limit, int(field[2:])))
    return {int(entry) for entry in field.split(",")}


def _row(kind: BackupKind, cron: str, *, late: int, longest: int) -> ScheduledRun:
    return ScheduledRun(
        name=kind.value,
        component=Component.MINIO,
        kind=kind,
        cron=cron,
        start_deadline_seconds=late,
        longest_run_seconds=longest,
    )


# A full run comes between the time that an increment is due and its late start, which then finds the lease taken.
_OVERTAKEN = (
    _row(BackupKind.FULL, "52 3 * * *", late=0, longest=18),
    _row(BackupKind.INCREMENTAL, "*/5 * * * *", late=136, longest=1),
)


def test_a_start_that_is_late_may_be_overtaken() -> None:
    assert worst_loss(Component.MINIO, _OVERTAKEN, POSTGRES).seconds == 7 * 60 + 18


@settings(max_examples=EXAMPLES, deadline=None)
@given(case=_cases())
@example(case=Case(_OVERTAKEN, 0))
def test_no_simulated_week_loses_more_than_the_bound(case: Case) -> None:
    """Runs start late and last long in any combination; one that finds the lease taken is superseded."""
    chance = random.Random(case.seed)  # noqa: S311 - a simulation, not a secret
    attempts: list[tuple[int, int]] = []
    for row in case.rows:
        minute, hour = row.cron.split()[:2]
        for day in range(4):
            for start in sorted(
                (day * 24 + each) * 3600 + one * 60 for each in _minutes(hour, 24) for one in _minutes(minute, 60)
            ):
                begun = start + chance.choice(
                    [0, row.start_deadline_seconds, chance.randint(0, row.start_deadline_seconds)]
                )
                lasts = chance.choice([1, row.longest_run_seconds, chance.randint(1, row.longest_run_seconds)])
                attempts.append((begun, begun + lasts))
    points: list[tuple[int, int]] = []
    for begun, complete in sorted(attempts):
        if not points or begun >= points[-1][1]:
            points.append((begun, complete))
    bound = worst_loss(Component.MINIO, case.rows, POSTGRES).seconds
    # Just before a point is complete, the one before it is the newest, and shows the store as its own run found it.
    losses = [complete - earlier for (earlier, _), (_, complete) in pairwise(points)]
    assert max(losses) <= bound
