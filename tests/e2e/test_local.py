"""The stack `local` on a real cluster: its CronJobs, its agent, its sidecar, each as it was registered."""

import pytest

from aivo_backup.catalog.records import RunStatus
from aivo_backup.errors import BackupError
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AGENT
from tests.e2e.world import NAMESPACE, STORES, Evicted, Killed, Scheduled, World

GRACE_SECONDS = 30.0
"""A pod's, unless its template says otherwise, as none of ours does."""


@pytest.fixture(scope="module", autouse=True)
def begun(killed: Killed, scheduled: Scheduled, drills: dict[str, str]) -> None:
    """Every CronJob has run; one backup was killed, one is due by its schedule, and the drills are held: nobody waits
    for their ends here."""
    assert killed.job
    assert scheduled.cronjob
    assert drills


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


def test_a_backup_whose_pod_is_told_to_go_is_a_failed_run_before_the_grace_is_over(evicted: Evicted) -> None:
    # The first process of a container gets no signal that it does not handle: it would be killed, and leave no record.
    assert evicted.seconds < GRACE_SECONDS
    assert [(run.status, run.error) for run in evicted.runs] == [(RunStatus.FAILED, "ended by SIGTERM")]


def test_jobs_run_under_the_restricted_level(world: World, outcomes: dict[str, str]) -> None:
    assert outcomes
    labels = world.kubectl.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    with pytest.raises(BackupError, match="violates PodSecurity"):
        world.kubectl("run", "as-root", f"--namespace={NAMESPACE}", "--image=aivo-backup:local")


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


def test_the_stores_have_the_names_of_the_settings(world: World) -> None:
    where = [f"--namespace={STORES}", "--container=postgresql", "postgresql-0"]
    for name in ("minio", "opensearch", "postgresql"):
        answer = world.kubectl("exec", *where, "--", "getent", "hosts", f"{name}.{STORES}.svc.cluster.local")
        assert answer.split()[1] == f"{name}.{STORES}.svc.cluster.local"
