"""Brings the cluster up and down. `up` begins by taking away what an earlier life has left, so it heals a crash."""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.policy.names import AGENT
from aivo_backup.stores.port import Progress
from sandbox import lifecycle as stores
from sandbox import servers
from sandbox.cluster import deployment, handover, machine
from sandbox.cluster.images import import_images, require_image
from sandbox.cluster.kubectl import Kubectl
from sandbox.cluster.parts import Part, Parts, write_configuration, write_outer_kubeconfigs
from sandbox.cluster.place import NODE, Place
from sandbox.cluster.provisioner import FOLDER_PREFIX
from sandbox.cluster.relays import POSTGRES_PORT, relays, ways
from sandbox.cluster.tools import ClusterTools
from sandbox.pods import SIDECAR_PROCESS
from sandbox.provision import is_provisioned
from sandbox.provision.engine import stack_configuration
from sandbox.provision.provisioner import STACK
from sandbox.state import Sandbox

_START_SECONDS = 90.0
_DATABASE_ENDS_SECONDS = 60
_BEGUN_ANEW = ("kubelet", "cni", "addresses", "pki", "images", "plugins")
# The kubelet first, or it would start again what ends; the API and its store last.
_ENDED_LAST = (("kube-apiserver",), ("containerd", "etcd"))


@dataclass(frozen=True, kw_only=True)
class PartState:
    """One row of `sandbox cluster status`."""

    name: str
    state: str


def up(sandbox: Sandbox, *, progress: Progress) -> Kubectl:
    """Brings up the stores, the cluster and everything of the stack `local` in it. Safe to repeat.

    Raises:
        ConfigurationError: not root, or the set-up or the image is missing; nothing was started.
        BackupError: a part does not come up; the others stay up for a look.
    """
    place, tools = Place(sandbox), _ready(sandbox)
    with _lock(place):
        kubectl = Kubectl(place=place, tools=tools)
        if not answers(kubectl):
            _away(place, tools)
            for name in (AGENT, SIDECAR_PROCESS, servers.POSTGRES):
                sandbox.processes.stop(name)
        started: list[Future[None]] = []
        with ThreadPoolExecutor(1) as beside:
            # The cluster mostly waits while it starts, and knows nothing yet of the stores and what is provisioned.
            risen = servers.up(
                sandbox,
                report=lambda row: progress(f"{row.name:<17} {row.address:<28} {row.state}"),
                without=(servers.POSTGRES,),
                database_at=f"{sandbox.cluster_address}:{POSTGRES_PORT}",
                begun=lambda: started.append(beside.submit(_start_if_down, place, tools, kubectl, progress)),
            )
            if risen.aws_state_lost or not is_provisioned(sandbox):
                stores.forget_backups(sandbox)
                progress(f"provisioned: {stores.provision(sandbox)}")
        for task in started:
            task.result()
        deployment.deploy(place, kubectl, progress=progress)
        return kubectl


def down(sandbox: Sandbox) -> list[str]:
    """Takes the cluster away, processes, mounts, groups and namespace; the database's data goes back to the sandbox.

    Returns:
        what was ended; empty when nothing was there.

    Raises:
        BackupError: something cannot be ended.
    """
    place = Place(sandbox)
    if not place.home.is_dir():
        return []
    tools = ClusterTools.load(sandbox.checkout)
    with _lock(place):
        kubectl = Kubectl(place=place, tools=tools)
        if answers(kubectl):
            _end_database(kubectl)
        ended = _away(place, tools)
        handover.take_back(sandbox)
        servers.write_endpoints(sandbox, servers.endpoints(sandbox))
    return ended


def status(sandbox: Sandbox) -> list[PartState]:
    """The cluster's processes, its node and its pods."""
    place = Place(sandbox)
    rows = [PartState(name=it.name, state=f"running (process {it.pid})") for it in place.processes.running()]
    if not rows:
        return [PartState(name="cluster", state="down")]
    kubectl = Kubectl(place=place, tools=ClusterTools.load(sandbox.checkout))
    if not answers(kubectl):
        return [*rows, PartState(name="API", state="does not answer")]
    pods = kubectl.get("pods", every_namespace=True)
    return rows + [
        PartState(name=f"pod {pod['metadata']['name']}", state=str(pod["status"].get("phase"))) for pod in pods
    ]


