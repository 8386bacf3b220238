"""Prometheus's rules as configuration: a config map that Prometheus mounts, or its operator's sidecar picks up."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s
import yaml

from aivo_backup.policy.alert_rules import rule_file
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.names import ALERT_RULES_CONFIG_MAP, ALERT_RULES_KEY
from infra.settings import Settings
from infra.tags import labels


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """What the rules depend on.

    Attributes:
        document: the published settings, whose objectives and schedules are the thresholds.
        namespace: the namespace resource, where the program makes it.
    """

    settings: Settings
    document: pulumi.Output[str]
    namespace: k8s.core.v1.Namespace | None


class Monitoring(pulumi.ComponentResource):
    """The rules."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Monitoring", name, None, opts)
        settings = args.settings
        k8s.core.v1.ConfigMap(
            "prometheus-rules",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=ALERT_RULES_CONFIG_MAP,
                namespace=settings.cluster.namespace,
                labels=labels(settings, name=ALERT_RULES_CONFIG_MAP, component="monitoring"),
            ),
            data={ALERT_RULES_KEY: args.document.apply(lambda text: rules_text(settings, text))},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.namespace] if args.namespace else None),
        )
        self.register_outputs({})


def rules_text(settings: Settings, document: str) -> str:
    """The rule file as YAML, from the published settings and the escalation levels."""
    environment = Environment.from_json(json.loads(document), where="settings")
    alerts = settings.alerts
    contacts = {1: alerts.level1, 2: alerts.level2, 3: alerts.level3}
    return yaml.safe_dump(rule_file(environment, contacts), sort_keys=False, width=120)
