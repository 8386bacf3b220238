"""A healthy cluster made of what the program registers, and ways to spoil it as clusters are spoilt."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.observability.cluster import ClusterView, Namespace, judge_cluster
from aivo_backup.observability.doctor import Finding
from aivo_backup.policy import database_pod
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.names import AGENT, SIDECAR
from aivo_backup.policy.restore_job import claim, restore_job
from aivo_backup.policy.workloads import FORMER

# A Wednesday, ten past three: a MinIO backup began at three, an increment was skipped for it.
NOW = datetime(2026, 11, 25, 3, 10, 30, tzinfo=UTC)
MADE = NOW - timedelta(days=40)
LAST = {
    "postgresql-backup-full": "2026-11-22T01:00:00Z",
    "postgresql-backup-incr": "2026-11-25T02:00:00Z",
    "minio-backup": "2026-11-25T03:00:00Z",
    "minio-backup-incr": "2026-11-25T03:00:00Z",
    "opensearch-snapshot": "2026-11-24T04:00:00Z",
    "opensearch-snapshot-incr": "2026-11-25T03:00:00Z",
    "postgresql-expire": "2026-11-24T08:10:00Z",
    "minio-prune": "2026-11-24T08:10:00Z",
    "opensearch-prune": "2026-11-24T08:10:00Z",
}
DRILLED = {"drill-monthly": "2026-11-02T09:00:00Z", "drill-quarterly": "", "drill-annual": ""}
INCREMENT = "minio-backup-incr"
LOG = "one\ntwo\nthree\x1b[0m\n  four \n\nfive " + "x" * 500 + "\nsix\n"

Document = dict[str, Any]


class Cluster:
    """The objects of a healthy cluster, free to be spoilt."""

    def __init__(self, environment: Environment, registered: list[Document], document: str) -> None:
        self.environment = environment
        self.objects = copy.deepcopy(registered)
        self.asked: list[tuple[str, str, str]] = []
        self.logs: str | None = LOG
        for number, one in enumerate(self.objects):
            one["metadata"] |= {"uid": f"uid-{number}", "creationTimestamp": at(MADE)}
            match one["kind"]:
                case "CronJob":
                    name = one["metadata"]["name"]
                    last = {**LAST, **DRILLED}.get(name)
                    one["status"] = {"lastScheduleTime": last} if last else {}
                case "PersistentVolumeClaim":
                    one["status"] = {"phase": "Bound"}
                case "Deployment":
                    one["status"] = {"readyReplicas": 1}
                case _:
                    pass
        for one in database_pod.patch(environment, document):
            one["metadata"] |= {"uid": f"uid-{one['kind']}-{one['metadata']['name']}", "creationTimestamp": at(MADE)}
            self.objects.append(one)
        pod = environment.postgres.pod
        database = self.one("StatefulSet", pod.stateful_set)
        labels = {"app": "postgresql"}
        database["spec"] |= {"replicas": 1, "selector": {"matchLabels": labels}}
        database["status"] = {"readyReplicas": 1}
        self.add("PersistentVolumeClaim", claim(pod), pod.namespace, status={"phase": "Bound"})
        running: list[Document] = [{"name": SIDECAR, "state": {"running": {}}}]
        status = {"phase": "Running", "initContainerStatuses": running}
        self.add("Pod", f"{pod.stateful_set}-0", pod.namespace, labels=labels, status=status)
        self.add("Deployment", "shop", pod.namespace, spec={"replicas": 2}, status={"readyReplicas": 2})

    def one(self, kind: str, name: str) -> Document:
        (found,) = (it for it in self.objects if (it["kind"], it["metadata"]["name"]) == (kind, name))
        return found

    def remove(self, kind: str, name: str) -> None:
        self.objects.remove(self.one(kind, name))

    def add(self, kind: str, name: str, namespace: str = "aivo-system", **rest: Any) -> Document:
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{kind}-{name}", "creationTimestamp": at(NOW)}
        metadata |= {key: rest.pop(key) for key in ("labels", "creationTimestamp", "ownerReferences") if key in rest}
        document = {"kind": kind, "metadata": metadata, **rest}
        self.objects.append(document)
        return document

    def job(self, cron_job: str = INCREMENT, *, name: str = "job", ago: int = 600, **status: Any) -> Document:
        begun = at(NOW - timedelta(seconds=ago))
        return self.add(
            "Job",
            name,
            labels={"app.kubernetes.io/name": cron_job},
            creationTimestamp=begun,
            spec={"activeDeadlineSeconds": 1500},
            status={"startTime": begun, **status},
        )

    def pod(self, job: Document, *, name: str = "pod", ago: int = 600, **status: Any) -> Document:
        owner = [{"kind": "Job", "uid": job["metadata"]["uid"]}]
        begun = at(NOW - timedelta(seconds=ago))
        where = job["metadata"]["namespace"]
        return self.add("Pod", name, where, ownerReferences=owner, creationTimestamp=begun, status=status)

    def warn(self, about: Document, reason: str, message: str, *, ago: int = 10, kind: str = "Warning") -> None:
        self.add(
            "Event",
            f"event-{len(self.objects)}",
            about["metadata"]["namespace"],
            involvedObject={"uid": about["metadata"]["uid"]},
            type=kind,
            reason=reason,
            message=message,
            lastTimestamp=at(NOW - timedelta(seconds=ago)),
        )

    def view(self) -> ClusterView:
        def log(namespace: str, pod: str, container: str) -> str:
            self.asked.append((namespace, pod, container))
            if self.logs is None:
                raise BackupError("gone")
            return self.logs

        def held(name: str) -> Namespace:
            mine = [it for it in self.objects if it["metadata"].get("namespace") == name]
            return Namespace(name=name, objects=mine)

        pod = self.environment.postgres.pod
        return ClusterView(
            environment=self.environment,
            context="prod-context",
            jobs=held(self.environment.namespace),
            stores=held(pod.namespace),
            log=log,
            now=NOW,
        )

    def wrong(self) -> list[Finding]:
        return [finding for finding in judge_cluster(self.view()) if not finding.passed]


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def condition(kind: str, **rest: str) -> list[Document]:
    return [{"type": kind, "status": "True", **rest}]


COMPLETE = condition("Complete")
FAILED = condition("Failed", reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit")
DEADLINE = condition("Failed", reason="DeadlineExceeded", message="Job was active longer than specified deadline")


def container(*, before: Document | None = None, **state: Document) -> list[Document]:
    return [{"name": INCREMENT, "state": state, **({"lastState": {"terminated": before}} if before else {})}]


def suspend(it: Cluster) -> None:
    it.one("CronJob", INCREMENT)["spec"]["suspend"] = True
    it.one("CronJob", INCREMENT)["status"] = {"lastScheduleTime": "2026-11-20T00:00:00Z"}


def spoil_spec(**spec: Any) -> Callable[[Cluster], None]:
    return lambda it: it.one("CronJob", INCREMENT)["spec"].update(spec)


def other_image(it: Cluster) -> None:
    it.one("CronJob", INCREMENT)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = "other"


def missed(it: Cluster) -> None:
    held = it.one("CronJob", INCREMENT)
    held["status"] = {"lastScheduleTime": "2026-11-25T02:30:00Z"}
    it.warn(held, "MissSchedule", "Missed scheduled time to start a job")


def never(it: Cluster) -> None:
    it.one("CronJob", INCREMENT)["status"] = {}


def failed(it: Cluster) -> None:
    job = it.job(failed=2, conditions=FAILED)
    it.pod(job, name="first", ago=600, phase="Failed", containerStatuses=container(terminated={"exitCode": 1}))
    it.pod(job, name="second", ago=500, phase="Failed", containerStatuses=container(terminated={"exitCode": 4}))


def killed(it: Cluster) -> None:
    job = it.job(failed=1, active=1)
    it.pod(job, name="first", ago=600, phase="Failed", containerStatuses=container(terminated={"exitCode": 137}))
    it.pod(job, name="second", ago=500, phase="Running", containerStatuses=container(running={}))


def out_of_memory(it: Cluster) -> None:
    job = it.job(failed=2, conditions=FAILED)
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    it.pod(job, phase="Failed", containerStatuses=container(terminated=ended))


def evicted(it: Cluster) -> None:
    job = it.job(failed=1, conditions=FAILED)
    it.pod(job, phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")


def drained(it: Cluster) -> None:
    job = it.job(failed=1, active=1)
    conditions = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")
    it.pod(job, phase="Failed", conditions=conditions, containerStatuses=container(terminated={"exitCode": 137}))


def no_image(it: Cluster) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere"'}
    it.pod(it.job(active=1, ago=20), ago=20, phase="Pending", containerStatuses=container(waiting=waiting))


def no_node(it: Cluster) -> None:
    conditions = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: Insufficient memory"}]
    it.pod(it.job(active=1), phase="Pending", conditions=conditions)


def no_volume(it: Cluster) -> None:
    waiting = {"reason": "ContainerCreating"}
    pod = it.pod(it.job(active=1), phase="Pending", containerStatuses=container(waiting=waiting))
    it.warn(pod, "FailedMount", "an older one", ago=300)
    it.warn(pod, "FailedMount", 'secret "minio-source" not found', ago=20)


def no_settings(it: Cluster) -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'configmap "x" not found'}
    it.pod(it.job(active=1), phase="Pending", containerStatuses=container(waiting=waiting))


def refused(it: Cluster) -> None:
    # An old one that holds back the next, though one that was started by hand has succeeded since.
    it.warn(it.job(ago=1200), "FailedCreate", 'violates PodSecurity "restricted:latest"')
    it.job(name="by-hand", ago=300, conditions=COMPLETE)


def refused_to_the_end(it: Cluster) -> None:
    it.warn(it.job(ago=1600, conditions=DEADLINE), "FailedCreate", "exceeded quota: pods")


def too_long(it: Cluster) -> None:
    it.job(ago=1600, conditions=DEADLINE)


def stuck(it: Cluster) -> None:
    job = it.job(ago=1600, active=1)
    it.pod(job, phase="Running", containerStatuses=container(running={}))


def restore_test(it: Cluster) -> None:
    job = it.job("restore-test-postgres", failed=1, conditions=FAILED)
    it.pod(job, phase="Failed", containerStatuses=container(terminated={"exitCode": 5}))


def agent_crashes(it: Cluster) -> None:
    agent = it.one("Deployment", AGENT)
    agent["status"] = {}
    status: Document = {"name": AGENT, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    status["lastState"] = {"terminated": {"exitCode": 3}}
    labels = agent["spec"]["selector"]["matchLabels"]
    it.add("Pod", "agent-1", labels=labels, status={"phase": "Running", "containerStatuses": [status]})


def database_starts(it: Cluster) -> None:
    it.one("StatefulSet", "postgresql")["status"] = {"readyReplicas": 0}


def database_crashes(it: Cluster) -> None:
    it.one("StatefulSet", "postgresql")["status"] = {}
    crash: Document = {"name": "postgresql", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    crash["lastState"] = {"terminated": {"exitCode": 1}}
    it.one("Pod", "postgresql-0")["status"] |= {"containerStatuses": [crash]}


def stopped(it: Cluster) -> None:
    held = it.one("StatefulSet", "postgresql")
    held["spec"]["replicas"], held["status"] = 0, {}
    it.remove("Pod", "postgresql-0")


def stopped_and_left(it: Cluster) -> None:
    stopped(it)
    it.one("StatefulSet", "postgresql")["metadata"]["annotations"] = {FORMER: "1"}


def restoring(it: Cluster) -> None:
    stopped_and_left(it)
    document = restore_job(it.environment, "aivo-backup-restore-1", ("restore", "volume"))
    job = it.add("Job", "aivo-backup-restore-1", "aivo", labels=document["metadata"]["labels"], spec=document["spec"])
    job["status"] = {"active": 1, "startTime": at(NOW)}
    it.pod(job, name="restoring", phase="Running", containerStatuses=container(running={}))


def started_by_hand(it: Cluster) -> None:
    it.one("StatefulSet", "postgresql")["metadata"]["annotations"] = {FORMER: "1"}


def shop_left_behind(it: Cluster) -> None:
    shop = it.one("Deployment", "shop")
    shop["spec"]["replicas"], shop["metadata"]["annotations"] = 0, {FORMER: "2"}


def no_sidecar(it: Cluster) -> None:
    spec = it.one("StatefulSet", "postgresql")["spec"]["template"]["spec"]
    spec["initContainers"] = [one for one in spec["initContainers"] if one["name"] != SIDECAR]


def old_sidecar(it: Cluster) -> None:
    for one in it.one("StatefulSet", "postgresql")["spec"]["template"]["spec"]["initContainers"]:
        one["image"] = "older"


def sidecar_waits(it: Cluster) -> None:
    waits: Document = {"name": SIDECAR, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    waits["lastState"] = {"terminated": {"exitCode": 3}}
    it.one("Pod", "postgresql-0")["status"] |= {"initContainerStatuses": [waits]}


def stale(namespace: str) -> Callable[[Cluster], None]:
    def spoil(it: Cluster) -> None:
        held = [one for one in it.objects if one["metadata"]["name"] == "aivo-backup-settings"]
        (mine,) = (one for one in held if one["metadata"]["namespace"] == namespace)
        content = json.loads(mine["data"]["settings.json"])
        mine["data"] = {"settings.json": json.dumps(content | {"production": False, "unheard-of": 1})}

    return spoil


def unbound(it: Cluster) -> None:
    held = it.one("PersistentVolumeClaim", f"{INCREMENT}-state")
    held["status"]["phase"] = "Pending"
    it.warn(held, "WaitForFirstConsumer", "waiting", ago=60, kind="Normal")
    it.warn(held, "ProvisioningFailed", 'storageclass "gp9" not found')
