"""The whole judgement: is it the right cluster, its schedule, the agent, the database and its sidecar, the volumes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from aivo_backup.observability.cluster.pods import about, job_trouble, newest, pod_trouble
from aivo_backup.observability.cluster.schedules import judge_cron_job
from aivo_backup.observability.cluster.view import ClusterView, Namespace, well, wrong
from aivo_backup.observability.doctor import Finding
from aivo_backup.policy.drills import DRILL_START_DEADLINE_SECONDS, DRILLS
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AGENT, SETTINGS_CONFIG_MAP, SETTINGS_KEY, SIDECAR, restore_test_job, state_claim
from aivo_backup.policy.restore_job import RESTORE_LABEL, claim
from aivo_backup.policy.workloads import FORMER, former_scale, outcome, part, parts

_WAITS_FOR_POD = "WaitForFirstConsumer"
_PATCH = "aivo-backup init postgres --patch | kubectl apply --server-side -f -   # restarts the database"
_RESUME = (
    "aivo-backup recover database-corruption (or storage-failure) --resume, or --abandon to start what was stopped"
)

Document = Mapping[str, Any]


def unknown_cluster(view: ClusterView) -> Finding | None:
    """Says that a cluster is not the environment's: it has none of its settings, or those of another."""
    environment, where = view.environment.name, f"ConfigMap {view.jobs.name}/{SETTINGS_CONFIG_MAP}"
    held = view.jobs.one("ConfigMap", SETTINGS_CONFIG_MAP)
    if held is None:
        mend = "kubectl config use-context CONTEXT, or where it was never provisioned: pulumi up"
        told = f"{view.context} has no {where}"
        return wrong("settings", f"nothing of {environment} is in this cluster", evidence=told, mend=mend)
    name = _content(held).get("name") or "nobody"
    if name == environment:
        return None
    mend = "kubectl config use-context CONTEXT, or aivo-backup --environment NAME"
    told = f"{where} of {view.context} is that of {name}"
    return wrong("settings", f"this is not the cluster of {environment}", evidence=told, mend=mend)


def judge_cluster(view: ClusterView) -> list[Finding]:
    """Everything that there is to say about the environment's cluster, in the order of the schedule."""
    unknown = unknown_cluster(view)
    # All the rest is compared with this environment's settings.
    return [unknown] if unknown else list(_judged(view))


def _judged(view: ClusterView) -> Iterator[Finding]:
    environment = view.environment
    yield _settings(view, view.jobs, mend="pulumi up")
    if view.stores.name != view.jobs.name:
        # The database's sidecar reads a copy of its own.
        yield _settings(view, view.stores, mend=_PATCH)
    for run in (*environment.backups, *environment.expiries):
        late = run.start_deadline_seconds
        yield from judge_cron_job(view, run.name, run.cron, component=run.component.value, late=late)
        yield _claim(view.jobs, state_claim(run.name))
    for component in Component:
        name, cron = restore_test_job(component), environment.verification_cron
        yield from judge_cron_job(view, name, cron, component=component.value, late=None)
    for drill in DRILLS:
        late = DRILL_START_DEADLINE_SECONDS
        yield from judge_cron_job(view, drill.name, drill.cron, component="", late=late)
    yield _agent(view)
    yield from _database(view)
    yield _claim(view.stores, claim(environment.postgres.pod))
    yield from _stopped_applications(view)


def _settings(view: ClusterView, namespace: Namespace, *, mend: str) -> Finding:
    check, where = f"settings in {namespace.name}", f"ConfigMap {namespace.name}/{SETTINGS_CONFIG_MAP}"
    trouble = "what runs there works with other settings than those published"
    held = namespace.one("ConfigMap", SETTINGS_CONFIG_MAP)
    if held is None:
        return wrong(check, trouble, evidence=f"there is no {where}", mend=mend)
    content, published = _content(held), json.loads(json.dumps(view.environment.to_json()))
    differing = sorted(key for key in {*content, *published} if content.get(key) != published.get(key))
    if differing:
        return wrong(check, trouble, evidence=f"{where} differs in {', '.join(differing)}", mend=mend)
    return well(check, f"{where} has the published settings")


