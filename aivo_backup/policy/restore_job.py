"""The Job that restores onto the database's volume, in the database's namespace. Pure.

It runs as the database's own user and under its service account: who has the data may read its backups, and nobody
else needs an identity in that namespace (docs/adr/0012-restores-in-the-cluster.md).
"""

from collections.abc import Sequence
from typing import Any

from aivo_backup.policy.database_pod import SETTINGS_VOLUME, container, sidecar_variables
from aivo_backup.policy.environment import DatabasePod, Environment
from aivo_backup.policy.names import PROJECT, SCRATCH_MOUNT, SETTINGS_CONFIG_MAP, SETTINGS_MOUNT, STATE_MOUNT

RESTORE_LABEL = "aivo-backup/restores"
"""Its value is the StatefulSet on whose volume the Job works."""
CONTAINER = "restore"
COMMAND, SUBCOMMAND = ("aivo-backup",), ("restore", "volume")
"""What such a Job runs, before the restore's own options."""
# Beyond this a restore is stuck, and the volume would never be free again.
_RTO_FACTOR = 2
_KEPT_SECONDS = 4 * 24 * 3600
_MEMORY = "2Gi"


def claim(pod: DatabasePod) -> str:
    """The volume claim of the database's one pod."""
    return f"{pod.data_volume}-{pod.stateful_set}-0"


def restore_job(environment: Environment, name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The Job.

    Args:
        arguments: what `aivo-backup` is called with.
    """
    settings, pod = environment.postgres, environment.postgres.pod
    # Not the labels of the database's pods: its Service must not lead here.
    labels = {
        "app.kubernetes.io/part-of": PROJECT,
        "app.kubernetes.io/component": "postgres-restore",
        RESTORE_LABEL: pod.stateful_set,
    }
    base = container(CONTAINER, settings)
    volume = {"name": pod.data_volume, "mountPath": settings.data_path.rpartition("/")[0]}
    group: dict[str, Any] = {"fsGroup": pod.group_id, "fsGroupChangePolicy": "OnRootMismatch"}
    zone = {"nodeSelector": {"topology.kubernetes.io/zone": pod.zone}} if pod.zone else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": pod.namespace, "labels": labels},
        "spec": {
            # A second try is a person's decision: the first one's failure has to be read.
            "backoffLimit": 0,
            "activeDeadlineSeconds": _RTO_FACTOR * environment.objectives.rto_seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {
                "metadata": {
                    "labels": labels,
                    # A node that is drained to save money waits for it.
                    "annotations": {
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                        "karpenter.sh/do-not-disrupt": "true",
                    },
                },
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": pod.service_account,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    **zone,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": pod.user_id,
                        "runAsGroup": pod.group_id,
                        **(group if pod.has_fs_group else {}),
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            **base,
                            "resources": {
                                "requests": {"cpu": "500m", "memory": "512Mi"},
                                "limits": {"memory": _MEMORY},
                            },
                            "command": list(COMMAND),
                            "args": list(arguments),
                            "env": [{"name": key, "value": value} for key, value in sidecar_variables().items()],
                            "volumeMounts": [
                                {"name": SETTINGS_VOLUME, "mountPath": SETTINGS_MOUNT, "readOnly": True},
                                {"name": "state", "mountPath": STATE_MOUNT},
                                {"name": "scratch", "mountPath": SCRATCH_MOUNT},
                                volume,
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": SETTINGS_VOLUME, "configMap": {"name": SETTINGS_CONFIG_MAP}},
                        {"name": "state", "emptyDir": {"sizeLimit": "1Gi"}},
                        {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
                        {"name": pod.data_volume, "persistentVolumeClaim": {"claimName": claim(pod)}},
                    ],
                },
            },
        },
    }
