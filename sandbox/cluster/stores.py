"""What is in the cluster before anything of ours: names for the stores, and a PostgreSQL that archives nothing."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aivo_backup.policy.environment import Environment, PostgresSettings
from sandbox.cluster.identity import ENDPOINTS_CONFIG_MAP, ENDPOINTS_FOLDER
from sandbox.cluster.place import DNS_SERVICE, GATEWAY, NODE, POD_NETWORK, Place
from sandbox.cluster.provisioner import local_source
from sandbox.cluster.relays import POSTGRES_SERVICE
from sandbox.servers.postgres import parameters

_AWS_HOST = "aws.aivo.svc.cluster.local"
_CONFIG = "/etc/aivo-postgres"
# The kubelet's SIGTERM asks PostgreSQL to wait until every session has ended: whoever is connected, the agent too,
# would hold the pod until it is killed. PostgreSQL's own image is stopped by SIGINT likewise. On that, PostgreSQL 15
# never ends when it falls in the middle of one of the restarts that a damaged database makes; on SIGQUIT it does.
# A hook before the stop could do it too, and sometimes crosses containerd's own: the pod then stays for all its grace.
_RUN = """mkdir -p {socket_path}
postgres -D {data_path} --config-file={configuration}/postgresql.conf &
server=$!
trap 'kill -INT $server; (sleep 10; kill -QUIT $server) &' TERM
while kill -0 $server 2>/dev/null; do wait $server; done
"""
_LEVEL = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}

Document = dict[str, Any]


def names(environment: Environment) -> list[Document]:
    """The namespace of the stores, and a Service for each; their addresses are relays at the gateway."""
    namespace = environment.postgres.pod.namespace
    documents: list[Document] = [_object("v1", "Namespace", namespace, "", labels=_LEVEL)]
    for name, port, space in (("minio", 9000, namespace), ("opensearch", 9200, namespace), ("aws", 443, namespace)):
        documents += _elsewhere(name, space, [("main", port, "TCP")])
    dns = [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")]
    return documents + _elsewhere("kube-dns", "kube-system", dns, address=DNS_SERVICE)


def endpoints(place: Place, namespace: str) -> Document:
    """Where AWS answers, as every pod with a role sees it; the stores answer under the names of the settings."""
    content = {"aws": f"https://{_AWS_HOST}", "ca_file": f"{ENDPOINTS_FOLDER}/ca.pem"}
    data = {"endpoints.json": json.dumps(content), "ca.pem": place.sandbox.ca_file.read_text(encoding="utf-8")}
    return _object("v1", "ConfigMap", ENDPOINTS_CONFIG_MAP, namespace, data=data)


def secrets(place: Place, namespace: str, wanted: Sequence[str]) -> Iterator[Document]:
    """The sandbox's secrets as Kubernetes has them."""
    for name in wanted:
        folder = place.sandbox.secrets / name
        yield _secret(name, namespace, {file.name: file for file in sorted(folder.iterdir()) if file.is_file()})


def volumes(
    place: Place, claims: Sequence[tuple[str, str]], known: Mapping[tuple[str, str], Path], *, storage_class: str = ""
) -> Iterator[Document]:
    """A folder of this machine for each claim (namespace, name), bound to it beforehand; it outlives the cluster.

    Args:
        storage_class: what the claims name.
    """
    for namespace, claim in claims:
        folder = known.get((namespace, claim)) or place.volumes / f"{namespace}-{claim}"
        folder.mkdir(parents=True, exist_ok=True)
        yield _object(
            "v1",
            "PersistentVolume",
            f"{namespace}-{claim}",
            "",
            spec={
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": storage_class,
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": namespace,
                    "name": claim,
                },
                **local_source(folder, NODE),
            },
        )


def data_claim(settings: PostgresSettings) -> tuple[str, str]:
    """The claim of the database's volume."""
    return settings.pod.namespace, f"{settings.pod.data_volume}-{settings.pod.stateful_set}-0"


