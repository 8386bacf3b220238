"""The drills' CronJobs: what they call, as whom, and often enough that none is overdue by its own calendar."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from aivo_backup.cli.drill import drill
from aivo_backup.policy.drills import DRILLS, DrillRun, Exercise
from aivo_backup.policy.schedules import expected_runs
from tests.infra.plans import Plan, Resource

YEARS = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC))
"""Two leap years and every length of a month and of a quarter."""


def longest_gap(cron: str) -> timedelta:
    """Between two runs of a cron expression."""
    return max(later - earlier for earlier, later in pairwise(expected_runs(cron, *YEARS)))


def job(plan: Plan, name: str) -> Resource:
    return plan.one(":CronJob", name)


@pytest.mark.parametrize("run", DRILLS, ids=lambda run: run.name)
def test_each_runs_its_command_as_nobody_else_does(plan: Plan, run: DrillRun) -> None:
    spec = job(plan, run.name).inputs["spec"]
    work = spec["jobTemplate"]["spec"]
    pod = work["template"]["spec"]
    (container,) = pod["containers"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (run.cron, "Etc/UTC", "Forbid")
    assert (container["command"], tuple(container["args"])) == (["aivo-backup"], run.arguments)
    assert run.arguments[1] in drill.commands
    assert pod["serviceAccountName"] == "aivo-backup-driller"
    assert "suspend" not in spec
    assert work["backoffLimit"] == 0
    rto = plan.settings()["objectives"]["rto_seconds"]
    assert work["activeDeadlineSeconds"] >= max(1, run.restores) * rto
    (scratch,) = [volume for volume in pod["volumes"] if volume["name"] == "scratch"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    secrets = {f"/etc/aivo-backup-secrets/{name}" for name in ("postgres", "minio-source", "opensearch")}
    if run.restores:
        assert "ephemeral" in scratch, "as large as the database, and gone with the pod"
        assert secrets <= mounted
    else:
        assert not secrets & mounted, "a review reads records alone"


def test_every_exercise_is_held_before_it_is_overdue() -> None:
    crons = {run.arguments[1]: run.cron for run in DRILLS}
    for exercise in Exercise:
        assert longest_gap(crons[exercise.value]) < exercise.overdue_after
    # Neither would hold with one left out.
    assert longest_gap("0 9 2 1-10,12 *") > Exercise.MONTHLY.overdue_after
    assert longest_gap("0 9 3 1,4,10 *") > Exercise.QUARTERLY.overdue_after


def test_no_two_are_held_on_one_day() -> None:
    days = [run.date() for each in DRILLS for run in expected_runs(each.cron, *YEARS)]
    assert len(days) == len(set(days))
