"""kubectl under the caller's own kubeconfig, and the scale of workloads, whose former one is kept at themselves."""

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aivo_backup.errors import BackupError, UnreachableError
from aivo_backup.policy.workloads import FORMER, part, wanted_scale
from aivo_backup.stores.port import Progress
from aivo_backup.stores.process import Finished, run

WORKLOADS = "deployments,statefulsets"
SCALE_SECONDS = 600
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0
_UNREACHABLE = ("connection", "Unable to connect", "no such host", "i/o timeout")


def kubectl(*arguments: str, stdin: str | None = None) -> Finished:
    """Runs it.

    Raises:
        ConfigurationError: it is not installed.
        UnreachableError: the cluster does not answer.
        BackupError: it failed; the message has its words.
    """
    done = run(["kubectl", *arguments], stdin=stdin, timeout_seconds=SCALE_SECONDS + 30)
    if done.exit_code == 0:
        return done
    said = done.tail()
    if any(word in said for word in _UNREACHABLE):
        raise UnreachableError(f"the cluster does not answer: {said}", mend="check the kubeconfig")
    raise BackupError(f"kubectl {' '.join(arguments[:2])} failed: {said}", mend="look at it with kubectl")


def configured(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a kubectl here, and a kubeconfig for it."""
    files = [Path(file) for file in variables.get("KUBECONFIG", "").split(os.pathsep) if file]
    files = files or [Path(variables.get("HOME", "/"), ".kube", "config")]
    return shutil.which("kubectl") is not None and any(file.is_file() for file in files)


def objects(kinds: Sequence[str], namespace: str, *names: str) -> list[dict[str, Any]]:
    """All objects of some kinds in a namespace, or those of some names; read in one go, within half a minute.

    Raises:
        as :func:`kubectl`.
    """
    options = (f"--namespace={namespace}", "--ignore-not-found", "--output=json", "--request-timeout=30s")
    return _items(kubectl("get", ",".join(kinds), *names, *options).stdout)


def found(kind: str, namespace: str, *, name: str = "", selector: str = "") -> list[dict[str, Any]]:
    """The objects of a kind, or the one of a name; none where there is none."""
    which = [name] if name else [f"--selector={selector}"] if selector else []
    done = kubectl("get", kind, *which, f"--namespace={namespace}", "--ignore-not-found", "--output=json")
    return _items(done.stdout)


def _items(text: str) -> list[dict[str, Any]]:
    if not text.strip():
        return []
    answer: dict[str, Any] = json.loads(text)
    items: list[dict[str, Any]] = answer.get("items", [answer])
    return items


def scale_down(namespace: str, name: str, workload: Mapping[str, Any], progress: Progress) -> None:
    """Scales a workload to nothing and waits until its pods are gone; whoever waits long is told how to end them.

    The former scale and the new one are one change: there is no moment in which it stands at nothing and nobody knows.

    Args:
        name: kind and name, for example ``deployment/api``.
        workload: as the cluster has it.

    Raises:
        UnreachableError, BackupError: it does not come to it.
    """
    if int(workload["spec"].get("replicas", 1)):
        _patch(namespace, name, replicas=0, former=str(wanted_scale(workload)))
    labels: Mapping[str, str] = workload["spec"]["selector"].get("matchLabels") or {}
    begun = time.monotonic()
    told = False
    while labels and (pods := _pods(namespace, labels)):
        waited = time.monotonic() - begun
        names = " ".join(str(pod["metadata"]["name"]) for pod in pods)
        sooner = f"kubectl delete pod {names} -n {namespace} --grace-period=1"
        if waited > SCALE_SECONDS:
            raise BackupError(f"{namespace}/{name}: not within {SCALE_SECONDS} s did {names} end", mend=sooner)
        if waited > _PATIENCE_SECONDS and not told:
            # A pod's grace may be half an hour, and PostgreSQL can be stuck in it after a crash; whether what it has
            # not archived may be lost is for a person to decide.
            grace = max(part(pod, "spec").get("terminationGracePeriodSeconds") or 0 for pod in pods)
            progress(
                f"waiting for {names} to end, {grace} s of grace; sooner, and it may lose what is unsaved: {sooner}"
            )
            told = True
        time.sleep(_POLL_SECONDS)


def scale_up(namespace: str, name: str, replicas: int) -> None:
    """Brings a workload to a scale, forgets the former one, and waits until it is ready.

    Raises:
        UnreachableError, BackupError: it does not become ready.
    """
    _patch(namespace, name, replicas=replicas, former=None)
    kubectl("rollout", "status", name, f"--namespace={namespace}", f"--timeout={SCALE_SECONDS}s")


def roll_out(namespace: str, selector: str, progress: Progress) -> None:
    """Has the Deployments and StatefulSets of a label make their pods anew, so that they read their configuration
    again, and waits until they are ready. One that stands at nothing reads it when it is started.

    Raises:
        UnreachableError, BackupError: one does not become ready.
    """
    for workload in found(WORKLOADS, namespace, selector=selector):
        name = f"{workload['kind'].lower()}/{workload['metadata']['name']}"
        if not int(workload["spec"].get("replicas", 1)):
            continue
        progress(f"rolling out {namespace}/{name}")
        kubectl("rollout", "restart", name, f"--namespace={namespace}")
        kubectl("rollout", "status", name, f"--namespace={namespace}", f"--timeout={SCALE_SECONDS}s")


def _pods(namespace: str, labels: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return found("pods", namespace, selector=selector)


def _patch(namespace: str, name: str, *, replicas: int, former: str | None) -> None:
    patch = {"metadata": {"annotations": {FORMER: former}}, "spec": {"replicas": replicas}}
    kubectl("patch", name, f"--namespace={namespace}", "--type=merge", f"--patch={json.dumps(patch)}")
