"""Recovery drills: a CronJob for each exercise of the runbook, and one for the yearly review of what they showed.

A drill restores the newest points beside production, onto a volume of its own, into buckets and indices under names of
its own, verifies them and removes them. Its identity reads every backup and writes none.
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from aivo_backup.policy.drills import DRILL_START_DEADLINE_SECONDS, DRILLS, DrillRun
from aivo_backup.policy.names import SECRET_MINIO_SOURCE, SECRET_OPENSEARCH, SECRET_POSTGRES, Role, service_account
from infra.pods import FINISHED_JOB_KEPT_SECONDS, FINISHED_VOLUME_KEPT_SECONDS, PodArgs, pod_template
from infra.settings import Settings
from infra.tags import labels

# Each scenario may take what a recovery may, once more for the drill's own checks; beyond that it is stuck.
_RTO_FACTOR = 2
# A second try would restore everything again; the failed record, and the alert once it is overdue, are there.
_RETRIES = 0
_JOBS_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class DrillsArgs:
    """What the CronJobs depend on.

    Attributes:
        namespace: the namespace resource, where the program makes it.
    """

    settings: Settings
    namespace: k8s.core.v1.Namespace | None


class Drills(pulumi.ComponentResource):
    """The CronJobs."""

    def __init__(self, name: str, args: DrillsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Drills", name, None, opts)
        self._settings = args.settings
        self._options = pulumi.ResourceOptions(parent=self, depends_on=[args.namespace] if args.namespace else None)
        for run in DRILLS:
            self._build(run)
        self.register_outputs({})

    def _build(self, run: DrillRun) -> None:
        settings = self._settings
        marks = labels(settings, name=run.name, component=Role.DRILLER.value)
        metadata = k8s.meta.v1.ObjectMetaArgs(name=run.name, namespace=settings.cluster.namespace, labels=marks)
        kept = FINISHED_VOLUME_KEPT_SECONDS if run.restores else FINISHED_JOB_KEPT_SECONDS
        k8s.batch.v1.CronJob(
            run.name,
            metadata=metadata,
            spec=k8s.batch.v1.CronJobSpecArgs(
                schedule=run.cron,
                time_zone="Etc/UTC",
                concurrency_policy="Forbid",
                starting_deadline_seconds=DRILL_START_DEADLINE_SECONDS,
                successful_jobs_history_limit=_JOBS_KEPT,
                failed_jobs_history_limit=_JOBS_KEPT,
                job_template=k8s.batch.v1.JobTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(labels=marks),
                    spec=k8s.batch.v1.JobSpecArgs(
                        active_deadline_seconds=max(1, run.restores) * _RTO_FACTOR * settings.objectives.rto_seconds,
                        backoff_limit=_RETRIES,
                        ttl_seconds_after_finished=kept,
                        template=pod_template(self._pod(run, marks), settings.cluster),
                    ),
                ),
            ),
            opts=self._options,
        )

    def _pod(self, run: DrillRun, marks: dict[str, str]) -> PodArgs:
        restores = run.restores > 0
        return PodArgs(
            name=run.name,
            labels=marks,
            service_account=service_account(Role.DRILLER),
            arguments=run.arguments,
            # The restored database has production's roles and passwords.
            secrets=(SECRET_POSTGRES, SECRET_MINIO_SOURCE, SECRET_OPENSEARCH) if restores else (),
            cpu="500m" if restores else "100m",
            memory="2Gi" if restores else "512Mi",
            scratch=self._settings.cluster.restore_test_scratch if restores else "256Mi",
            scratch_volume=restores,
            restart_policy="Never",
        )
