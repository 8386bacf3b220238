"""The database's pod with pgBackRest in it: what is added to a StatefulSet that is there already. Pure.

Objects for server-side apply (``kubectl apply --server-side``). They hold only what is ours: whatever else the
StatefulSet says stays as it is, and a field that somebody else set otherwise is a conflict that the reader sees.

What the patch does (docs/adr/0002-archiving-through-the-sidecar.md):

* an init container of our image copies pgBackRest and its libraries into a volume, since PostgreSQL's own image has
  none, and both sides of a connection must run the very same version;
* PostgreSQL's container sees that copy as ``/usr/local/bin/pgbackrest``, with a configuration and a client
  certificate, and no secret of the repository;
* the sidecar, of our image, shares its data directory and its socket. It is an init container that runs on
  (Kubernetes ≥ 1.29): it is there before PostgreSQL, and ends after it, so that the last segment is archived too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aivo_backup.policy.environment import Environment, PostgresSettings
from aivo_backup.policy.names import (
    PROJECT,
    SCRATCH_MOUNT,
    SECRET_PGBACKREST_HOST,
    SECRET_PGBACKREST_SERVER,
    SECRETS_MOUNT,
    SECRETS_VARIABLE,
    SETTINGS_CONFIG_MAP,
    SETTINGS_KEY,
    SETTINGS_MOUNT,
    SETTINGS_VARIABLE,
    SIDECAR,
    STATE_MOUNT,
    STATE_VARIABLE,
    Role,
    role_arn,
)
from aivo_backup.policy.pgbackrest import Certificates, archive_command, host_configuration

PROGRAM_FOLDER = "/opt/aivo-backup"
"""Where the copy of pgBackRest is, in every container that uses it: its wrapper names its libraries there."""
PROGRAM = "pgbackrest"
_PROGRAM_ON_PATH = f"/usr/local/bin/{PROGRAM}"
SIDECAR_COMMAND = ("aivo-backup", "sidecar")
SETTINGS_VOLUME = "aivo-backup-settings"
SOCKETS_VOLUME = "aivo-backup-sockets"
CERTIFICATES_VOLUME = f"secret-{SECRET_PGBACKREST_SERVER}"
_HOST_CONFIG_MAP = "aivo-backup-postgresql-host"
_HOST_CERTIFICATES = "/etc/pgbackrest/tls"
# Readable by the pod's group and nobody else: pgBackRest refuses a key that others may read.
_SECRET_MODE = 0o440
_ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
_SCRATCH = "256Mi"
_STATE = "256Mi"


@dataclass(frozen=True, kw_only=True)
class SidecarMount:
    """One folder that the sidecar sees: the volume's name in the pod, and where."""

    volume: str
    path: str
    read_only: bool = False


def patch(environment: Environment, settings_document: str) -> list[dict[str, Any]]:
    """Everything that the namespace of the database needs, the StatefulSet's part last.

    Args:
        settings_document: the settings as they were published, word for word.
    """
    pod = environment.postgres.pod
    archiver = role_arn(environment.account_id, environment.name, Role.POSTGRES_ARCHIVER)
    host = host_configuration(environment.postgres, _host_certificates())
    return [
        _object("v1", "ConfigMap", SETTINGS_CONFIG_MAP, pod.namespace, data={SETTINGS_KEY: settings_document}),
        _object("v1", "ConfigMap", _HOST_CONFIG_MAP, pod.namespace, data={"host.conf": host.text()}),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": pod.service_account,
                "namespace": pod.namespace,
                "annotations": {_ROLE_ANNOTATION: archiver, "eks.amazonaws.com/sts-regional-endpoints": "true"},
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": pod.stateful_set, "namespace": pod.namespace},
            "spec": {"template": {"spec": _pod_spec(environment.postgres)}},
        },
    ]


def parameters(settings: PostgresSettings) -> dict[str, str]:
    """What PostgreSQL itself has to be told; ``archive_mode`` takes effect at its next start."""
    return {
        "archive_mode": "on",
        "archive_command": archive_command(settings),
        "archive_timeout": f"{settings.archive_timeout_seconds}s",
    }


def statements(settings: PostgresSettings) -> list[str]:
    """The same as SQL for a superuser. To be run before the patch is applied, whose rollout is that next start."""
    return [f"ALTER SYSTEM SET {name} = {_literal(value)};" for name, value in parameters(settings).items()]