def _claim(namespace: Namespace, name: str) -> Finding:
    check, where = f"volume {name}", f"PersistentVolumeClaim {namespace.name}/{name}"
    trouble, mend = "no pod that needs it starts", f"kubectl describe pvc {name} -n {namespace.name}"
    held = namespace.one("PersistentVolumeClaim", name)
    if held is None:
        return wrong(check, trouble, evidence=f"there is no {where}", mend="pulumi up --refresh")
    phase = part(held, "status").get("phase", "Pending")
    uid = held["metadata"]["uid"]
    events = [it for it in namespace.events if part(it, "involvedObject").get("uid") == uid]
    if phase == "Bound":
        return well(check, f"{where} is bound")
    if phase == "Pending" and events and all(it.get("reason") == _WAITS_FOR_POD for it in events):
        return well(check, f"{where} waits for its first pod, as its storage class has it")
    warnings = about(held, namespace.events)
    why = f": {warnings[-1].get('message', '')}" if warnings else ""
    return wrong(check, trouble, evidence=f"{where} is {phase}{why}", mend=mend)


def _agent(view: ClusterView) -> Finding:
    namespace, where = view.jobs, f"Deployment {view.jobs.name}/{AGENT}"
    trouble = "no heartbeats: a loss cannot be measured, and Jobs that came to nothing are not filed"
    held = namespace.one("Deployment", AGENT)
    if held is None:
        return wrong(AGENT, trouble, evidence=f"there is no {where}", mend="pulumi up --refresh")
    wanted, ready = _scale(held)
    if not wanted:
        mend = f"kubectl scale deployment {AGENT} -n {namespace.name} --replicas=1"
        return wrong(AGENT, trouble, evidence=f"{where} is scaled to nothing", mend=mend)
    if ready < wanted:
        return _not_ready(view, AGENT, trouble, namespace, held)
    images = {it.get("image") for it in parts(held, "spec", "template", "spec", "containers")}
    if images != {view.image}:
        told = f"{where}: image is {', '.join(map(str, images))}, not {view.image}"
        return wrong(AGENT, "it is not as the published settings have it", evidence=told, mend="pulumi up --refresh")
    return well(AGENT, f"{where}: {ready} of {wanted} ready")


def _database(view: ClusterView) -> Iterator[Finding]:
    namespace, name = view.stores, view.environment.postgres.pod.stateful_set
    check, where = "database", f"StatefulSet {namespace.name}/{name}"
    held = namespace.one("StatefulSet", name)
    if held is None:
        mend = "correct postgres.pod in the stack, or bring the database back from where it is kept"
        yield wrong(check, "the database does not exist", evidence=f"there is no {where}", mend=mend)
        return
    (wanted, ready), former = _scale(held), former_scale(held)
    if not wanted:
        yield _stopped_database(view, held)
        return
    if former:
        told = f"{where} stands at {wanted}, and its annotation {FORMER} still says {former}"
        mend = f"{_RESUME}; where there is none: kubectl annotate statefulset {name} -n {namespace.name} {FORMER}-"
        yield wrong(check, "a restore was not brought to its end", evidence=told, mend=mend)
    if ready < wanted:
        yield _not_ready(view, check, "the database is not ready", namespace, held)
    elif not former:
        yield well(check, f"{where}: {ready} of {wanted} ready")
    yield _sidecar(view, held)


def _stopped_database(view: ClusterView, held: Document) -> Finding:
    """At nothing: by a restore that works, by one that was killed, or by somebody."""
    namespace, name, former = view.stores, held["metadata"]["name"], former_scale(held)
    where = f"StatefulSet {namespace.name}/{name}"
    job = next(iter(newest(namespace.labelled("Job", {RESTORE_LABEL: name}))), None)
    if job is not None and not outcome(job):
        job_name, pods = job["metadata"]["name"], newest(namespace.pods_of(job))
        trouble = job_trouble(job, pods, namespace.events, view.now)
        told = f"{where} stands at nothing while Job {job_name} restores on its volume"
        told += f"; {trouble.told}" if trouble else view.said(namespace, next(iter(pods), None))
        mend = f"kubectl logs -f job/{job_name} -n {namespace.name}; when nobody waits for it: {_RESUME}"
        return wrong("database", "the database is stopped for a restore", evidence=told, mend=mend)
    if former:
        told = f"{where} stands at nothing; {FORMER} says that it had {former}"
        told += f"; Job {job['metadata']['name']}: {outcome(job)}" if job else "; no Job restores on its volume"
        return wrong("database", "the database is stopped by a restore that nobody ended", evidence=told, mend=_RESUME)
    mend = f"kubectl scale statefulset {name} -n {namespace.name} --replicas=1"
    return wrong("database", "the database is stopped", evidence=f"{where} is scaled to nothing", mend=mend)


