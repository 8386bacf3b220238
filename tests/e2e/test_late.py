"""Failed runs, those after them, and what the agent tells of runs: each comes in its own time, and is looked at after
the others."""

import re

from aivo_backup.catalog.records import RunStatus
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AGENT
from tests.e2e.world import NAMESPACE, Killed, Scheduled, World


def test_a_job_whose_pod_is_refused_is_a_failed_run_and_the_next_succeeds(
    world: World, refused: tuple[str, str], outcomes: dict[str, str]
) -> None:
    name, job = refused
    assert outcomes[name] == "Complete"

    def filed() -> bool:
        return any(job in run.error for run in world.runs(name))

    # The agent looks once a minute, and leaves a Job a minute's time.
    world.wait(f"the failure of {job} on record", filed, seconds=240.0)
    assert not world.pods(job)
    (failed,) = (run for run in world.runs(name) if job in run.error)
    assert failed.status is RunStatus.FAILED
    assert 'violates PodSecurity "restricted' in failed.error
    assert "hostNetwork" in failed.error
    assert RunStatus.SUCCEEDED in {run.status for run in world.runs(name) if run.started > failed.started}
    world.kubectl("delete", "job", job, f"--namespace={NAMESPACE}", "--wait=false")


def test_a_cronjob_fires_by_its_own_schedule(world: World, scheduled: Scheduled) -> None:
    name = scheduled.cronjob
    try:
        world.wait(f"a scheduled run of {name}", lambda: len(world.runs(name)) > scheduled.before)
    finally:
        world.schedule(name, scheduled.schedule)
    assert world.kubectl.get("cronjob", name, namespace=NAMESPACE)["status"]["lastScheduleTime"]
    assert world.runs(name)[-1].status is RunStatus.SUCCEEDED


def test_a_run_that_is_killed_half_way_is_a_failed_run_and_the_next_succeeds(world: World, killed: Killed) -> None:
    # The Job's own second attempt is the next run.
    assert world.ended(killed.job) == "Complete"
    left = [run.status for run in world.runs(killed.cronjob)[killed.before :]]
    assert left == [RunStatus.FAILED, RunStatus.SUCCEEDED]


def test_the_agents_service_answers_with_the_runs_of_the_cluster(world: World, outcomes: dict[str, str]) -> None:
    assert outcomes
    name = next(one.name for one in world.app.environment.backups if one.component is Component.MINIO)
    # Through the API server, as a proxy to the Service: the cluster's own way to the agent's pod.
    address = f"/api/v1/namespaces/{NAMESPACE}/services/{AGENT}:metrics/proxy/metrics"
    sample = rf'^backup_jobs_total\{{(?=.*job_name="{name}")(?=.*status="success").*\}} ([\d.]+)$'
    wanted = re.compile(sample, re.MULTILINE)

    def counted() -> bool:
        found = wanted.search(world.kubectl("get", f"--raw={address}"))
        return found is not None and float(found.group(1)) >= 1

    # It reads the records once a minute.
    world.wait(f"a run of {name} among the agent's metrics", counted, seconds=150.0)
