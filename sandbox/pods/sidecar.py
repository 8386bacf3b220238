"""The sidecar beside PostgreSQL: our image in the database's own pod, sharing its data directory and socket."""

import json

from aivo_backup.policy.environment import Environment, PostgresSettings
from aivo_backup.policy.names import (
    SCRATCH_MOUNT,
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
from sandbox.pods.container import USER_ID
from sandbox.pods.manifests import Document, Pod, VolumeMount, load
from sandbox.pods.run import start_pod
from sandbox.processes import Process
from sandbox.provision.provisioner import STACK
from sandbox.state import ACCOUNT, Sandbox
from sandbox.state import SIDECAR as SIDECAR_PROCESS

# The database's StatefulSet is not ours; these are its namespace and service account in the stack `local`.
_STORE_NAMESPACE = "aivo"
_STORE_SERVICE_ACCOUNT = "postgresql"


def sidecar_pod(settings: PostgresSettings) -> Pod:
    """The sidecar's container with the volumes that it shares with the database's: ``data`` and ``sockets``."""
    certificates = f"secret-{SECRET_PGBACKREST_SERVER}"
    mounts = {
        "settings": (SETTINGS_MOUNT, True),
        certificates: (f"{SECRETS_MOUNT}/{SECRET_PGBACKREST_SERVER}", True),
        "state": (STATE_MOUNT, False),
        "scratch": (SCRATCH_MOUNT, False),
        # pgBackRest's configuration is written at start, and read by the processes that the server starts.
        "configuration": (_folder(settings.sidecar_config), False),
        "data": (_folder(settings.data_path), False),
        "sockets": (settings.socket_path, False),
    }
    empty: dict[str, Document] = {name: {"emptyDir": {}} for name in mounts if name not in ("settings", certificates)}
    return Pod(
        name=SIDECAR,
        namespace=_STORE_NAMESPACE,
        service_account=_STORE_SERVICE_ACCOUNT,
        argv=("aivo-backup", "sidecar"),
        environment={
            SETTINGS_VARIABLE: f"{SETTINGS_MOUNT}/{SETTINGS_KEY}",
            SECRETS_VARIABLE: SECRETS_MOUNT,
            STATE_VARIABLE: STATE_MOUNT,
        },
        mounts=tuple(
            VolumeMount(volume=name, path=path, sub_path="", read_only=read_only)
            for name, (path, read_only) in mounts.items()
        ),
        volumes={
            **empty,
            "settings": {"configMap": {"name": SETTINGS_CONFIG_MAP}},
            certificates: {"secret": {"secretName": SECRET_PGBACKREST_SERVER}},
        },
        user_id=USER_ID,
        group_id=USER_ID,
        read_only_root=True,
        working_folder="/",
    )


def start_sidecar(sandbox: Sandbox) -> Process:
    """Starts the sidecar beside the sandbox's PostgreSQL; `sandbox down` ends it, after PostgreSQL.

    It ends with exit code 3 while there is no cipher envelope (`aivo-backup init postgres --envelope-only`).

    Raises:
        ConfigurationError: nothing has been provisioned.
        BackupError: it could not be started.
    """
    published = load(sandbox.home / "kubernetes", "ConfigMap", SETTINGS_CONFIG_MAP)["data"][SETTINGS_KEY]
    settings = Environment.from_json(json.loads(published), where=SETTINGS_CONFIG_MAP).postgres
    return start_pod(
        sandbox,
        sidecar_pod(settings),
        role=role_arn(ACCOUNT, STACK, Role.POSTGRES_ARCHIVER),
        process_name=SIDECAR_PROCESS,
        volumes={"data": sandbox.postgres_home / "volume", "sockets": sandbox.postgres_home / "run"},
    )


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
