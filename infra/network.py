"""What reaches what, as one table, and the network policies made from it.

Pods of the cluster reach a store's Service and AWS's APIs. Functions run outside the cluster and never resolve a name
of it: PostgreSQL and MinIO are verified from S3 and KMS alone, OpenSearch through internal addresses that are settings
(``opensearch.internal_endpoint`` and ``verification_endpoint``), and what outgrows them goes through the EKS API. Their
subnets and security groups are settings too, because they belong to whoever owns the VPC; they need the endpoints of
:mod:`infra.endpoints`, or NAT, for what the table names.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as k8s

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AGENT_PORT, EXPIRERS, PROJECT, Function, Role
from infra.settings import Settings
from infra.tags import labels

_POLICY = k8s.networking.v1
_DNS_PORT = 53
HTTPS_PORT = 443

S3, KMS, STS, SSM = "s3", "kms", "sts", "ssm"
CLOUDWATCH = "monitoring"
LOGS, SECRETS, SQS, SNS, EKS = "logs", "secretsmanager", "sqs", "sns", "eks"
POSTGRES, SIDECAR, MINIO, OPENSEARCH = "postgres", "postgres-sidecar", "minio", "opensearch"
# The production cluster and the one that restores are tested on, by addresses that resolve outside Kubernetes.
OPENSEARCH_INTERNAL, OPENSEARCH_RESTORE = "opensearch-internal", "opensearch-restore"
EKS_API = "eks-api"

POD_REACH: dict[Role, tuple[str, ...]] = {
    # pgBackRest's client reads the database through the sidecar and writes the repository itself.
    Role.POSTGRES_WRITER: (SIDECAR, S3, KMS, STS),
    Role.MINIO_WRITER: (MINIO, S3, KMS, STS),
    # Files of a snapshot go from OpenSearch's own nodes to S3; the job files its record.
    Role.OPENSEARCH_WRITER: (OPENSEARCH, S3, KMS, STS),
    # Restores PostgreSQL and MinIO from S3 and KMS alone, and OpenSearch onto the cluster of restore tests.
    Role.RESTORE_TESTER: (OPENSEARCH, OPENSEARCH_RESTORE, S3, KMS, STS),
    # Restores into buckets and indices of its own beside the originals; PostgreSQL in its own pod.
    Role.DRILLER: (MINIO, OPENSEARCH, S3, KMS, STS),
    # It also asks the cluster which Jobs came to nothing.
    Role.AGENT: (POSTGRES, MINIO, OPENSEARCH, EKS_API, S3, KMS, STS, CLOUDWATCH),
    # Expiring needs neither the database nor the source: the repository and the manifests are in S3.
    Role.POSTGRES_EXPIRER: (S3, KMS, STS),
    Role.MINIO_EXPIRER: (S3, KMS, STS),
    Role.OPENSEARCH_EXPIRER: (OPENSEARCH, S3, KMS, STS),
}
"""Destinations of each pod, by the role it runs under."""

FUNCTION_REACH: dict[Function, tuple[str, ...]] = {
    Function.VERIFY_RESTORE: (
        OPENSEARCH_INTERNAL,
        OPENSEARCH_RESTORE,
        EKS_API,
        S3,
        KMS,
        STS,
        SSM,
        SECRETS,
        EKS,
        LOGS,
        SQS,
    ),
    Function.REGISTER_SNAPSHOT: (OPENSEARCH_INTERNAL, S3, KMS, SSM, SECRETS, LOGS, SQS),
    Function.COMPLIANCE_REPORT: (S3, KMS, SSM, LOGS, SQS),
}
"""Destinations of each function; for its security group and the VPC's endpoints."""

AWS_SERVICES = (S3, KMS, STS, SSM, LOGS, SECRETS, SQS, SNS, EKS, CLOUDWATCH)
"""AWS's own APIs among the destinations, by the name that endpoints and clients have."""

_STORES = {POSTGRES, SIDECAR, MINIO, OPENSEARCH}
# The component label of the pods that run under a role.
_SELECTED = {
    Role.POSTGRES_WRITER: Component.POSTGRES.value,
    Role.MINIO_WRITER: Component.MINIO.value,
    Role.OPENSEARCH_WRITER: Component.OPENSEARCH.value,
    **{role: role.value for role in (*EXPIRERS.values(), Role.RESTORE_TESTER, Role.DRILLER, Role.AGENT)},
}


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """What the policies depend on.

    Attributes:
        namespace: the namespace resource, where the program makes it.
    """

    settings: Settings
    namespace: k8s.core.v1.Namespace | None


