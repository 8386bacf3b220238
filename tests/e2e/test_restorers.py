"""Those who restore in the cluster. What they need is tried wherever a test calls the command; here is what is denied.

Nothing is changed by these tests: the server answers what it would do.
"""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from aivo_backup.errors import ExitCode
from aivo_backup.policy.names import AGENT
from aivo_backup.policy.restore_job import SUBCOMMAND, restore_job
from aivo_backup.policy.workloads import FORMER
from tests.e2e.world import NAMESPACE, STORES, World

# Begun here: the agent has two minutes of other tests for it.
pytestmark = pytest.mark.usefixtures("refused_restore_test")

DATABASE = "postgresql"
Document = dict[str, Any]
Spoil = Callable[[Document, Document], object]
"""Changes a Job's pod and the one container in it."""

SPOILT: dict[str, Spoil] = {
    "account": lambda pod, _: pod.update(serviceAccountName="default"),
    "token": lambda pod, _: pod.pop("automountServiceAccountToken"),
    "image": lambda _, it: it.update(image="aivo-backup:other"),
    "command": lambda _, it: it.update(command=["sh"]),
    "no-command": lambda _, it: it.pop("command"),
    "arguments": lambda _, it: it.update(args=["sidecar", "--install"]),
    "no-arguments": lambda _, it: it.pop("args"),
    "init-container": lambda pod, it: pod.update(initContainers=[{**it, "name": "first"}]),
    "second-container": lambda pod, it: pod["containers"].append({**it, "name": "second"}),
    "variable": lambda _, it: it["env"].append({"name": "LD_PRELOAD", "value": "/tmp/it.so"}),
    "value": lambda _, it: it["env"][0].update(value="/tmp/settings.json"),
    "secret-variable": lambda _, it: it["env"].append(
        {"name": "AIVO_BACKUP_STATE", "valueFrom": {"secretKeyRef": {"name": "any", "key": "any"}}}
    ),
    "secret-variables": lambda _, it: it.update(envFrom=[{"secretRef": {"name": "any"}}]),
    "secret": lambda pod, _: pod["volumes"].append({"name": "x", "secret": {"secretName": "any"}}),
    "host-path": lambda pod, _: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "claim": lambda pod, _: pod["volumes"].append({"name": "x", "persistentVolumeClaim": {"claimName": "any"}}),
    "config-map": lambda pod, _: pod["volumes"].append({"name": "x", "configMap": {"name": "any"}}),
    "projected": lambda pod, _: pod["volumes"].append(
        {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    ),
    "host-network": lambda pod, _: pod.update(hostNetwork=True),
    "host-processes": lambda pod, _: pod.update(hostPID=True),
    "root": lambda _, it: it["securityContext"].update(runAsUser=0, runAsNonRoot=False),
    "capability": lambda _, it: it["securityContext"].update(capabilities={"add": ["SYS_ADMIN"]}),
    "escalation": lambda _, it: it["securityContext"].pop("allowPrivilegeEscalation"),
    "no-security": lambda _, it: it.pop("securityContext"),
    "hook": lambda _, it: it.update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
    "probe": lambda _, it: it.update(livenessProbe={"exec": {"command": ["sh"]}}),
}


def test_a_restores_job_is_taken_and_one_that_runs_anything_else_is_not(world: World) -> None:
    base = restore_job(world.app.environment, "as-it-is", SUBCOMMAND)
    jobs = [base]
    for name, spoil in SPOILT.items():
        job = copy.deepcopy(base)
        job["metadata"]["name"] = name
        pod = job["spec"]["template"]["spec"]
        spoil(pod, pod["containers"][0])
        jobs.append(job)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": jobs})
    done = world.restorer("create", "--dry-run=server", "--filename=-", stdin=text)
    assert set(re.findall(r"^job.batch/(\S+) created", done.stdout, re.MULTILINE)) == {"as-it-is"}
    refused = re.findall(r'jobs.batch "(\S+)" is forbidden: ValidatingAdmissionPolicy \S+-restorers-job', done.stderr)
    assert set(refused) == set(SPOILT), done.stderr[-1500:]


DOWN = {"metadata": {"annotations": {FORMER: "1"}}, "spec": {"replicas": 0}}
RESTART = {"kubectl.kubernetes.io/restartedAt": "2026-11-25T12:00:00Z"}
REFERENCE = {"apiVersion": "v1", "kind": "ConfigMap", "name": "any", "uid": "any"}


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        (DOWN, True),
        ({"spec": {"template": {"metadata": {"annotations": RESTART}}}}, True),
        ({"spec": {"template": {"metadata": {"annotations": {"any": "other"}}}}}, False),
        ({"spec": {"template": {"metadata": {"labels": {"any": "other"}}}}}, False),
        ({"spec": {"template": {"spec": {"serviceAccountName": "default"}}}}, False),
        ({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}, False),
        ({"spec": {"minReadySeconds": 5}}, False),
        ({"metadata": {"labels": {"aivo-backup/uses-stores": "true"}}}, False),
        ({"metadata": {"annotations": {"any": "other"}}}, False),
        ({"metadata": {"finalizers": ["any.io/other"]}}, False),
        ({"metadata": {"ownerReferences": [REFERENCE]}}, False),
    ],
)
def test_of_the_database_only_the_scale_is_changed(world: World, change: Document, allowed: bool) -> None:
    assert patched(world, "statefulset", DATABASE, STORES, change) is allowed