def sidecar_mounts(settings: PostgresSettings) -> tuple[SidecarMount, ...]:
    """What the sidecar sees: its settings and secrets, folders of its own, and the database's data and socket."""
    return (
        SidecarMount(volume=SETTINGS_VOLUME, path=SETTINGS_MOUNT, read_only=True),
        SidecarMount(
            volume=CERTIFICATES_VOLUME,
            path=f"{SECRETS_MOUNT}/{SECRET_PGBACKREST_SERVER}",
            read_only=True,
        ),
        SidecarMount(volume="aivo-backup-state", path=STATE_MOUNT),
        SidecarMount(volume="aivo-backup-scratch", path=SCRATCH_MOUNT),
        # pgBackRest's configuration is written at start, and read by the processes that the server starts.
        SidecarMount(volume="aivo-backup-configuration", path=_folder(settings.sidecar_config)),
        SidecarMount(volume=settings.pod.data_volume, path=_folder(settings.data_path)),
        SidecarMount(volume=SOCKETS_VOLUME, path=settings.socket_path),
    )


def sidecar_variables() -> dict[str, str]:
    """The sidecar's environment; its secrets are not in it until it has opened the cipher envelope itself."""
    return {
        SETTINGS_VARIABLE: f"{SETTINGS_MOUNT}/{SETTINGS_KEY}",
        SECRETS_VARIABLE: SECRETS_MOUNT,
        STATE_VARIABLE: STATE_MOUNT,
    }


def _pod_spec(settings: PostgresSettings) -> dict[str, Any]:
    pod = settings.pod
    program = {"name": "aivo-backup-program", "mountPath": PROGRAM_FOLDER}
    return {
        "serviceAccountName": pod.service_account,
        **({} if pod.has_fs_group else {"securityContext": {"supplementalGroups": [0]}}),
        "initContainers": [
            {
                **container("aivo-backup-program", settings),
                "command": ["aivo-backup", "sidecar", "--install", PROGRAM_FOLDER],
                "volumeMounts": [program, {"name": "aivo-backup-scratch", "mountPath": SCRATCH_MOUNT}],
            },
            {
                **container(SIDECAR, settings),
                "restartPolicy": "Always",
                "command": list(SIDECAR_COMMAND),
                "env": [{"name": name, "value": value} for name, value in sidecar_variables().items()],
                "ports": [{"name": "pgbackrest", "containerPort": settings.sidecar_port}],
                "volumeMounts": [
                    {"name": mount.volume, "mountPath": mount.path, **({"readOnly": True} if mount.read_only else {})}
                    for mount in sidecar_mounts(settings)
                ],
            },
        ],
        "containers": [
            {
                "name": pod.container,
                "volumeMounts": [
                    {**program, "readOnly": True},
                    {**program, "mountPath": _PROGRAM_ON_PATH, "subPath": PROGRAM, "readOnly": True},
                    {
                        "name": "aivo-backup-host",
                        "mountPath": settings.host_config,
                        "subPath": "host.conf",
                        "readOnly": True,
                    },
                    {
                        "name": f"secret-{SECRET_PGBACKREST_HOST}",
                        "mountPath": _HOST_CERTIFICATES,
                        "readOnly": True,
                    },
                    {"name": SOCKETS_VOLUME, "mountPath": settings.socket_path},
                ],
            }
        ],
        "volumes": [
            {"name": "aivo-backup-program", "emptyDir": {"sizeLimit": "128Mi"}},
            {"name": SOCKETS_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
            {"name": "aivo-backup-configuration", "emptyDir": {"sizeLimit": "1Mi"}},
            {"name": "aivo-backup-state", "emptyDir": {"sizeLimit": _STATE}},
            {"name": "aivo-backup-scratch", "emptyDir": {"sizeLimit": _SCRATCH}},
            {"name": SETTINGS_VOLUME, "configMap": {"name": SETTINGS_CONFIG_MAP}},
            {"name": "aivo-backup-host", "configMap": {"name": _HOST_CONFIG_MAP}},
            *(
                {"name": f"secret-{secret}", "secret": {"secretName": secret, "defaultMode": _SECRET_MODE}}
                for secret in (SECRET_PGBACKREST_SERVER, SECRET_PGBACKREST_HOST)
            ),
        ],
    }


def container(name: str, settings: PostgresSettings) -> dict[str, Any]:
    """A container of our image, as the database's own user: only that may read the data directory."""
    pod = settings.pod
    return {
        "name": name,
        "image": pod.image,
        "imagePullPolicy": pod.image_pull_policy,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": pod.sidecar_memory}},
        "securityContext": {
            "runAsUser": pod.user_id,
            "runAsGroup": pod.group_id,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _object(version: str, kind: str, name: str, namespace: str, *, data: Mapping[str, str]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": PROJECT, "app.kubernetes.io/component": "postgres"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "data": dict(data)}


def _host_certificates() -> Certificates:
    folder = _HOST_CERTIFICATES
    return Certificates(ca=f"{folder}/ca.crt", certificate=f"{folder}/tls.crt", key=f"{folder}/tls.key")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