class Network(pulumi.ComponentResource):
    """One network policy per kind of pod: Prometheus reaches the agent, nothing else comes in, and out goes what the
    table lists."""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Network", name, None, opts)
        self._settings = args.settings
        for role in POD_REACH:
            self._build_policy(role, args.namespace)
        self.register_outputs({})

    def _build_policy(self, role: Role, namespace: k8s.core.v1.Namespace | None) -> None:
        settings = self._settings
        name = f"{PROJECT}-{role.value}"
        _POLICY.NetworkPolicy(
            f"{name}-network",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=settings.cluster.namespace,
                labels=labels(settings, name=name, component="network"),
            ),
            spec=_POLICY.NetworkPolicySpecArgs(
                pod_selector=k8s.meta.v1.LabelSelectorArgs(
                    match_labels={
                        "app.kubernetes.io/part-of": PROJECT,
                        "app.kubernetes.io/component": _SELECTED[role],
                    }
                ),
                policy_types=["Ingress", "Egress"],
                ingress=self._ingress(role),
                egress=self._egress(POD_REACH[role]),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace] if namespace else None),
        )

    def _ingress(self, role: Role) -> list[_POLICY.NetworkPolicyIngressRuleArgs]:
        if role is not Role.AGENT:
            return []
        # Prometheus alone; the kubelet's probes come from the node, which policies do not shut out.
        return [
            _POLICY.NetworkPolicyIngressRuleArgs(
                from_=[_in_namespace(self._settings.network.monitoring_namespace)], ports=[_port(AGENT_PORT)]
            )
        ]

    def _egress(self, destinations: tuple[str, ...]) -> list[_POLICY.NetworkPolicyEgressRuleArgs]:
        network, cluster = self._settings.network, self._settings.cluster
        ports = store_ports(self._settings)
        rules = [
            _POLICY.NetworkPolicyEgressRuleArgs(
                to=[_in_namespace(network.dns_namespace)], ports=[_port(_DNS_PORT, "UDP"), _port(_DNS_PORT)]
            )
        ]
        rules += [
            _POLICY.NetworkPolicyEgressRuleArgs(
                to=[_in_namespace(cluster.store_namespace)], ports=[_port(ports[destination])]
            )
            for destination in destinations
            if destination in _STORES
        ]
        restores = self._settings.opensearch.verification_endpoint
        if OPENSEARCH_RESTORE in destinations and restores:
            rules.append(_to_ranges(network.restore_cluster_ranges, url_port(restores)))
        if EKS_API in destinations:
            rules.append(_to_ranges(network.cluster_api_ranges, HTTPS_PORT))
        if any(destination in AWS_SERVICES for destination in destinations):
            rules.append(_to_ranges(network.aws_ranges, HTTPS_PORT))
        return rules


def store_ports(settings: Settings) -> dict[str, int]:
    """The TCP port of each store inside the cluster."""
    return {
        POSTGRES: settings.postgres.port,
        SIDECAR: settings.postgres.sidecar_port,
        MINIO: url_port(settings.minio.endpoint),
        OPENSEARCH: url_port(settings.opensearch.endpoint),
    }


def _to_ranges(ranges: tuple[str, ...], port: int) -> _POLICY.NetworkPolicyEgressRuleArgs:
    return _POLICY.NetworkPolicyEgressRuleArgs(
        to=[_POLICY.NetworkPolicyPeerArgs(ip_block=_POLICY.IPBlockArgs(cidr=block)) for block in ranges],
        ports=[_port(port)],
    )


def url_port(url: str) -> int:
    """The TCP port of a URL."""
    parts = urlsplit(url)
    return parts.port or (HTTPS_PORT if parts.scheme == "https" else 80)


def _in_namespace(name: str) -> _POLICY.NetworkPolicyPeerArgs:
    return _POLICY.NetworkPolicyPeerArgs(
        namespace_selector=k8s.meta.v1.LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": name})
    )


def _port(number: int, protocol: str = "TCP") -> _POLICY.NetworkPolicyPortArgs:
    return _POLICY.NetworkPolicyPortArgs(port=number, protocol=protocol)
