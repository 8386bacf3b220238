"""The stack `local` on a real cluster: its CronJobs, its agent, its sidecar, each as it was registered."""

import json
import re
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from aivo_backup.catalog.records import Purpose, RunStatus
from aivo_backup.errors import BackupError
from aivo_backup.policy.environment import BackupKind, Component
from aivo_backup.policy.names import AGENT, DOCUMENTS, DRILL_BUCKETS, REVIEWS_PREFIX
from aivo_backup.stores.opensearch.recovery import existing
from tests.e2e.world import JOB_SECONDS, NAMESPACE, STORES, World


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A Job whose first attempt was killed, and how many runs its CronJob had left before."""

    cronjob: str
    job: str
    before: int


@pytest.fixture(scope="module")
def refused(world: World) -> Generator[tuple[str, str]]:
    """A CronJob, and a Job of it from when its template broke the namespace's policy, which it no longer does."""
    name = next(
        one.name
        for one in world.app.environment.backups
        if one.component is Component.OPENSEARCH and one.kind is BackupKind.INCREMENTAL
    )

    def patch(on_host: bool) -> None:
        spec = {"jobTemplate": {"spec": {"template": {"spec": {"hostNetwork": on_host or None}}}}}
        text = json.dumps({"spec": spec})
        world.kubectl("patch", "cronjob", name, f"--namespace={NAMESPACE}", f"--patch={text}")

    patch(on_host=True)
    try:
        job = world.start(name)
    finally:
        patch(on_host=False)
    yield name, job
    world.kubectl("delete", "job", job, f"--namespace={NAMESPACE}", "--wait=false")


@pytest.fixture(scope="module")
def outcomes(world: World, refused: tuple[str, str]) -> dict[str, str]:
    """Every CronJob that is registered, run once by hand: those of one component in turn, components side by side."""
    assert refused[1]
    by_component: dict[str, list[str]] = {}
    for cronjob in world.cronjobs():
        by_component.setdefault(world.component(cronjob), []).append(cronjob)

    def run(names: list[str]) -> dict[str, str]:
        # By name, which puts a full backup before its increments.
        return {name: world.ended(world.start(name)) for name in sorted(names)}

    with ThreadPoolExecutor(len(by_component)) as pool:
        return {name: how for part in pool.map(run, by_component.values()) for name, how in part.items()}


@pytest.fixture(scope="module", autouse=True)
def killed(world: World, outcomes: dict[str, str]) -> Killed:
    """A backup that was killed half way; its Job makes a second attempt, which the other tests do not wait for."""
    assert outcomes
    name = next(
        one.name
        for one in world.app.environment.backups
        if one.component is Component.POSTGRES and one.kind is BackupKind.FULL
    )
    before = len(world.runs(name))
    job = world.start(name)
    world.wait(f"{job} at work", lambda: "takes a full backup" in world.logs(job))
    world.kill(job)
    return Killed(cronjob=name, job=job, before=before)


@pytest.fixture(scope="module", autouse=True)
def drills(world: World, outcomes: dict[str, str]) -> dict[str, str]:
    """The Jobs of the drills, by CronJob: all at once, beside the other tests, since none may be in another's way."""
    assert outcomes, "they restore what the backups left"
    world.replicate()  # the quarterly one reads the second region
    return {name: world.start(name) for name in world.cronjobs(drills=True)}


def test_every_cronjob_runs_in_a_container(world: World, outcomes: dict[str, str]) -> None:
    assert outcomes
    assert outcomes == dict.fromkeys(world.cronjobs(), "Complete")


def test_every_backup_leaves_its_record_and_its_recovery_point(world: World, outcomes: dict[str, str]) -> None:
    points = {point.run_id: point for point in world.points()}
    for scheduled in world.app.environment.backups:
        assert scheduled.name in outcomes
        runs = [run for run in world.runs(scheduled.name) if run.status is RunStatus.SUCCEEDED]
        assert runs, f"{scheduled.name} left no record"
        point = points[runs[-1].id]
        assert (point.component, point.kind, point.id) == (scheduled.component, scheduled.kind, runs[-1].recovery_point)


def test_jobs_run_under_the_restricted_level(world: World, outcomes: dict[str, str]) -> None:
    assert outcomes
    labels = world.kubectl.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    with pytest.raises(BackupError, match="violates PodSecurity"):
        world.kubectl("run", "as-root", f"--namespace={NAMESPACE}", "--image=aivo-backup:local")


