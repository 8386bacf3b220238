"""The processes of the cluster: their configuration files, their arguments, and the order in which they start."""

import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aivo_backup.policy.names import DISPATCH_GROUP, RESTORERS_GROUP
from sandbox.certificates import Authority, Identity
from sandbox.cluster.machine import inside, network_configuration
from sandbox.cluster.place import API_PORT, API_SERVICE, DNS_SERVICE, GATEWAY, NODE, SERVICE_NETWORK, Place
from sandbox.cluster.tools import ClusterTools

PAUSE_IMAGE = "docker.io/library/aivo-pause:local"
_ADMINISTRATOR, _DISPATCHER, _RESTORER = "administrator", "verify-restore", "restorer"
# Who has a token, and their group. An EKS cluster takes the roles into their groups by access entries.
_USERS = {_ADMINISTRATOR: "system:masters", _DISPATCHER: DISPATCH_GROUP, _RESTORER: RESTORERS_GROUP}
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the cluster, as the registry of processes starts it."""

    name: str
    argv: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Every process, by the moment at which it can start.

    Attributes:
        first: what needs nothing.
        second: what needs those.
        last: what registers itself with the cluster.
    """

    first: tuple[Part, ...]
    second: tuple[Part, ...]
    last: tuple[Part, ...]


def write_configuration(place: Place, tools: ClusterTools, *, issuer: str, cgroup: str) -> Parts:
    """Writes what the processes read, with keys and tokens of this life, and answers what to start.

    Args:
        issuer: who issues service accounts' tokens, an URL: AWS's roles trust it.
        cgroup: where pods are counted, as :func:`sandbox.cluster.machine.make_cgroup` says.
    """
    for folder in (place.home, place.short, place.volumes, place.kubelet):
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    _write_keys(place)
    lines = (f"{secrets.token_hex(24)},{user},{user},{group}\n" for user, group in _USERS.items())
    _private(place.home / "tokens.csv", "".join(lines))
    _write_kubeconfig(place, place.inner_kubeconfig, _ADMINISTRATOR, f"https://127.0.0.1:{API_PORT}")
    _write(place.home / "containerd.toml", _containerd(place, tools))
    _write(place.home / "cni" / "10-sandbox.conflist", json.dumps(network_configuration(place)))
    _write(place.home / "kubelet.yaml", yaml.safe_dump(_kubelet(place, cgroup)))
    _write(place.home / "resolv.conf", "")
    _write(place.home / "Corefile", _corefile(place))

    def part(name: str, *argv: str) -> Part:
        return Part(name=name, argv=inside(place, tools, argv))

    return Parts(
        first=(
            part("etcd", str(tools.etcd), *_etcd(place)),
            part("containerd", str(tools.containerd), "--config", str(place.home / "containerd.toml")),
        ),
        second=(part("kube-apiserver", tools.program("kube-apiserver"), *_apiserver(place, issuer)),),
        last=(
            part("kube-controller-manager", tools.program("kube-controller-manager"), *_controllers(place)),
            part("kube-scheduler", tools.program("kube-scheduler"), *_scheduler(place)),
            part("kube-proxy", tools.program("kube-proxy"), *_proxy(place)),
            part("coredns", tools.program("coredns"), "-conf", str(place.home / "Corefile")),
            part("provisioner", sys.executable, "-m", "sandbox.cluster.provisioner", *_provisioner(place)),
            part("kubelet", tools.program("kubelet"), *_kubelet_arguments(place)),
        ),
    )


def write_outer_kubeconfigs(place: Place, port: int) -> None:
    """Writes the kubeconfigs for this machine, where the API answers on a loopback port."""
    files = {
        place.kubeconfig: _ADMINISTRATOR,
        place.dispatch_kubeconfig: _DISPATCHER,
        place.restorer_kubeconfig: _RESTORER,
    }
    for file, user in files.items():
        _write_kubeconfig(place, file, user, f"https://localhost:{port}")


def _write_keys(place: Place) -> None:
    authority = Authority(place.sandbox.certificates, now=datetime.now(UTC))
    hosts = ("localhost", "127.0.0.1", GATEWAY, API_SERVICE, "kubernetes.default.svc", "kubernetes", NODE)
    pki = place.home / "pki"
    authority.issue(Identity(certificate=pki / "server.crt", key=pki / "server.key"), name="kubernetes", hosts=hosts)
    authority.issue(Identity(certificate=pki / "client.crt", key=pki / "client.key"), name="kube-apiserver")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _private(pki / "service-accounts.key", pem.decode())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write(pki / "service-accounts.pub", public.decode())