def is_up(sandbox: Sandbox) -> bool:
    """Whether any process of the cluster runs: the database is then in it."""
    place = Place(sandbox)
    return place.home.is_dir() and bool(place.processes.running())


def answers(kubectl: Kubectl) -> bool:
    """Whether the API does."""
    if not kubectl.place.kubeconfig.is_file() or kubectl.place.processes.find("kube-apiserver") is None:
        return False
    return kubectl.run("get", "--raw=/readyz", "--request-timeout=5s").exit_code == 0


def _ready(sandbox: Sandbox) -> ClusterTools:
    if os.geteuid() != 0:
        raise ConfigurationError("a cluster needs network namespaces and mounts", mend="run this as root")
    _ = sandbox.tools
    tools = ClusterTools.load(sandbox.checkout)
    require_image(sandbox.checkout)
    return tools


def _start_if_down(place: Place, tools: ClusterTools, kubectl: Kubectl, progress: Progress) -> None:
    if not answers(kubectl):
        _start(place, tools, kubectl, progress)


def _start(place: Place, tools: ClusterTools, kubectl: Kubectl, progress: Progress) -> None:
    begun = time.monotonic()
    cluster = stack_configuration(place.sandbox.checkout, STACK, {})["aivo-backup:cluster"]
    machine.make_network(place, tools)
    parts = write_configuration(
        place, tools, issuer=f"https://{deployment.provider(cluster)}", cgroup=machine.make_cgroup(place)
    )
    api_port = _free_port()
    write_outer_kubeconfigs(place, api_port)
    for part in parts.first:
        _launch(place, part)
    for part in parts.second:
        _launch(place, part)
    for way in ways(place, api_port):
        for part in relays(place, tools, way):
            _launch(place, part)
    import_images(place, tools)
    progress(f"images: imported ({time.monotonic() - begun:.0f} s)")
    kubectl.wait("kube-apiserver", lambda: answers(kubectl), seconds=_START_SECONDS, mend=f"see {place.logs}")
    for part in parts.last:
        _launch(place, part)
    _wait_for_node(kubectl, parts)
    progress(f"Kubernetes: node {NODE} is ready ({time.monotonic() - begun:.0f} s)")


def _launch(place: Place, part: Part) -> None:
    place.processes.start(part.name, part.argv, log=place.logs / f"{part.name}.log")


def _wait_for_node(kubectl: Kubectl, parts: Parts) -> None:
    def ready() -> bool:
        for part in (*parts.first, *parts.second, *parts.last):
            if kubectl.place.processes.find(part.name) is None:
                raise BackupError(f"{part.name} has ended", mend=f"see {kubectl.place.logs / part.name}.log")
        nodes = [node for node in kubectl.get("nodes") if node["metadata"]["name"] == NODE]
        conditions: list[dict[str, str]] = nodes[0]["status"].get("conditions", []) if nodes else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    kubectl.wait(f"node {NODE}", ready, seconds=_START_SECONDS, mend=f"see {kubectl.place.logs}/kubelet.log")


def _end_database(kubectl: Kubectl) -> None:
    """In order, so that its last segment is archived and it starts without a recovery; it is killed if it will not."""
    kubectl.run("scale", "statefulset", "--all", "--replicas=0", f"--namespace={deployment.STORES}")
    # Of StatefulSets alone: pods of Jobs that have ended stay, and would be waited for in vain.
    which = ("--selector=statefulset.kubernetes.io/pod-name", f"--timeout={_DATABASE_ENDS_SECONDS}s")
    kubectl.run("wait", "pod", *which, "--for=delete", f"--namespace={deployment.STORES}")


def _away(place: Place, tools: ClusterTools) -> list[str]:
    ended = ["kubelet"] if place.processes.stop("kubelet") else []
    ended += place.processes.stop_all(last=_ENDED_LAST)
    machine.sweep(place, tools)
    # Begun anew each time. Logs stay for a look, images because they are large, volumes for their data, but for those
    # that live with a pod.
    for folder in (*(place.home / name for name in _BEGUN_ANEW), *place.volumes.glob(f"{FOLDER_PREFIX}*")):
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@contextmanager
def _lock(place: Place) -> Generator[None]:
    place.home.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (place.home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


__all__: Sequence[str] = ("PartState", "answers", "down", "is_up", "status", "up")
