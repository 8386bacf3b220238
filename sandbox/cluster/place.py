"""Where a cluster keeps what it has on this machine: all of it named after one sandbox, so that clusters never meet."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sandbox.processes import Registry
from sandbox.state import Sandbox

# Inside the cluster's own network namespace, so every cluster has the same.
GATEWAY = "10.88.0.1"
POD_NETWORK = "10.88.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
API_PORT = 6443
NODE = "sandbox"
BRIDGE = "cni0"


@dataclass(frozen=True)
class Place:
    """The folders and names of the cluster of one sandbox.

    Attributes:
        sandbox: whose stores it uses.
    """

    sandbox: Sandbox

    @cached_property
    def identity(self) -> str:
        """Tells this cluster's namespace, cgroups and network from those of other checkouts."""
        return "aivo-" + hashlib.sha256(str(self.home).encode()).hexdigest()[:10]

    @property
    def home(self) -> Path:
        """``.sandbox/cluster``: configuration, logs, images, the kubelet's folder."""
        return self.sandbox.home / "cluster"

    @property
    def short(self) -> Path:
        """A folder with a short name, since a Unix socket's path has room for a hundred characters; gone at boot."""
        return Path("/run") / self.identity

    @property
    def logs(self) -> Path:
        """One log per process, and the pods' own."""
        return self.home / "logs"

    @cached_property
    def processes(self) -> Registry:
        """The cluster's processes, apart from those of the sandbox's stores."""
        return Registry(self.home / "run")

    @property
    def network_namespace(self) -> Path:
        """The cluster's network namespace, as `ip netns` shows it."""
        return Path("/run/netns") / self.identity

    @property
    def containerd_socket(self) -> Path:
        """Where containerd answers; every shim has it in its arguments."""
        return self.short / "containerd.sock"

    @property
    def containerd_state(self) -> Path:
        """containerd's folder of what runs: also the mounts of running containers."""
        return self.short / "containerd"

    @property
    def kubelet(self) -> Path:
        """The kubelet's folder: the pods' volumes are mounted in it."""
        return self.home / "kubelet"

    @property
    def volumes(self) -> Path:
        """What claims are bound to, one folder each; kept when the cluster goes down."""
        return self.home / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in from this machine, over loopback."""
        return self.home / "kubeconfig"

    @property
    def dispatch_kubeconfig(self) -> Path:
        """The way in of the function that starts restore tests, which may do nothing else."""
        return self.home / "kubeconfig-dispatch"

    @property
    def restorer_kubeconfig(self) -> Path:
        """The way in of those who restore."""
        return self.home / "kubeconfig-restorer"

    @property
    def inner_kubeconfig(self) -> Path:
        """The way of the cluster's own parts, inside the network namespace."""
        return self.home / "kubeconfig-inside"
