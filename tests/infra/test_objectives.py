"""What preview promises about RPO and RTO, against an oracle that shares no code with the policy.

The oracle takes schedules as sets of minutes and hours, lays their starts on a calendar, and lets an adversary choose:
every run starts as late as it may, lasts as long as it may, and turns away whoever is due meanwhile, or nobody. The
program has to refuse exactly when that adversary can lose more than the objective, and to say how much. (That no
simulated week loses more than the bound is in tests/unit/test_objectives.py.)
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.schedules import expected_runs
from infra import validation
from infra.settings import Settings, load
from sandbox.plan import ROOT, register
from sandbox.provision.engine import stack_configuration

EXAMPLES = 400 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 40
# Rows of the table and the runbook's numbers, by hand.
FULLS = {
    "minio": ("minio-backup", "0 3 * * *", 300, 1500),
    "opensearch": ("opensearch-snapshot", "0 4 * * *", 300, 1500),
}
INCREMENTS = {"minio": "minio-backup-incr", "opensearch": "opensearch-snapshot-incr"}
DAYS = 3
# Pruning between two due minutes of any schedule here, since preview also refuses one that would hold up a backup.
PRUNING = {
    f"{store}-prune": {"cron": "13 8 * * *", "start_deadline_seconds": 10, "longest_run_seconds": 60}
    for store in ("minio", "opensearch")
}


def preview(overrides: Mapping[str, Any]) -> Settings:
    loaded = load("prod", stack_configuration(ROOT, "prod", overrides))
    validation.check(loaded)
    return loaded


@dataclass(frozen=True)
class Row:
    """A schedule as the oracle sees it."""

    minutes: frozenset[int]
    hours: frozenset[int]
    late: int
    lasts: int

    def starts(self) -> list[int]:
        """Seconds since a midnight in UTC at which it is due, over the days of the calendar."""
        return [
            minute * 60
            for minute in range(DAYS * 24 * 60)
            if minute % 60 in self.minutes and minute // 60 % 24 in self.hours
        ]


def worst(rows: list[Row]) -> int:
    """The most seconds of writes that can be lost, by playing out every adversary that holds one run back.

    For each start A that succeeds at once, later starts that fall into its longest hold may be turned away; the first
    that may not be is as late and as slow as it can be, and until it is complete, A's point is the newest. While that
    one is late, any that is due by then may come first and turn it away.
    """
    limits: dict[int, tuple[int, int]] = {}
    for row in rows:
        for start in row.starts():
            limits[start] = max(limits.get(start, (0, 0)), (row.late, row.lasts), key=sum)
    found = 0
    moments = sorted(limits)
    for index, start in enumerate(moments):
        for later in moments[index + 1 :]:
            found = max(found, later + sum(limits[later]) - start)
            if later >= start + sum(limits[start]):
                begins = later + limits[later][0]
                for first in (each for each in moments if later < each <= begins):
                    late, lasts = limits[first]
                    found = max(found, min(first + late, begins) + lasts - start)
                break
    return found


@st.composite
def schedules(draw: st.DrawFn) -> tuple[str, str, Row, Row]:
    """A store, and its increments' cron with deadlines, beside the daily full of the runbook."""
    store = draw(st.sampled_from(sorted(FULLS)))
    every = draw(st.sampled_from([5, 10, 15, 20, 30, 60]))
    hours = draw(st.sampled_from(["*", "*/2", "*/6", "0-12"]))
    late, lasts = draw(st.integers(10, 900)), draw(st.integers(60, 3600))
    minute = "0" if every == 60 else f"*/{every}"
    taken = {
        "*": frozenset(range(24)),
        "*/2": frozenset(range(0, 24, 2)),
        "*/6": frozenset(range(0, 24, 6)),
        "0-12": frozenset(range(13)),
    }[hours]
    row = Row(minutes=frozenset(range(0, 60, every)), hours=taken, late=late, lasts=lasts)
    full_hour = int(FULLS[store][1].split()[1])
    full = Row(minutes=frozenset({0}), hours=frozenset({full_hour}), late=FULLS[store][2], lasts=FULLS[store][3])
    return store, f"{minute} {hours} * * *", row, full


@seed(4)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(case=schedules(), objective=st.integers(600, 7200))
def test_a_schedule_is_refused_exactly_when_it_can_lose_more_than_the_objective(
    case: tuple[str, str, Row, Row], objective: int
) -> None:
    store, cron, row, full = case
    other = next(name for name in FULLS if name != store)
    quick = {"cron": "*/5 * * * *", "start_deadline_seconds": 10, "longest_run_seconds": 60}
    overrides = {
        "aivo-backup:objectives": {"rpo_seconds": objective},
        "aivo-backup:schedules": {
            INCREMENTS[store]: {"cron": cron, "start_deadline_seconds": row.late, "longest_run_seconds": row.lasts},
            # The other store is out of the way.
            INCREMENTS[other]: quick,
            FULLS[other][0]: {"start_deadline_seconds": 10, "longest_run_seconds": 60},
            **PRUNING,
        },
    }
    lost = worst([row, full])
    if lost <= objective:
        preview(overrides)
        return
    with pytest.raises(ConfigurationError) as refused:
        preview(overrides)
    assert refused.value.what.startswith(f"{store} can lose {lost} s at worst")
    assert refused.value.mend.startswith(f"run {INCREMENTS[store]} more often")