def test_workloads_of_others_are_left_alone(world: World) -> None:
    labels = {"app": "theirs"}
    pod = {"containers": [{"name": "theirs", "image": "any"}]}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    theirs: Document = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}
    theirs["metadata"] = {"name": "theirs", "namespace": STORES}
    world.kubectl.apply([theirs], field_manager="theirs")
    try:
        assert not patched(world, "deployment", "theirs", STORES, DOWN)
    finally:
        world.kubectl("delete", "deployment", "theirs", f"--namespace={STORES}", "--wait=false")
    # The agent is ours: it is made anew when the stores have moved.
    assert patched(
        world, "deployment", AGENT, NAMESPACE, {"spec": {"template": {"metadata": {"annotations": RESTART}}}}
    )


def patched(world: World, kind: str, name: str, namespace: str, change: Document) -> bool:
    """Whether the server would take the change; if not, its policy's words are the reason."""
    where = (f"--namespace={namespace}", "--type=merge", "--dry-run=server")
    done = world.restorer("patch", kind, name, *where, f"--patch={json.dumps(change)}")
    assert done.exit_code == 0 or "denied request: those who restore" in done.stderr, done.stderr
    return done.exit_code == 0


@pytest.mark.parametrize("namespace", [STORES, NAMESPACE])
def test_nothing_else_is_allowed(world: World, namespace: str) -> None:
    done = world.restorer("auth", "can-i", "--list", "--no-headers", f"--namespace={namespace}")
    # Resource, URLs, names, verbs; what every user may ask about the API and about himself is left out.
    rows = [row for row in done.stdout.splitlines() if row.strip() and "authentication." not in row]
    rows = [row for row in rows if "authorization." not in row and not row.startswith(" ")]
    found = {row.split()[0]: row.rpartition("[")[2].rstrip("] ").split() for row in rows}
    looks = {"pods": {"get", "list"}, "pods/log": {"get"}, "events": {"list"}, "persistentvolumeclaims": {"list"}}
    scales = {f"{kind}.apps": {"get", "list", "watch", "patch"} for kind in ("deployments", "statefulsets")}
    own = (
        {"jobs.batch": {"get", "list", "watch", "create", "delete"}}
        if namespace == STORES
        else {"jobs.batch": {"get", "list"}, "cronjobs.batch": {"list"}}
    )
    assert {name: set(verbs) for name, verbs in found.items()} == looks | scales | own | {"configmaps": {"get"}}
    assert "secrets is forbidden" in world.restorer("get", "secrets", f"--namespace={namespace}").stderr
    assert "forbidden" in world.restorer("get", "configmaps", f"--namespace={namespace}").stderr


def test_a_job_that_is_no_restores_is_not_removed(world: World) -> None:
    where = (f"--namespace={STORES}", "--dry-run=server")
    world.kubectl("create", "job", "theirs", f"--namespace={STORES}", "--image=any", "--", "true")
    try:
        done = world.restorer("delete", "job", "theirs", *where)
        assert "those who restore remove Jobs of restores, and no other" in done.stderr
    finally:
        world.kubectl("delete", "job", "theirs", f"--namespace={STORES}", "--wait=false")


def test_without_one_of_the_rights_a_restore_is_refused_before_anything_is_changed(world: World) -> None:
    world.full_backup()
    role = world.kubectl.get("role", "aivo-backup-restorers", namespace=STORES)
    rules = [rule for rule in role["rules"] if rule["apiGroups"] != ["apps"]]
    world.kubectl(
        "patch", "role", "aivo-backup-restorers", f"--namespace={STORES}", f"--patch={json.dumps({'rules': rules})}"
    )
    try:
        done = world.cli("restore", "postgres", "--to", "cluster", "--plan")
        assert done.returncode == ExitCode.FAILED
        assert 'statefulsets.apps "postgresql" is forbidden' in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        rules = json.dumps({"rules": role["rules"]})
        world.kubectl("patch", "role", "aivo-backup-restorers", f"--namespace={STORES}", f"--patch={rules}")
