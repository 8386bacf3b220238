"""The sidecar beside PostgreSQL: our image in the database's own pod, sharing its data directory and socket."""

import json

from aivo_backup.policy import database_pod
from aivo_backup.policy.environment import Environment, PostgresSettings
from aivo_backup.policy.names import (
    SECRET_PGBACKREST_SERVER,
    SETTINGS_CONFIG_MAP,
    SETTINGS_KEY,
    SIDECAR,
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


def sidecar_pod(settings: PostgresSettings) -> Pod:
    """The sidecar's container, as the patch of the database's StatefulSet has it."""
    mounts = database_pod.sidecar_mounts(settings)
    volumes: dict[str, Document] = {mount.volume: {"emptyDir": {}} for mount in mounts}
    return Pod(
        name=SIDECAR,
        namespace=settings.pod.namespace,
        service_account=settings.pod.service_account,
        argv=database_pod.SIDECAR_COMMAND,
        environment=database_pod.sidecar_variables(),
        mounts=tuple(
            VolumeMount(volume=mount.volume, path=mount.path, sub_path="", read_only=mount.read_only)
            for mount in mounts
        ),
        volumes={
            **volumes,
            database_pod.SETTINGS_VOLUME: {"configMap": {"name": SETTINGS_CONFIG_MAP}},
            database_pod.CERTIFICATES_VOLUME: {"secret": {"secretName": SECRET_PGBACKREST_SERVER}},
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
        volumes={
            settings.pod.data_volume: sandbox.postgres_home / "volume",
            database_pod.SOCKETS_VOLUME: sandbox.postgres_home / "run",
        },
    )
