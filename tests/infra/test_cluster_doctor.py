"""`doctor cluster` finds nothing wrong with what the program registers, and names each thing that is spoilt in it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from aivo_backup.observability.cluster import judge_cluster, unknown_cluster
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.names import AGENT, SIDECAR
from aivo_backup.policy.workloads import FORMER
from tests.infra import cluster_objects as spoil
from tests.infra.cluster_objects import COMPLETE, DRILLED, FAILED, INCREMENT, LAST, NOW, Cluster, container
from tests.infra.conftest import PlanOf


@pytest.fixture
def cluster(plan_of: PlanOf) -> Cluster:
    plan = plan_of("prod")
    document = plan.outputs["settings"]
    environment = Environment.from_json(json.loads(document), where="prod")
    registered = [dict(it.inputs) for it in plan.resources if it.type.startswith("kubernetes:")]
    return Cluster(environment, registered, document)


def test_nothing_is_wrong_with_what_the_program_registers(cluster: Cluster) -> None:
    findings = judge_cluster(cluster.view())
    assert [finding for finding in findings if not finding.passed] == []
    checked = {finding.check for finding in findings}
    assert {f"CronJob {name}" for name in (*LAST, *DRILLED)} < checked
    assert {f"volume {name}-state" for name in LAST} < checked
    restore_tests = {f"CronJob restore-test-{one}" for one in ("postgres", "minio", "opensearch")}
    assert restore_tests | {"database", "sidecar", AGENT, "settings in aivo", "settings in aivo-system"} < checked
    assert len(findings) == len(checked) == len(LAST) * 2 + len(DRILLED) + 3 + 6
    assert cluster.asked == [], "no log is read where nothing is wrong"


def test_jobs_that_are_well_are_no_finding(cluster: Cluster) -> None:
    cluster.job(name="failed-before", ago=7200, failed=2, conditions=FAILED)
    cluster.job(name="succeeded-since", ago=3600, conditions=COMPLETE)
    works = cluster.job(name="works", ago=600, active=1)
    cluster.pod(works, phase="Running", containerStatuses=container(running={}))
    starts = cluster.job("minio-backup", name="starts", ago=60, active=1)
    cluster.pod(
        starts,
        name="starts",
        ago=60,
        phase="Pending",
        containerStatuses=container(waiting={"reason": "ContainerCreating"}),
    )
    # Nothing of ours is what others do in the namespace.
    cluster.job("somebody-elses", name="theirs", ago=7200, failed=2, conditions=FAILED)
    assert cluster.wrong() == []


JOBS = f"CronJob {INCREMENT}"
SPOILT: dict[str, tuple[Callable[[Cluster], None], str, str, str]] = {
    "gone": (lambda it: it.remove("CronJob", INCREMENT), JOBS, "prod-context has no CronJob", "pulumi up"),
    "suspended": (spoil.suspend, JOBS, "spec.suspend is true", f"kubectl patch cronjob {INCREMENT} -n aivo-system"),
    "other schedule": (spoil.spoil_spec(schedule="0 0 * * *"), JOBS, "is '0 0 * * *', not '*/30 * * * *'", "pulumi up"),
    "other zone": (spoil.spoil_spec(timeZone=None), JOBS, "spec.timeZone is None, not 'Etc/UTC'", "pulumi up"),
    "other image": (spoil.other_image, JOBS, "image is 'other', not '", "pulumi up --refresh"),
    "missed": (
        spoil.missed,
        JOBS,
        "due at 2026-11-25 03:00 UTC, the last was scheduled 2026-11-25T02:30:00Z; Miss",
        f"kubectl describe cronjob {INCREMENT} -n aivo-system",
    ),
    "never run": (spoil.never, JOBS, "due at 2026-10-16 03:30 UTC, the last was scheduled never", "--from=cronjob/"),
    "failed": (
        spoil.failed,
        JOBS,
        "BackoffLimitExceeded: Job has reached the specified backoff limit; pod second, "
        f"container {INCREMENT}: exit code 4 (unreachable); it said: three",
        "doctor minio",
    ),
    "killed": (spoil.killed, JOBS, "pod first, container minio-backup-incr: exit code 137 (killed)", "see whether"),
    "out of memory": (spoil.out_of_memory, JOBS, "OOMKilled", "raise its memory limit"),
    "evicted": (spoil.evicted, JOBS, "evicted: The node was low on resource", "kubectl describe nodes"),
    "drained": (spoil.drained, JOBS, "EvictionByEvictionAPI", "kubectl describe nodes"),
    "no image": (spoil.no_image, JOBS, 'ImagePullBackOff: Back-off pulling image "nowhere"', "correct cluster.image"),
    "no node": (spoil.no_node, JOBS, "has no node: 0/3 nodes: Insufficient memory", "kubectl describe pod pod -n"),
    "no volume": (spoil.no_volume, JOBS, 'for 600 s: secret "minio-source" not found', "kubectl describe pod pod"),
    "no settings": (spoil.no_settings, JOBS, 'CreateContainerConfigError: configmap "x" not found', "kubectl describe"),
    "refused": (
        spoil.refused,
        JOBS,
        'refused: violates PodSecurity "restricted',
        "kubectl delete job job -n aivo-system",
    ),
    "refused to the end": (
        spoil.refused_to_the_end,
        JOBS,
        "a pod was refused: exceeded quota: pods",
        "mend what refuses",
    ),
    "too long": (
        spoil.too_long,
        JOBS,
        "DeadlineExceeded: Job was active longer",
        "kubectl logs job/job -n aivo-system",
    ),
    "stuck": (spoil.stuck, JOBS, "it has run for 1600 s, it may take 1500 s", "kubectl logs job/job -n aivo-system"),
    "restore test": (
        spoil.restore_test,
        "CronJob restore-test-postgres",
        "exit code 5 (verification failed)",
        "kubectl create job restore-test-postgres-again -n aivo-system",
    ),
    "drill missed": (
        lambda it: it.one("CronJob", "drill-monthly").update(status={}),
        "CronJob drill-monthly",
        "a run was due at 2026-11-02 09:00 UTC, the last was scheduled never",
        "kubectl create job drill-monthly-again -n aivo-system",
    ),
    "restore test on its own": (
        lambda it: it.one("CronJob", "restore-test-minio")["spec"].update(suspend=False),
        "CronJob restore-test-minio",
        "spec.suspend is false",
        '"suspend":true',
    ),
    "no agent": (lambda it: it.remove("Deployment", AGENT), AGENT, "there is no Deployment", "pulumi up"),
    "agent at nothing": (
        lambda it: it.one("Deployment", AGENT)["spec"].update(replicas=0),
        AGENT,
        "scaled to nothing",
        f"kubectl scale deployment {AGENT} -n aivo-system --replicas=1",
    ),
    "agent crashes": (
        spoil.agent_crashes,
        AGENT,
        "0 of 1 ready; pod agent-1, container aivo-backup-agent: exit code 3 (configuration); it said: three",
        "kubectl describe pod agent-1 -n aivo-system",
    ),
    "agent's image": (
        lambda it: it.one("Deployment", AGENT)["spec"]["template"]["spec"]["containers"][0].update(image="other"),
        AGENT,
        "image is other, not",
        "pulumi up --refresh",
    ),
    "no database": (lambda it: it.remove("StatefulSet", "postgresql"), "database", "no StatefulSet aivo/", "correct"),
    "database starts": (
        spoil.database_starts,
        "database",
        "0 of 1 ready",
        "kubectl rollout status statefulset/postgresql",
    ),
    "database crashes": (
        spoil.database_crashes,
        "database",
        "container postgresql: exit code 1 (failed)",
        "describe pod",
    ),
    "database stopped": (spoil.stopped, "database", "scaled to nothing", "--replicas=1"),
    "restore killed": (
        spoil.stopped_and_left,
        "database",
        "says that it had 1; no Job",
        "aivo-backup recover database-corruption (or storage-failure) --resume",
    ),
    "restoring": (
        spoil.restoring,
        "database",
        "while Job aivo-backup-restore-1 restores on its volume; it said: three",
        "kubectl logs -f job/aivo-backup-restore-1 -n aivo",
    ),
    "started by hand": (spoil.started_by_hand, "database", f"its annotation {FORMER} still says 1", f"{FORMER}-"),
    "shop left behind": (
        spoil.shop_left_behind,
        "application shop",
        "stands at 0;",
        "kubectl scale deployment shop -n aivo",
    ),
    "no sidecar": (spoil.no_sidecar, "sidecar", f"has no container {SIDECAR}", "init postgres --patch"),
    "old sidecar": (spoil.old_sidecar, "sidecar", "image is older, not", "init postgres --patch"),
    "sidecar waits": (
        spoil.sidecar_waits,
        "sidecar",
        f"container {SIDECAR}: exit code 3 (configuration); it said: three",
        f"kubectl logs postgresql-0 -c {SIDECAR} -n aivo",
    ),
    "stale settings": (
        spoil.stale("aivo-system"),
        "settings in aivo-system",
        "differs in production, unheard-of",
        "pulumi",
    ),
    "stale copy": (
        spoil.stale("aivo"),
        "settings in aivo",
        "differs in production, unheard-of",
        "init postgres --patch",
    ),
    "unbound": (
        spoil.unbound,
        f"volume {INCREMENT}-state",
        'is Pending: storageclass "gp9" not found',
        "kubectl describe",
    ),
    "lost": (
        lambda it: it.one("PersistentVolumeClaim", "data-postgresql-0")["status"].update(phase="Lost"),
        "volume data-postgresql-0",
        "is Lost",
        "kubectl describe pvc data-postgresql-0 -n aivo",
    ),
    "no volume claim": (
        lambda it: it.remove("PersistentVolumeClaim", f"{INCREMENT}-state"),
        f"volume {INCREMENT}-state",
        "there is no",
        "pulumi up",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_spoilt_is_the_one_thing_that_is_named(cluster: Cluster, spoilt: str) -> None:
    damage, check, evidence, mend = SPOILT[spoilt]
    damage(cluster)
    (finding,) = cluster.wrong()
    assert finding.check == check
    assert evidence in finding.evidence
    assert mend in finding.mend
    assert finding.finding != "ok"
    assert finding.component == "cluster"
    assert "\n" not in finding.evidence + finding.mend


def test_a_log_is_cut_to_a_few_lines_that_no_terminal_obeys(cluster: Cluster) -> None:
    spoil.failed(cluster)
    (finding,) = cluster.wrong()
    said = finding.evidence.partition("it said: ")[2]
    assert [line[:5] for line in said.split(" | ")] == ["three", "four", "five ", "six"]
    assert max(map(len, said.split(" | "))) == 160
    assert cluster.asked == [("aivo-system", "second", INCREMENT)]
    cluster.logs = None
    (finding,) = cluster.wrong()
    assert "it said" not in finding.evidence
    assert "exit code 4" in finding.evidence


def test_the_databases_own_log_is_not_shown(cluster: Cluster) -> None:
    spoil.database_crashes(cluster)
    (finding,) = cluster.wrong()
    assert "it said" not in finding.evidence
    assert cluster.asked == []


def test_a_volume_that_waits_for_its_first_pod_is_well(cluster: Cluster) -> None:
    held = cluster.one("PersistentVolumeClaim", f"{INCREMENT}-state")
    held["status"]["phase"] = "Pending"
    cluster.warn(held, "WaitForFirstConsumer", "waiting", kind="Normal")
    assert cluster.wrong() == []


def test_a_run_that_is_late_within_its_allowance_or_waits_for_the_one_before_is_no_finding(cluster: Cluster) -> None:
    held = cluster.one("CronJob", INCREMENT)
    held["status"] = {"lastScheduleTime": "2026-11-25T02:30:00Z"}
    on_time = replace(cluster.view(), now=NOW.replace(minute=5, second=59))
    assert all(finding.passed for finding in judge_cluster(on_time))
    late = replace(cluster.view(), now=NOW.replace(minute=6, second=1))
    assert [it.check for it in judge_cluster(late) if not it.passed] == [JOBS]
    held["status"] |= {"active": [{"name": "job"}]}
    assert cluster.wrong() == []


def test_another_environments_cluster_is_said_to_be_that_and_nothing_more(cluster: Cluster) -> None:
    assert unknown_cluster(cluster.view()) is None
    cluster.environment = replace(cluster.environment, name="staging")
    (finding,) = cluster.wrong()
    assert finding.evidence == "ConfigMap aivo-system/aivo-backup-settings of prod-context is that of prod"
    cluster.objects = []
    (finding,) = cluster.wrong()
    assert finding.evidence == "prod-context has no ConfigMap aivo-system/aivo-backup-settings"
    assert finding == unknown_cluster(cluster.view())