def _sidecar(view: ClusterView, database: Document) -> Finding:
    """In every pod of the database: without it no WAL is archived, and no backup begins."""
    namespace, trouble = view.stores, "no WAL is archived, and no backup of PostgreSQL begins"
    containers = [it for it in parts(database, "spec", "template", "spec", "initContainers") if it["name"] == SIDECAR]
    if not containers:
        told = f"StatefulSet {namespace.name}/{database['metadata']['name']} has no container {SIDECAR}"
        return wrong("sidecar", trouble, evidence=told, mend=_PATCH)
    if (image := containers[0].get("image")) != view.image:
        told = f"image is {image}, not {view.image}"
        return wrong("sidecar", "it is not as the published settings have it", evidence=told, mend=_PATCH)
    pods = namespace.labelled("Pod", part(database, "spec", "selector", "matchLabels"))
    for pod in newest(pods):
        ours = [it for it in parts(pod, "status", "initContainerStatuses") if it["name"] == SIDECAR]
        if not ours or "running" not in part(ours[0], "state"):
            name = pod["metadata"]["name"]
            found = pod_trouble(pod, namespace.events, view.now)
            told = found.told if found else f"pod {name}, container {SIDECAR} does not run"
            mend = f"kubectl logs {name} -c {SIDECAR} -n {namespace.name}; aivo-backup doctor postgres"
            return wrong("sidecar", trouble, evidence=told + view.said(namespace, pod, SIDECAR), mend=mend)
    return well("sidecar", f"{SIDECAR} runs in {', '.join(it['metadata']['name'] for it in pods) or 'no pod yet'}")


def _stopped_applications(view: ClusterView) -> Iterator[Finding]:
    """Workloads that a recovery stopped and did not bring back."""
    namespaces = [view.stores] if view.stores.name == view.jobs.name else [view.stores, view.jobs]
    for namespace in namespaces:
        for held in (*namespace.of("Deployment"), *namespace.of("StatefulSet")):
            kind, name, former = held["kind"].lower(), held["metadata"]["name"], former_scale(held)
            if not former or (namespace is view.stores and name == view.environment.postgres.pod.stateful_set):
                continue
            told = f"{kind} {namespace.name}/{name} stands at {_scale(held)[0]}; {FORMER} says that it had {former}"
            mend = (
                f"{_RESUME}; where there is none: kubectl scale {kind} {name} -n {namespace.name} --replicas={former}"
            )
            yield wrong(f"application {name}", "a recovery stopped it and did not end", evidence=told, mend=mend)


def _not_ready(view: ClusterView, check: str, trouble: str, namespace: Namespace, workload: Document) -> Finding:
    """Why the pods of a workload are not ready."""
    kind, name = workload["kind"], workload["metadata"]["name"]
    wanted, ready = _scale(workload)
    told = f"{kind} {namespace.name}/{name}: {ready} of {wanted} ready"
    for pod in newest(namespace.labelled("Pod", part(workload, "spec", "selector", "matchLabels"))):
        if found := pod_trouble(pod, namespace.events, view.now):
            told += f"; {found.told}"
            # The database's own log may hold its data; ours does not.
            told += view.said(namespace, pod, found.container) if found.container in (AGENT, SIDECAR) else ""
            mend = f"kubectl describe pod {found.pod} -n {namespace.name}"
            return wrong(check, trouble, evidence=told, mend=mend)
    warnings = about(workload, namespace.events)
    told += f"; {warnings[-1].get('message', '')}" if warnings else ""
    mend = f"kubectl rollout status {kind.lower()}/{name} -n {namespace.name} --timeout=2m"
    return wrong(check, trouble, evidence=told, mend=mend)


def _scale(workload: Document) -> tuple[int, int]:
    """How many pods a workload is to have, and how many are ready."""
    return int(workload["spec"].get("replicas", 1)), int(part(workload, "status").get("readyReplicas", 0))


def _content(config_map: Document) -> Document:
    try:
        content: Any = json.loads(str(part(config_map, "data").get(SETTINGS_KEY, "")))
    except ValueError:
        return {}
    return cast("Document", content) if isinstance(content, dict) else {}
