"""`aivo-backup doctor cluster` on a real cluster: nothing is wrong at first, and what is broken then is named."""

import json
from collections.abc import Generator
from typing import Any

import pytest

from aivo_backup.errors import ExitCode
from aivo_backup.policy.names import AGENT
from tests.e2e.world import NAMESPACE, World

SUSPENDED = "postgresql-backup-full"
FAILED, KILLED, NO_IMAGE, REFUSED = "minio-prune", "opensearch-prune", "postgresql-expire", "minio-backup"


def failures(world: World) -> dict[str, dict[str, Any]]:
    """The failed checks by name; each has its evidence and a mend, and the exit code says whether there is any."""
    done = world.cli("doctor", "cluster", "--json")
    assert done.returncode in (ExitCode.DONE, ExitCode.FAILED), done.stderr
    report = json.loads(done.stdout)
    failed = [finding for finding in report["findings"] if not finding["passed"]]
    assert (done.returncode == ExitCode.DONE) is (not failed) is report["healthy"]
    assert all(finding["evidence"] and finding["mend"] for finding in failed)
    assert len({finding["check"] for finding in failed}) == len(failed)
    return {finding["check"]: finding for finding in failed}


def patch(world: World, kind: str, name: str, **spec: Any) -> None:
    world.kubectl("patch", kind, name, f"--namespace={NAMESPACE}", f"--patch={json.dumps({'spec': spec})}")


def agent_is_ready(world: World) -> None:
    world.kubectl("rollout", "status", "deployment", AGENT, f"--namespace={NAMESPACE}", "--timeout=120s")


@pytest.fixture(scope="module")
def broken(world: World) -> Generator[dict[str, str]]:
    """Everything is broken at once; the Jobs by their CronJob. It is mended, and seen to be, before the next module."""
    jobs: dict[str, str] = {}
    try:
        patch(world, "cronjob", SUSPENDED, suspend=True)
        patch(world, "deployment", AGENT, replicas=0)
        jobs[KILLED] = world.start_spoilt(
            KILLED, f"doctor-{KILLED}", command=["sh", "-c", "sleep 600  # a process of aivo-backup"], args=[]
        )
        jobs[FAILED] = world.start_spoilt(FAILED, f"doctor-{FAILED}", args=["prune", "nonsense"])
        jobs[NO_IMAGE] = world.start_spoilt(NO_IMAGE, f"doctor-{NO_IMAGE}", image="aivo-backup:nowhere")
        jobs[REFUSED] = world.start_spoilt(REFUSED, f"doctor-{REFUSED}", pod={"hostNetwork": True})
        world.wait("a process to kill", lambda: bool(world.processes(jobs[KILLED])), seconds=60.0)
        world.kill(jobs[KILLED])
        for cronjob in (FAILED, KILLED):
            assert world.ended(jobs[cronjob], seconds=60.0) == "Failed"
        yield jobs
    finally:
        for job in jobs.values():
            world.kubectl("delete", "job", job, f"--namespace={NAMESPACE}")
        patch(world, "deployment", AGENT, replicas=1)
        patch(world, "cronjob", SUSPENDED, suspend=False)
        agent_is_ready(world)
    assert failures(world) == {}


@pytest.fixture(scope="module")
def found(world: World, broken: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What the doctor says of it."""
    assert broken
    return failures(world)


def test_nothing_is_found_where_nothing_is_wrong(world: World) -> None:
    agent_is_ready(world)
    done = world.cli("doctor", "cluster")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert "checks, 0 failed" in done.stdout
    assert all(f"CronJob {name}" in done.stdout for name in world.cronjobs())


def test_each_thing_that_is_broken_is_named_and_nothing_else(found: dict[str, dict[str, Any]]) -> None:
    broken = (SUSPENDED, FAILED, KILLED, NO_IMAGE, REFUSED)
    assert set(found) == {AGENT, *(f"CronJob {name}" for name in broken)}


@pytest.mark.parametrize(
    ("check", "evidence", "mend"),
    [
        (f"CronJob {SUSPENDED}", "spec.suspend is true", f"kubectl patch cronjob {SUSPENDED} -n {NAMESPACE} -p"),
        (AGENT, "is scaled to nothing", f"kubectl scale deployment {AGENT} -n {NAMESPACE} --replicas=1"),
        (f"CronJob {FAILED}", "exit code 2 (usage); it said: aivo-backup: 'nonsense' is not", f"job/doctor-{FAILED}"),
        (f"CronJob {KILLED}", "exit code 137 (killed)", f"kubectl create job {KILLED}-again -n {NAMESPACE}"),
        (f"CronJob {NO_IMAGE}", "ErrImageNeverPull", f"kubectl delete job doctor-{NO_IMAGE} -n {NAMESPACE}"),
        (f"CronJob {REFUSED}", 'violates PodSecurity "restricted', f"kubectl delete job doctor-{REFUSED} -n "),
    ],
)
def test_what_is_broken_comes_with_its_evidence_and_the_mend(
    found: dict[str, dict[str, Any]], check: str, evidence: str, mend: str
) -> None:
    assert evidence in found[check]["evidence"]
    assert mend in found[check]["mend"]