def database(place: Place, settings: PostgresSettings) -> list[Document]:
    """The StatefulSet as somebody else would have written it: one container, no archiving."""
    pod = settings.pod
    name, labels = pod.stateful_set, {"app.kubernetes.io/name": pod.stateful_set}
    written = {**parameters(settings), "listen_addresses": "*", "port": str(settings.port)}
    written |= {"hba_file": f"{_CONFIG}/pg_hba.conf"}
    written |= {"ssl_cert_file": f"{_CONFIG}/tls/server.crt", "ssl_key_file": f"{_CONFIG}/tls/server.key"}
    configuration = {
        "postgresql.conf": "".join(f"{key} = '{value}'\n" for key, value in written.items()),
        "pg_hba.conf": f"local all all trust\nhostssl all all {POD_NETWORK} scram-sha-256\n",
    }
    certificate = {file: place.sandbox.certificates / file for file in ("server.crt", "server.key")}
    start = _RUN.format(socket_path=settings.socket_path, data_path=settings.data_path, configuration=_CONFIG)
    container = {
        "name": pod.container,
        "image": pod.image,
        "imagePullPolicy": pod.image_pull_policy,
        "command": ["sh", "-c", start],
        "ports": [{"name": "postgres", "containerPort": settings.port}],
        "readinessProbe": {
            "exec": {"command": ["pg_isready", "-q", "-h", settings.socket_path, "-p", str(settings.port)]},
            "periodSeconds": 1,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": pod.data_volume, "mountPath": settings.data_path.rpartition("/")[0]},
            {"name": "run", "mountPath": "/var/run"},
            {"name": "configuration", "mountPath": f"{_CONFIG}/postgresql.conf", "subPath": "postgresql.conf"},
            {"name": "configuration", "mountPath": f"{_CONFIG}/pg_hba.conf", "subPath": "pg_hba.conf"},
            {"name": "certificate", "mountPath": f"{_CONFIG}/tls", "readOnly": True},
        ],
    }
    security = {"runAsNonRoot": True, "runAsUser": pod.user_id, "runAsGroup": pod.group_id, "supplementalGroups": [0]}
    template: Document = {
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": pod.service_account,
            "automountServiceAccountToken": False,
            "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [
                {"name": "run", "emptyDir": {}},
                {"name": "configuration", "configMap": {"name": "postgresql"}},
                {"name": "certificate", "secret": {"secretName": "postgresql-certificate", "defaultMode": 0o440}},
            ],
        },
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        _object("v1", "ServiceAccount", pod.service_account, pod.namespace),
        _object("v1", "ConfigMap", "postgresql", pod.namespace, data=configuration),
        _secret("postgresql-certificate", pod.namespace, certificate),
        _object(
            "v1",
            "Service",
            name,
            pod.namespace,
            spec={
                "clusterIP": POSTGRES_SERVICE,
                "selector": labels,
                # While it recovers, and before it is told to archive, the sidecar must be reached all the same.
                "publishNotReadyAddresses": True,
                "ports": [
                    {"name": "postgres", "port": settings.port},
                    {"name": "pgbackrest", "port": settings.sidecar_port},
                ],
            },
        ),
        _object(
            "apps/v1",
            "StatefulSet",
            name,
            pod.namespace,
            spec={
                "replicas": 1,
                "serviceName": name,
                "selector": {"matchLabels": labels},
                "template": template,
                "volumeClaimTemplates": [{"metadata": {"name": pod.data_volume}, "spec": claim}],
            },
        ),
    ]


def _elsewhere(name: str, namespace: str, ports: Sequence[tuple[str, int, str]], address: str = "") -> list[Document]:
    """A Service whose one endpoint is at the gateway."""
    listed = [{"name": label, "port": port, "protocol": protocol} for label, port, protocol in ports]
    service = {"ports": listed, **({"clusterIP": address} if address else {})}
    labels = {"kubernetes.io/service-name": name}
    slice_ = _object("discovery.k8s.io/v1", "EndpointSlice", f"{name}-gateway", namespace, labels=labels)
    slice_ |= {"addressType": "IPv4", "ports": listed, "endpoints": [{"addresses": [GATEWAY]}]}
    return [_object("v1", "Service", name, namespace, spec=service), slice_]


def _secret(name: str, namespace: str, files: Mapping[str, Path]) -> Document:
    data = {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}
    return _object("v1", "Secret", name, namespace, data=data)


def _object(
    version: str, kind: str, name: str, namespace: str, *, labels: Mapping[str, str] | None = None, **rest: Any
) -> Document:
    metadata: Document = {"name": name}
    metadata |= {"namespace": namespace} if namespace else {}
    metadata |= {"labels": dict(labels)} if labels else {}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}