@pytest.mark.parametrize("store", ["minio", "opensearch"])
def test_daily_alone_is_refused_by_the_program_with_the_component_and_the_mend(store: str) -> None:
    """The runbook's own rows: a day lies between two points, and the objective is an hour."""
    daily = FULLS[store][1]
    with pytest.raises(ConfigurationError, match=rf"^{store} can lose \d+ s .* RPO is 3600 s") as refused:
        register("prod", overrides={"aivo-backup:schedules": {INCREMENTS[store]: {"cron": daily}}})
    assert f"run {INCREMENTS[store]} more often" in str(refused.value)


@seed(4)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(timeout=st.integers(1, 4000), objective=st.integers(300, 4000))
def test_postgres_loses_at_most_what_waits_for_the_archive(timeout: int, objective: int) -> None:
    """Whatever its own backups do; the other stores, every third minute for a minute, lose less than any objective."""
    quick = {"cron": "*/3 * * * *", "start_deadline_seconds": 10, "longest_run_seconds": 60}
    names = [*INCREMENTS.values(), *(entry[0] for entry in FULLS.values())]
    overrides = {
        "aivo-backup:objectives": {"rpo_seconds": objective},
        "aivo-backup:postgres": {"archive_timeout_seconds": timeout},
        "aivo-backup:schedules": {**dict.fromkeys(names, quick), **PRUNING},
    }
    if timeout <= objective:
        preview(overrides)
        return
    with pytest.raises(ConfigurationError, match="archive_timeout_seconds"):
        preview(overrides)


SIZED = ("postgres", "minio", "opensearch")


@seed(4)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(
    store=st.sampled_from(SIZED),
    gigabytes=st.integers(1, 2000),
    rate=st.integers(10, 1000),
    limit=st.integers(10, 1000),
    minutes=st.integers(20, 600),
)
def test_a_size_over_its_rate_is_refused_exactly_when_it_exceeds_the_objective(
    store: str, gigabytes: int, rate: int, limit: int, minutes: int
) -> None:
    """Sizes in GB, rates in MB/s: 1000 GB over MB/s are seconds. OpenSearch is held to its repository's limit too."""
    small = {name: {"size_bytes": 10**9, "restore_bytes_per_second": 10**9} for name in SIZED}
    sizes = small | {store: {"size_bytes": gigabytes * 10**9, "restore_bytes_per_second": rate * 10**6}}
    sizes["opensearch"] = {**sizes["opensearch"], "bytes_per_second": limit * 10**6}
    overrides: dict[str, Any] = {f"aivo-backup:{name}": values for name, values in sizes.items()}
    overrides["aivo-backup:objectives"] = {"rto_seconds": minutes * 60}
    overrides["aivo-backup:cluster"] = {"restore_test_scratch": "4Ti"}
    reached = min(rate, limit) if store == "opensearch" else rate
    if gigabytes * 1000 > minutes * 60 * reached:
        with pytest.raises(ConfigurationError, match=rf"^{store} takes \d+ s to restore .*RTO is {minutes * 60} s"):
            preview(overrides)
    else:
        preview(overrides)


@seed(4)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(offset=st.integers(-14 * 60, 14 * 60), day=st.integers(0, 3000), hour=st.integers(0, 23))
def test_schedules_are_utc_wherever_they_are_read(offset: int, day: int, hour: int) -> None:
    """Whoever asks from another time zone, also over a change of day, gets the same moments, a day apart."""
    here = timezone(timedelta(minutes=offset))
    since = (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)).astimezone(here)
    moments = list(expected_runs(f"0 {hour} * * *", since, since + timedelta(days=3)))
    assert len(moments) == 3
    assert all((moment.astimezone(UTC).hour, moment.astimezone(UTC).minute) == (hour, 0) for moment in moments)
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(moments))


def test_every_job_and_schedule_is_registered_in_utc() -> None:
    registration = register("prod")
    jobs = [entry for entry in registration.resources if entry.type.endswith(":CronJob")]
    events = registration.of_type("aws:scheduler/schedule:Schedule")
    assert {entry.inputs["spec"]["timeZone"] for entry in jobs} == {"Etc/UTC"}
    assert {entry.inputs["scheduleExpressionTimezone"] for entry in events} == {"UTC"}