def _write_kubeconfig(place: Place, file: Path, user: str, server: str) -> None:
    lines = (line.split(",") for line in (place.home / "tokens.csv").read_text(encoding="ascii").splitlines())
    token = next(token for token, name, *_ in lines if name == user)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [
            {"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(place.sandbox.ca_file)}}
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
    }
    _private(file, yaml.safe_dump(content))


def _etcd(place: Place) -> list[str]:
    return [
        # Lives as long as the cluster: in memory, where a sync costs nothing.
        f"--data-dir={place.short / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}",
        f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=default={_ETCD_PEER}",
    ]


def _apiserver(place: Place, issuer: str) -> list[str]:
    pki = place.home / "pki"
    return [
        f"--etcd-servers={_ETCD}",
        f"--secure-port={API_PORT}",
        # Every address of the cluster's own network namespace: its pods ask too.
        "--bind-address=0.0.0.0",
        f"--advertise-address={GATEWAY}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={place.home / 'tokens.csv'}",
        f"--service-account-issuer={issuer}",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--tls-cert-file={pki / 'server.crt'}",
        f"--tls-private-key-file={pki / 'server.key'}",
        f"--cert-dir={pki}",
        f"--kubelet-client-certificate={pki / 'client.crt'}",
        f"--kubelet-client-key={pki / 'client.key'}",
        f"--kubelet-certificate-authority={place.sandbox.ca_file}",
        "--kubelet-preferred-address-types=InternalIP",
        # What EKS's webhook does to pods, the API server does itself here (sandbox/cluster/identity.py).
        "--feature-gates=MutatingAdmissionPolicy=true",
        "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
    ]


def _controllers(place: Place) -> list[str]:
    return [
        f"--kubeconfig={place.inner_kubeconfig}",
        f"--service-account-private-key-file={place.home / 'pki' / 'service-accounts.key'}",
        f"--root-ca-file={place.sandbox.ca_file}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def _scheduler(place: Place) -> list[str]:
    return [f"--kubeconfig={place.inner_kubeconfig}", "--leader-elect=false", "--secure-port=0"]


def _proxy(place: Place) -> list[str]:
    return [
        f"--kubeconfig={place.inner_kubeconfig}",
        f"--hostname-override={NODE}",
        "--proxy-mode=iptables",
        # Else the answer of a pod on the same bridge would go straight back, past the translation.
        "--masquerade-all",
        # Limits of the machine as a whole, which a namespace can neither see nor set.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def _provisioner(place: Place) -> list[str]:
    return [f"--kubeconfig={place.inner_kubeconfig}", f"--folder={place.volumes}"]


def _kubelet_arguments(place: Place) -> list[str]:
    return [
        f"--kubeconfig={place.inner_kubeconfig}",
        f"--config={place.home / 'kubelet.yaml'}",
        f"--root-dir={place.kubelet}",
        f"--hostname-override={NODE}",
        f"--node-ip={GATEWAY}",
    ]


def _kubelet(place: Place, cgroup: str) -> dict[str, Any]:
    pki = place.home / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(place.sandbox.ca_file)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(pki / "server.crt"),
        "tlsPrivateKeyFile": str(pki / "server.key"),
        "address": GATEWAY,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(place.home / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{place.containerd_socket}",
        "podLogsDir": str(place.logs / "pods"),
        "volumePluginDir": str(place.home / "plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        # A laptop's disk is nearly always fuller than a node's should be.
        "evictionHard": {},
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "imageMaximumGCAge": "0s",
        "shutdownGracePeriod": "0s",
    }


def _containerd(place: Place, tools: ClusterTools) -> str:
    return f"""version = 2
root = "{place.home / "containerd"}"
state = "{place.containerd_state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{place.containerd_socket}"
[ttrpc]
  address = "{place.containerd_socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  # Without CAP_SYS_RESOURCE, which a container's root lacks, runc cannot lower it.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{tools.cni}"
    conf_dir = "{place.home / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{tools.runc}"
      SystemdCgroup = false
"""


def _corefile(place: Place) -> str:
    return f"""cluster.local:53 in-addr.arpa:53 {{
    bind {GATEWAY}
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {place.inner_kubeconfig} sandbox
    }}
}}
"""


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