def test_a_cronjob_fires_by_its_own_schedule(world: World, outcomes: dict[str, str]) -> None:
    assert outcomes
    name = next(one.name for one in world.app.environment.backups if one.component is Component.MINIO)
    schedule = world.kubectl.get("cronjob", name, namespace=NAMESPACE)["spec"]["schedule"]
    before = len(world.runs(name))

    def set_schedule(cron: str) -> None:
        patch = f'{{"spec": {{"schedule": "{cron}"}}}}'
        world.kubectl("patch", "cronjob", name, f"--namespace={NAMESPACE}", f"--patch={patch}")

    set_schedule("* * * * *")
    try:
        world.wait(f"a scheduled run of {name}", lambda: len(world.runs(name)) > before, seconds=JOB_SECONDS)
    finally:
        set_schedule(schedule)
    assert world.kubectl.get("cronjob", name, namespace=NAMESPACE)["status"]["lastScheduleTime"]
    assert world.runs(name)[-1].status is RunStatus.SUCCEEDED


def test_wal_reaches_the_repository_from_the_sidecar(world: World) -> None:
    segment = world.psql("SELECT pg_walfile_name(pg_switch_wal())").strip()
    world.wait(
        f"segment {segment} archived",
        lambda: world.psql("SELECT last_archived_wal FROM pg_stat_archiver").strip() >= segment,
        seconds=60.0,
    )
    bucket = world.app.environment.bucket(Component.POSTGRES)
    pages = world.app.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="archive/")
    stored = [entry.get("Key", "") for page in pages for entry in page.get("Contents", [])]
    assert any(segment in key for key in stored)


def test_the_database_holds_no_secret_of_the_repository(world: World) -> None:
    where = [f"--namespace={STORES}", "--container=postgresql", "postgresql-0"]
    variables = world.kubectl("exec", *where, "--", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ")
    assert "PGBACKREST_" not in variables
    configuration = world.kubectl("exec", *where, "--", "cat", "/etc/pgbackrest/host.conf")
    assert "repo1-host" in configuration
    assert "cipher" not in configuration
    assert "s3" not in configuration


def test_the_agent_is_ready_and_beats(world: World) -> None:
    world.kubectl("rollout", "status", "deployment", AGENT, f"--namespace={NAMESPACE}", "--timeout=120s")
    pods = world.kubectl.get("pods", namespace=NAMESPACE, selector=f"app.kubernetes.io/name={AGENT}")
    assert [pod["status"]["phase"] for pod in pods] == ["Running"]
    beats = "SELECT count(*) FROM aivo_backup.heartbeat WHERE at > now() - interval '3 minutes'"
    world.wait("a heartbeat in PostgreSQL", lambda: int(world.psql(beats)) > 0, seconds=120.0)


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


def test_the_stores_have_the_names_of_the_settings(world: World) -> None:
    where = [f"--namespace={STORES}", "--container=postgresql", "postgresql-0"]
    for name in ("minio", "opensearch", "postgresql"):
        answer = world.kubectl("exec", *where, "--", "getent", "hosts", f"{name}.{STORES}.svc.cluster.local")
        assert answer.split()[1] == f"{name}.{STORES}.svc.cluster.local"


def test_a_run_that_is_killed_half_way_is_a_failed_run_and_the_next_succeeds(world: World, killed: Killed) -> None:
    # The Job's own second attempt is the next run.
    assert world.ended(killed.job) == "Complete"
    left = [run.status for run in world.runs(killed.cronjob)[killed.before :]]
    assert left == [RunStatus.FAILED, RunStatus.SUCCEEDED]


def test_drills_restore_beside_the_stores_file_it_and_leave_nothing(world: World, drills: dict[str, str]) -> None:
    assert set(drills) == {"drill-annual", "drill-monthly", "drill-quarterly"}
    for name, job in drills.items():
        assert world.ended(job) == "Complete", f"{name}: {world.logs(job)}"
    app = world.app
    records = app.catalog.recoveries(Purpose.DRILL, since=app.clock().replace(hour=0, minute=0))
    assert {(record.exercise, record.scenario, record.from_replica) for record in records if record.passed} == {
        ("monthly", "storage-failure", False),
        ("quarterly", "database-corruption", True),
        ("quarterly", "storage-failure", True),
    }
    buckets = [bucket.get("Name", "") for bucket in app.minio_source.list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith(DRILL_BUCKETS)]
    assert existing(app.opensearch_cluster, "verify-*") == []
    reviews = app.s3.list_objects_v2(Bucket=app.environment.buckets[DOCUMENTS], Prefix=REVIEWS_PREFIX)
    assert reviews.get("Contents"), "the yearly review is among the documents"
