"""What runs in Kubernetes: the namespace, service accounts, settings, and one CronJob per row of the schedules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from aivo_backup.policy.environment import Component, ExpiryRun, ScheduledRun
from aivo_backup.policy.names import (
    EXPIRERS,
    SECRET_MINIO_SOURCE,
    SECRET_OPENSEARCH,
    SECRET_OPENSEARCH_EXPIRER,
    SECRET_PGBACKREST_CLIENT,
    SETTINGS_CONFIG_MAP,
    SETTINGS_KEY,
    WRITERS,
    Role,
    service_account,
    state_claim,
)
from infra.identity import POD_ROLES
from infra.pods import FINISHED_JOB_KEPT_SECONDS, PodArgs, pod_template
from infra.settings import Settings
from infra.tags import labels

_SECRETS = {
    Component.POSTGRES: (SECRET_PGBACKREST_CLIENT,),
    Component.MINIO: (SECRET_MINIO_SOURCE,),
    Component.OPENSEARCH: (SECRET_OPENSEARCH,),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """Requests of one job; memory is its limit too."""

    cpu: str
    memory: str
    scratch: str


_SIZES = {
    # pgBackRest compresses in parallel; its spool and lock files are small.
    Component.POSTGRES: Size(cpu="500m", memory="1Gi", scratch="1Gi"),
    # bytes_in_flight (128 MiB) and the two listings being merged; manifests are written through scratch.
    Component.MINIO: Size(cpu="500m", memory="512Mi", scratch="2Gi"),
    # It only talks to the cluster's API.
    Component.OPENSEARCH: Size(cpu="100m", memory="256Mi", scratch="256Mi"),
}

_EXPIRERS_SECRETS = {
    # The repository and the manifests are in S3, under the pod's own identity.
    Component.POSTGRES: (),
    Component.MINIO: (),
    Component.OPENSEARCH: (SECRET_OPENSEARCH_EXPIRER,),
}
# The names of some weeks of WAL segments, or the summaries of all points: no data passes through.
_EXPIRERS_SIZE = Size(cpu="100m", memory="512Mi", scratch="64Mi")

# One retry: a second failure is for a person, and the next scheduled run comes anyway.
_RETRIES = 1
# One to look at and two to compare it with; what ran long ago is in the catalog. Of those that failed some more: a
# failure that comes back shows only beside the ones before.
_SUCCESSFUL_JOBS_KEPT = 3
_FAILED_JOBS_KEPT = 5
# Records that could not be delivered, a few KiB each; less than this many storage classes do not hand out.
_STATE_SIZE = "1Gi"


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """What the cluster's objects depend on.

    Attributes:
        role_arns: role to ARN, for the service accounts' annotations.
        document: the settings as JSON text.
    """

    settings: Settings
    role_arns: Mapping[Role, pulumi.Output[str]]
    document: pulumi.Input[str]


class Cluster(pulumi.ComponentResource):
    """The namespace, the settings, the service accounts and the CronJobs.

    Attributes:
        namespace: None where it is adopted instead of made.
    """

    namespace: k8s.core.v1.Namespace | None

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Cluster", name, None, opts)
        self._args = args
        self._settings = args.settings
        self.namespace = self._build_namespace()
        self._build_settings()
        for role in POD_ROLES:
            self._build_service_account(role)
        for run in args.settings.backups:
            self._build_backup(run)
        for run in args.settings.expiries:
            self._build_expiry(run)
        self.register_outputs({"namespace": args.settings.cluster.namespace})

    def _options(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=[self.namespace] if self.namespace else None)

    def _metadata(self, name: str, component: str, annotations: Mapping[str, pulumi.Input[str]] | None = None):
        return k8s.meta.v1.ObjectMetaArgs(
            name=name,
            namespace=self._settings.cluster.namespace,
            labels=labels(self._settings, name=name, component=component),
            annotations=annotations,
        )

    def _build_namespace(self) -> k8s.core.v1.Namespace | None:
        cluster = self._settings.cluster
        if not cluster.create_namespace:
            return None
        level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        return k8s.core.v1.Namespace(
            "namespace",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=cluster.namespace,
                labels={**labels(self._settings, name=cluster.namespace, component="namespace"), **level},
            ),
            opts=pulumi.ResourceOptions(parent=self, protect=self._settings.protect),
        )

    def _build_settings(self) -> None:
        k8s.core.v1.ConfigMap(
            "settings",
            metadata=self._metadata(SETTINGS_CONFIG_MAP, "settings"),
            data={SETTINGS_KEY: self._args.document},
            opts=self._options(),
        )

    def _build_service_account(self, role: Role) -> None:
        name = service_account(role)
        k8s.core.v1.ServiceAccount(
            name,
            metadata=self._metadata(
                name,
                role.value,
                {
                    "eks.amazonaws.com/role-arn": self._args.role_arns[role],
                    # The regional endpoint: the global one is one region's fault away.
                    "eks.amazonaws.com/sts-regional-endpoints": "true",
                },
            ),
            automount_service_account_token=False,
            opts=self._options(),
        )

    def _build_backup(self, run: ScheduledRun) -> None:
        self._build_cronjob(
            run,
            component=run.component.value,
            role=WRITERS[run.component],
            arguments=("backup", run.component.value, "--type", run.kind.value),
            secrets=_SECRETS[run.component],
            size=_SIZES[run.component],
        )

    def _build_expiry(self, run: ExpiryRun) -> None:
        role = EXPIRERS[run.component]
        self._build_cronjob(
            run,
            # Its own label: its pods reach less than those that back up.
            component=role.value,
            role=role,
            # The other half of its time is for the work itself.
            arguments=(*run.arguments, "--wait", str(run.longest_run_seconds // 2)),
            secrets=_EXPIRERS_SECRETS[run.component],
            size=_EXPIRERS_SIZE,
        )

    def _build_cronjob(
        self,
        run: ScheduledRun | ExpiryRun,
        *,
        component: str,
        role: Role,
        arguments: Sequence[str],
        secrets: Sequence[str],
        size: Size,
    ) -> None:
        # Each CronJob has a claim of its own: Forbid lets one pod of it run at a time, so a volume that one node
        # mounts is enough, and jobs that overlap never wait for each other's volume.
        claim = state_claim(run.name)
        k8s.core.v1.PersistentVolumeClaim(
            claim,
            metadata=self._metadata(claim, component),
            spec=k8s.core.v1.PersistentVolumeClaimSpecArgs(
                access_modes=["ReadWriteOnce"],
                storage_class_name=self._settings.cluster.storage_class or None,
                resources=k8s.core.v1.VolumeResourceRequirementsArgs(requests={"storage": _STATE_SIZE}),
            ),
            # It may hold records that the catalog has not got yet.
            opts=pulumi.ResourceOptions.merge(self._options(), pulumi.ResourceOptions(protect=self._settings.protect)),
        )
        template = pod_template(
            PodArgs(
                name=run.name,
                labels=labels(self._settings, name=run.name, component=component),
                service_account=service_account(role),
                arguments=arguments,
                secrets=secrets,
                state_claim=claim,
                cpu=size.cpu,
                memory=size.memory,
                scratch=size.scratch,
                restart_policy="Never",
            ),
            self._settings.cluster,
        )
        k8s.batch.v1.CronJob(
            run.name,
            metadata=self._metadata(run.name, component),
            spec=k8s.batch.v1.CronJobSpecArgs(
                schedule=run.cron,
                time_zone="Etc/UTC",
                concurrency_policy="Forbid",
                starting_deadline_seconds=run.start_deadline_seconds,
                successful_jobs_history_limit=_SUCCESSFUL_JOBS_KEPT,
                failed_jobs_history_limit=_FAILED_JOBS_KEPT,
                job_template=k8s.batch.v1.JobTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(
                        labels=labels(self._settings, name=run.name, component=component)
                    ),
                    spec=k8s.batch.v1.JobSpecArgs(
                        active_deadline_seconds=run.longest_run_seconds,
                        backoff_limit=_RETRIES,
                        ttl_seconds_after_finished=FINISHED_JOB_KEPT_SECONDS,
                        template=template,
                    ),
                ),
            ),
            opts=self._options(),
        )
