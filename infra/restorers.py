"""Those who restore in the cluster: what `restore postgres --to cluster`, a recovery and `doctor cluster` ask of it.

A group of the cluster, that the restorer's role is taken into, may read what these commands read, scale workloads and
make the restore's Job. RBAC cannot say that no more than the scale of a workload is changed, nor what a Job runs, and
whoever may choose that runs as any service account of the namespace. Admission policies say it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from aivo_backup.policy.names import PROJECT, RESTORERS_GROUP, SETTINGS_CONFIG_MAP, Role
from infra.admission import GuardArgs, Rule, build_guard
from infra.publication import database_settings
from infra.restorer_rules import job_rules, removal_rules, scale_rules
from infra.settings import Settings
from infra.tags import aws_tags, labels

_RBAC = "rbac.authorization.k8s.io"
_NAME = f"{PROJECT}-restorers"

# What `doctor cluster` looks at, in both namespaces.
_LOOKS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("batch", ("jobs",), ("get", "list")),
    # One by name for its log; and whether a workload's pods are gone.
    ("", ("pods",), ("get", "list")),
    ("", ("pods/log",), ("get",)),
    ("", ("events", "persistentvolumeclaims"), ("list",)),
    # `watch` is for `kubectl rollout status`, `patch` for the scale and the note of the former one in one change.
    ("apps", ("deployments", "statefulsets"), ("get", "list", "watch", "patch")),
)


@dataclass(frozen=True, kw_only=True)
class RestorersArgs:
    """What the restorers' rights depend on.

    Attributes:
        role_arns: role to ARN.
        namespace: the jobs' namespace, where the program makes it.
    """

    settings: Settings
    role_arns: Mapping[Role, pulumi.Output[str]]
    namespace: k8s.core.v1.Namespace | None


class Restorers(pulumi.ComponentResource):
    """The group's rights in both namespaces, the guards around them, and the way in where a cluster is named."""

    def __init__(self, name: str, args: RestorersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Restorers", name, None, opts)
        self._settings = args.settings
        self._options = pulumi.ResourceOptions(parent=self, depends_on=[args.namespace] if args.namespace else None)
        cluster, database = args.settings.cluster, database_settings(args.settings)
        jobs, stores = cluster.namespace, cluster.store_namespace
        selector = args.settings.recovery.application_selector
        self._build_role(f"{_NAME}-jobs", jobs, (*_LOOKS, ("batch", ("cronjobs",), ("list",))))
        # `delete` and `watch` are for the Job whose pod does not start: it is removed, and waited for until it is gone.
        self._build_role(_NAME, stores, (*_LOOKS, ("batch", ("jobs",), ("create", "delete", "watch"))))
        workloads = ("apps", ("deployments", "statefulsets"))
        self._build_guard("scale", (jobs, stores), "UPDATE", workloads, scale_rules(database.pod, selector, stores))
        self._build_guard("job", (stores,), "CREATE", ("batch", ("jobs",)), job_rules(database))
        self._build_guard("removal", (stores,), "DELETE", ("batch", ("jobs",)), removal_rules())
        if cluster.name:
            self._build_entry(args.role_arns[Role.RESTORER])
        self.register_outputs({})

    def _labels(self, name: str) -> dict[str, str]:
        return labels(self._settings, name=name, component=Role.RESTORER.value)

    def _build_role(
        self, name: str, namespace: str, rules: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]
    ) -> None:
        metadata = k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=self._labels(name))
        settings = k8s.rbac.v1.PolicyRuleArgs(
            api_groups=[""], resources=["configmaps"], resource_names=[SETTINGS_CONFIG_MAP], verbs=["get"]
        )
        k8s.rbac.v1.Role(
            name,
            metadata=metadata,
            rules=[
                *(
                    k8s.rbac.v1.PolicyRuleArgs(api_groups=[group], resources=list(resources), verbs=list(verbs))
                    for group, resources, verbs in rules
                ),
                settings,
            ],
            opts=self._options,
        )
        k8s.rbac.v1.RoleBinding(
            name,
            metadata=metadata,
            role_ref=k8s.rbac.v1.RoleRefArgs(api_group=_RBAC, kind="Role", name=name),
            subjects=[k8s.rbac.v1.SubjectArgs(api_group=_RBAC, kind="Group", name=RESTORERS_GROUP)],
            opts=self._options,
        )

    def _build_guard(
        self,
        name: str,
        namespaces: Sequence[str],
        operation: str,
        kinds: tuple[str, tuple[str, ...]],
        rules: Sequence[Rule],
    ) -> None:
        guard = GuardArgs(
            settings=self._settings,
            name=f"restorers-{name}",
            component=Role.RESTORER.value,
            group=RESTORERS_GROUP,
            namespaces=namespaces,
            operation=operation,
            kinds=kinds,
            rules=rules,
        )
        build_guard(guard, self._options)

    def _build_entry(self, role_arn: pulumi.Output[str]) -> None:
        settings = self._settings
        aws.eks.AccessEntry(
            "restorers",
            cluster_name=settings.cluster.name,
            principal_arn=role_arn,
            kubernetes_groups=[RESTORERS_GROUP],
            type="STANDARD",
            tags=aws_tags(settings, component=Role.RESTORER.value, data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )
