"""Runs the pods that were provisioned: their command unchanged, in the surroundings that their manifests give them."""

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from aivo_backup.stores.process import Finished
from sandbox.pods import container as containers
from sandbox.pods.container import Container, Progress
from sandbox.pods.identity import inject, role_of
from sandbox.pods.manifests import Pod, pod_of_cronjob, pod_of_deployment
from sandbox.pods.volumes import volume_mounts
from sandbox.processes import Process
from sandbox.state import Sandbox

_ENDPOINTS = "AIVO_BACKUP_ENDPOINTS"


def run_cronjob(
    sandbox: Sandbox,
    name: str,
    extra_env: Mapping[str, str] | None = None,
    *,
    progress: Progress | None = None,
) -> Finished:
    """Runs one pod of a provisioned CronJob to its end, as at its hour.

    Args:
        extra_env: variables on top of the manifest's; the product itself never needs any.
        progress: called with each line of output as it comes.

    Raises:
        ConfigurationError: there is no such CronJob, or its manifest asks for what the sandbox cannot do.
        BackupError: it ran past the job's deadline, or could not be started.
    """
    pod = pod_of_cronjob(sandbox.home / "kubernetes", name)
    parent = sandbox.home / "pods"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        container = _container(sandbox, pod, role_of(sandbox, pod), scratch, {}, extra_env or {})
        return containers.run(sandbox, container, timeout_seconds=pod.deadline_seconds, progress=progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def start_deployment(sandbox: Sandbox, name: str) -> Process:
    """Starts the pod of a provisioned Deployment; `sandbox down` ends it.

    Raises:
        ConfigurationError, BackupError: as :func:`run_cronjob`; it ended at once.
    """
    pod = pod_of_deployment(sandbox.home / "kubernetes", name)
    return start_pod(sandbox, pod, role=role_of(sandbox, pod))


def start_pod(
    sandbox: Sandbox,
    pod: Pod,
    *,
    role: str,
    process_name: str = "",
    volumes: Mapping[str, Path] | None = None,
) -> Process:
    """Starts a pod that runs on, in place of the one of that name that may run; `sandbox down` ends it.

    Args:
        role: ARN of the AWS role of its service account; empty for none.
        process_name: what `sandbox status` calls it; the pod's name when empty.
        volumes: volumes that the caller supplies by name, in place of the pod's own sources.

    Raises:
        ConfigurationError: the pod asks for what the sandbox cannot do.
        BackupError: it could not be started, or ended at once.
    """
    name = process_name or pod.name
    sandbox.processes.stop(name)
    scratch = sandbox.home / "pods" / name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    container = _container(sandbox, pod, role, scratch, volumes or {}, {})
    return containers.start(sandbox, container, name=name, log=sandbox.logs / f"{name}.log")


def _container(
    sandbox: Sandbox,
    pod: Pod,
    role: str,
    scratch: Path,
    volumes: Mapping[str, Path],
    extra_env: Mapping[str, str],
) -> Container:
    identity, token = inject(sandbox, pod, role, scratch, datetime.now(UTC))
    return Container(
        name=pod.name,
        argv=pod.argv,
        environment={**pod.environment, **identity, _ENDPOINTS: str(sandbox.endpoints_file), **extra_env},
        mounts=[
            *containers.image_mounts(sandbox, scratch / "image"),
            *containers.endpoint_mounts(sandbox),
            *volume_mounts(sandbox, pod, scratch, volumes),
            *token,
        ],
        user_id=pod.user_id,
        group_id=pod.group_id,
        read_only_root=pod.read_only_root,
        working_folder=pod.working_folder,
        program_folders=containers.image_programs(sandbox),
    )
