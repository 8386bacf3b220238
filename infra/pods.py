"""What every pod of this product has in common: the restricted security level, its mounts and its variables."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_kubernetes as k8s

from aivo_backup.policy.names import (
    JOB_VARIABLE,
    SCRATCH_MOUNT,
    SECRETS_MOUNT,
    SECRETS_VARIABLE,
    SETTINGS_CONFIG_MAP,
    SETTINGS_KEY,
    SETTINGS_MOUNT,
    SETTINGS_VARIABLE,
    STATE_MOUNT,
    STATE_VARIABLE,
)
from infra.settings import ClusterSettings

FINISHED_JOB_KEPT_SECONDS = 4 * 24 * 3600
"""A finished job and its log stay for a look on the next working day after a long weekend."""
FINISHED_VOLUME_KEPT_SECONDS = 3600
"""A job with a volume of its own keeps it, as large as the database, until it goes itself; its result is on record."""
# The user of the image; every volume is handed to its group.
USER_ID = 1000

# A node that is drained to save money waits for a job that is under way: the cluster autoscaler and Karpenter ask for
# these. The agent is not asked for: it loses a minute, and a budget for its one pod would block every drain.
_UNDISTURBED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
METRICS_PORT_NAME = "metrics"

# Private keys: pgBackRest refuses one that others may read, so the group reads and nobody else.
_SECRET_MODE = 0o440


@dataclass(frozen=True, kw_only=True)
class PodArgs:
    """One pod of ours with one container.

    Attributes:
        arguments: what ``aivo-backup`` is called with.
        secrets: Kubernetes secrets to mount.
        state_claim: the volume claim that keeps the spool; an empty folder of the pod's own when empty.
        scratch: size limit of the scratch volume.
        scratch_volume: scratch is a volume of the pod's own, made and removed with it, instead of the node's disk.
        metrics_port: where ``/metrics``, ``/healthz`` and ``/readyz`` answer; 0 for a pod that serves nothing.
        calls_cluster: it asks the Kubernetes API, with its service account's token.
    """

    name: str
    labels: dict[str, str]
    service_account: str
    arguments: Sequence[str]
    secrets: Sequence[str]
    state_claim: str = ""
    cpu: str
    memory: str
    scratch: str
    scratch_volume: bool = False
    restart_policy: str
    metrics_port: int = 0
    calls_cluster: bool = False


def pod_template(args: PodArgs, cluster: ClusterSettings) -> k8s.core.v1.PodTemplateSpecArgs:
    """The pod template."""
    return k8s.core.v1.PodTemplateSpecArgs(
        metadata=k8s.meta.v1.ObjectMetaArgs(
            labels=args.labels, annotations=_UNDISTURBED if args.restart_policy == "Never" else None
        ),
        spec=k8s.core.v1.PodSpecArgs(
            priority_class_name=cluster.priority_class or None,
            service_account_name=args.service_account,
            # Only the agent calls the Kubernetes API; the token for AWS is projected by EKS, not by this.
            automount_service_account_token=args.calls_cluster,
            restart_policy=args.restart_policy,
            enable_service_links=False,
            security_context=k8s.core.v1.PodSecurityContextArgs(
                run_as_non_root=True,
                run_as_user=USER_ID,
                run_as_group=USER_ID,
                fs_group=USER_ID,
                seccomp_profile=k8s.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
            ),
            containers=[_container(args, cluster)],
            volumes=_volumes(args, cluster),
        ),
    )


def _container(args: PodArgs, cluster: ClusterSettings) -> k8s.core.v1.ContainerArgs:
    variables = {
        SETTINGS_VARIABLE: f"{SETTINGS_MOUNT}/{SETTINGS_KEY}",
        SECRETS_VARIABLE: SECRETS_MOUNT,
        STATE_VARIABLE: STATE_MOUNT,
        # A record says which schedule it belongs to.
        JOB_VARIABLE: args.name,
    }
    return k8s.core.v1.ContainerArgs(
        name=args.name,
        image=cluster.image,
        image_pull_policy=cluster.image_pull_policy,
        command=["aivo-backup"],
        args=list(args.arguments),
        env=[k8s.core.v1.EnvVarArgs(name=name, value=value) for name, value in variables.items()],
        # No limit on CPU: throttling would lengthen a run past its deadline while the node idles.
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": args.cpu, "memory": args.memory}, limits={"memory": args.memory}
        ),
        ports=(
            [k8s.core.v1.ContainerPortArgs(name=METRICS_PORT_NAME, container_port=args.metrics_port)]
            if args.metrics_port
            else None
        ),
        # A restart ends a heartbeat series for a moment, so only a minute without an answer counts as dead.
        liveness_probe=_probe("/healthz", every_seconds=10, failures=6) if args.metrics_port else None,
        # Asked often, since a recovery that rolls it out waits for it; half a minute without an answer counts.
        readiness_probe=_probe("/readyz", every_seconds=2, failures=15) if args.metrics_port else None,
        security_context=k8s.core.v1.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
        ),
        volume_mounts=[
            k8s.core.v1.VolumeMountArgs(name="settings", mount_path=SETTINGS_MOUNT, read_only=True),
            *(
                k8s.core.v1.VolumeMountArgs(
                    name=f"secret-{secret}", mount_path=f"{SECRETS_MOUNT}/{secret}", read_only=True
                )
                for secret in args.secrets
            ),
            k8s.core.v1.VolumeMountArgs(name="state", mount_path=STATE_MOUNT),
            k8s.core.v1.VolumeMountArgs(name="scratch", mount_path=SCRATCH_MOUNT),
        ],
    )


def _probe(path: str, *, every_seconds: int, failures: int) -> k8s.core.v1.ProbeArgs:
    return k8s.core.v1.ProbeArgs(
        http_get=k8s.core.v1.HTTPGetActionArgs(path=path, port=METRICS_PORT_NAME),
        period_seconds=every_seconds,
        timeout_seconds=5,
        failure_threshold=failures,
    )


def _volumes(args: PodArgs, cluster: ClusterSettings) -> list[k8s.core.v1.VolumeArgs]:
    state = (
        k8s.core.v1.VolumeArgs(
            name="state",
            persistent_volume_claim=k8s.core.v1.PersistentVolumeClaimVolumeSourceArgs(claim_name=args.state_claim),
        )
        if args.state_claim
        else k8s.core.v1.VolumeArgs(name="state", empty_dir=k8s.core.v1.EmptyDirVolumeSourceArgs(size_limit="64Mi"))
    )
    return [
        k8s.core.v1.VolumeArgs(
            name="settings", config_map=k8s.core.v1.ConfigMapVolumeSourceArgs(name=SETTINGS_CONFIG_MAP)
        ),
        *(
            k8s.core.v1.VolumeArgs(
                name=f"secret-{secret}",
                secret=k8s.core.v1.SecretVolumeSourceArgs(secret_name=secret, default_mode=_SECRET_MODE),
            )
            for secret in args.secrets
        ),
        state,
        _scratch(args, cluster),
    ]


def _scratch(args: PodArgs, cluster: ClusterSettings) -> k8s.core.v1.VolumeArgs:
    if not args.scratch_volume:
        return k8s.core.v1.VolumeArgs(
            name="scratch", empty_dir=k8s.core.v1.EmptyDirVolumeSourceArgs(size_limit=args.scratch)
        )
    claim = k8s.core.v1.PersistentVolumeClaimSpecArgs(
        access_modes=["ReadWriteOnce"],
        storage_class_name=cluster.storage_class or None,
        resources=k8s.core.v1.VolumeResourceRequirementsArgs(requests={"storage": args.scratch}),
    )
    return k8s.core.v1.VolumeArgs(
        name="scratch",
        ephemeral=k8s.core.v1.EphemeralVolumeSourceArgs(
            volume_claim_template=k8s.core.v1.PersistentVolumeClaimTemplateArgs(
                metadata=k8s.meta.v1.ObjectMetaArgs(labels=args.labels), spec=claim
            )
        ),
    )
