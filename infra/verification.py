"""Restore tests that outgrow a function: a suspended CronJob per component, and who may start a Job from it.

The schedule stays EventBridge's and the function stays its target, so that a missing call is noticed in one place. The
function reads the template through the EKS API and makes a Job of it: the same command, as a pod with a volume.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import (
    DISPATCH_GROUP,
    PROJECT,
    SECRET_OPENSEARCH,
    Role,
    restore_test_job,
    service_account,
)
from infra.admission import GuardArgs, Rule, build_guard
from infra.pods import FINISHED_JOB_KEPT_SECONDS, FINISHED_VOLUME_KEPT_SECONDS, PodArgs, pod_template
from infra.settings import Settings
from infra.tags import aws_tags, labels

# The runbook's RTO says how long a restore may take in need; a test that takes twice as long is stuck.
_RTO_FACTOR = 2
# A second try would restore everything again; the failed record and its alarm are there after the first.
_RETRIES = 0
_DISPATCH = f"{PROJECT}-restore-test-dispatch"


@dataclass(frozen=True, kw_only=True)
class VerificationArgs:
    """What the templates depend on.

    Attributes:
        role_arns: role to ARN.
        namespace: the namespace resource, where the program makes it.
    """

    settings: Settings
    role_arns: Mapping[Role, pulumi.Output[str]]
    namespace: k8s.core.v1.Namespace | None


class Verification(pulumi.ComponentResource):
    """The templates, and the way from the function to them where a cluster is named."""

    def __init__(self, name: str, args: VerificationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Verification", name, None, opts)
        self._settings = args.settings
        self._options = pulumi.ResourceOptions(parent=self, depends_on=[args.namespace] if args.namespace else None)
        for component in Component:
            self._build_template(component)
        if args.settings.cluster.name:
            self._build_access(args.role_arns[Role.VERIFIER])
        self.register_outputs({})

    def _metadata(self, name: str) -> k8s.meta.v1.ObjectMetaArgs:
        return k8s.meta.v1.ObjectMetaArgs(
            name=name, namespace=self._settings.cluster.namespace, labels=self._labels(name)
        )

    def _labels(self, name: str) -> dict[str, str]:
        return labels(self._settings, name=name, component=Role.RESTORE_TESTER.value)

    def _build_template(self, component: Component) -> None:
        settings, name = self._settings, restore_test_job(component)
        # Only PostgreSQL is restored onto the pod's own disk.
        on_volume = component is Component.POSTGRES
        template = pod_template(
            PodArgs(
                name=name,
                labels=self._labels(name),
                service_account=service_account(Role.RESTORE_TESTER),
                arguments=("verify", component.value),
                # PostgreSQL and MinIO are restored from S3 and KMS alone.
                secrets=(SECRET_OPENSEARCH,) if component is Component.OPENSEARCH else (),
                cpu="500m",
                memory="2Gi" if on_volume else "1Gi",
                scratch=settings.cluster.restore_test_scratch if on_volume else "2Gi",
                scratch_volume=on_volume,
                restart_policy="Never",
            ),
            settings.cluster,
        )
        k8s.batch.v1.CronJob(
            name,
            metadata=self._metadata(name),
            spec=k8s.batch.v1.CronJobSpecArgs(
                schedule=settings.verification_cron,
                time_zone="Etc/UTC",
                # A template: what starts it is the function, at the time that EventBridge calls it.
                suspend=True,
                concurrency_policy="Forbid",
                job_template=k8s.batch.v1.JobTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(labels=self._labels(name)),
                    spec=k8s.batch.v1.JobSpecArgs(
                        active_deadline_seconds=_RTO_FACTOR * settings.objectives.rto_seconds,
                        backoff_limit=_RETRIES,
                        ttl_seconds_after_finished=(
                            FINISHED_VOLUME_KEPT_SECONDS if on_volume else FINISHED_JOB_KEPT_SECONDS
                        ),
                        template=template,
                    ),
                ),
            ),
            opts=self._options,
        )

    def _build_access(self, role_arn: pulumi.Output[str]) -> None:
        """The function's role in the cluster: it reads these templates and makes Jobs in this namespace, no more."""
        settings = self._settings
        aws.eks.AccessEntry(
            "restore-test-dispatch",
            cluster_name=settings.cluster.name,
            principal_arn=role_arn,
            kubernetes_groups=[DISPATCH_GROUP],
            type="STANDARD",
            tags=aws_tags(settings, component="verification", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        rules = k8s.rbac.v1.PolicyRuleArgs
        k8s.rbac.v1.Role(
            _DISPATCH,
            metadata=self._metadata(_DISPATCH),
            rules=[
                rules(
                    api_groups=["batch"],
                    resources=["cronjobs"],
                    resource_names=[restore_test_job(component) for component in Component],
                    verbs=["get"],
                ),
                # RBAC cannot say from which template: the admission policy below does.
                rules(api_groups=["batch"], resources=["jobs"], verbs=["create"]),
            ],
            opts=self._options,
        )
        k8s.rbac.v1.RoleBinding(
            _DISPATCH,
            metadata=self._metadata(_DISPATCH),
            role_ref=k8s.rbac.v1.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=_DISPATCH),
            subjects=[
                k8s.rbac.v1.SubjectArgs(api_group="rbac.authorization.k8s.io", kind="Group", name=DISPATCH_GROUP)
            ],
            opts=self._options,
        )
        # Who may make Jobs may run a pod as any service account of the namespace: here, as this one and our image.
        guard = GuardArgs(
            settings=settings,
            name="restore-test-dispatch",
            component=Role.RESTORE_TESTER.value,
            group=DISPATCH_GROUP,
            namespaces=[settings.cluster.namespace],
            operation="CREATE",
            kinds=("batch", ["jobs"]),
            rules=dispatched_job_rules(settings.cluster.image),
        )
        build_guard(guard, self._options)


def dispatched_job_rules(image: str) -> list[Rule]:
    """What a dispatched Job must fulfil."""
    pod = "object.spec.template.spec"
    account = service_account(Role.RESTORE_TESTER)
    return [
        Rule(
            expression=f"{pod}.serviceAccountName == '{account}'",
            message=f"a dispatched Job runs as {account}",
        ),
        Rule(
            expression=f"!has({pod}.initContainers) && {pod}.containers.all(c, c.image == '{image}' "
            "&& c.command == ['aivo-backup'] && c.args.size() == 2 && c.args[0] == 'verify')",
            message="a dispatched Job runs `aivo-backup verify COMPONENT` from the environment's image",
        ),
    ]
