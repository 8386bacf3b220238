"""The agent: one pod that writes a heartbeat a minute into all three stores, so that a loss can be measured, and that
publishes what only the cluster can see."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from aivo_backup.policy.names import (
    AGENT,
    AGENT_PORT,
    SECRET_MINIO_SOURCE,
    SECRET_OPENSEARCH,
    SECRET_POSTGRES,
    Role,
    service_account,
)
from infra.pods import METRICS_PORT_NAME, PodArgs, pod_template
from infra.settings import Settings
from infra.tags import labels

_COMPONENT = Role.AGENT.value


@dataclass(frozen=True, kw_only=True)
class AgentArgs:
    """What the agent depends on.

    Attributes:
        namespace: the namespace resource, where the program makes it.
    """

    settings: Settings
    namespace: k8s.core.v1.Namespace | None


class Agent(pulumi.ComponentResource):
    """The agent's Deployment."""

    def __init__(self, name: str, args: AgentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Agent", name, None, opts)
        self._settings = args.settings
        self._options = pulumi.ResourceOptions(parent=self, depends_on=[args.namespace] if args.namespace else None)
        self._build_access()
        self._build_deployment()
        self._build_service()
        self.register_outputs({})

    def _metadata(self) -> k8s.meta.v1.ObjectMetaArgs:
        return k8s.meta.v1.ObjectMetaArgs(
            name=AGENT,
            namespace=self._settings.cluster.namespace,
            labels=labels(self._settings, name=AGENT, component=_COMPONENT),
        )

    def _build_access(self) -> None:
        """It reads which Jobs failed or got no pod, and the events that say why, in this namespace, no more."""
        rules = k8s.rbac.v1.PolicyRuleArgs
        group = "rbac.authorization.k8s.io"
        k8s.rbac.v1.Role(
            f"{AGENT}-jobs",
            metadata=self._metadata(),
            rules=[
                rules(api_groups=["batch"], resources=["jobs"], verbs=["list"]),
                rules(api_groups=[""], resources=["events"], verbs=["list"]),
            ],
            opts=self._options,
        )
        k8s.rbac.v1.RoleBinding(
            f"{AGENT}-jobs",
            metadata=self._metadata(),
            role_ref=k8s.rbac.v1.RoleRefArgs(api_group=group, kind="Role", name=AGENT),
            subjects=[
                k8s.rbac.v1.SubjectArgs(
                    kind="ServiceAccount",
                    name=service_account(Role.AGENT),
                    namespace=self._settings.cluster.namespace,
                )
            ],
            opts=self._options,
        )

    def _build_deployment(self) -> None:
        template = pod_template(
            PodArgs(
                name=AGENT,
                labels=labels(self._settings, name=AGENT, component=_COMPONENT),
                service_account=service_account(Role.AGENT),
                arguments=("agent", "--listen", f"0.0.0.0:{AGENT_PORT}"),
                secrets=(SECRET_POSTGRES, SECRET_MINIO_SOURCE, SECRET_OPENSEARCH),
                cpu="50m",
                memory="256Mi",
                scratch="64Mi",
                restart_policy="Always",
                metrics_port=AGENT_PORT,
                calls_cluster=True,
            ),
            self._settings.cluster,
        )
        k8s.apps.v1.Deployment(
            AGENT,
            metadata=self._metadata(),
            spec=k8s.apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_selector(self._settings)),
                # Two at once would write two series of heartbeats and count every fact twice.
                strategy=k8s.apps.v1.DeploymentStrategyArgs(type="Recreate"),
                template=template,
            ),
            opts=self._options,
        )

    def _build_service(self) -> None:
        k8s.core.v1.Service(
            f"{AGENT}-service",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=AGENT,
                namespace=self._settings.cluster.namespace,
                labels=labels(self._settings, name=AGENT, component=_COMPONENT),
                # What most Prometheus set-ups look for; whoever uses the operator selects by the labels instead.
                annotations={
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(AGENT_PORT),
                    "prometheus.io/path": "/metrics",
                },
            ),
            spec=k8s.core.v1.ServiceSpecArgs(
                selector=_selector(self._settings),
                ports=[
                    k8s.core.v1.ServicePortArgs(name=METRICS_PORT_NAME, port=AGENT_PORT, target_port=METRICS_PORT_NAME)
                ],
            ),
            opts=self._options,
        )


def _selector(settings: Settings) -> dict[str, str]:
    wanted = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
    return {key: value for key, value in labels(settings, name=AGENT, component=_COMPONENT).items() if key in wanted}
