"""Makes the sandbox ready for work: servers, provisioning, sidecar, `init`, heartbeats. Each step may be repeated."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aivo_backup import composition
from aivo_backup.cli.init import prepare, prepare_envelope
from aivo_backup.composition import App
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AGENT
from aivo_backup.stores.port import Progress
from sandbox import environment, pods, servers
from sandbox.pods import SIDECAR_PROCESS
from sandbox.provision import Provisioner, Summary, is_provisioned
from sandbox.provision.engine import merged
from sandbox.state import Sandbox

HEARTBEAT_SECONDS = 60.0
_SIDECAR_SECONDS = 30.0


def repository_folder(sandbox: Sandbox) -> Path:
    """Where OpenSearch's ``fs`` repository lies (its ``path.repo``)."""
    return sandbox.home / "opensearch" / "snapshots"


def open_app() -> App:
    """The environment `local` as the sandbox's administrator.

    Raises:
        ConfigurationError: the sandbox is not provisioned.
    """
    return composition.open_environment(environment.variables())


def provision(sandbox: Sandbox, *, overrides: Mapping[str, object] | None = None) -> Summary:
    """Realises the Pulumi program's stack `local`; repeating it changes nothing.

    Args:
        overrides: stack configuration by full key; kept, so that a later provisioning is of the same program.

    Raises:
        ConfigurationError, BackupError, UnreachableError: see :meth:`Provisioner.provision`.
    """
    if overrides is not None:
        sandbox.remember(stack_overrides=overrides)
    kept: Mapping[str, object] = sandbox.remembered().get("stack_overrides", {})
    place = {"aivo-backup:opensearch": {"fs_location": str(repository_folder(sandbox))}}
    return Provisioner(sandbox, overrides=merged(kept, place)).provision(composition.utc_now())


def ready(sandbox: Sandbox, *, progress: Progress, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
    """Brings everything that does not run or is not there into its place, after the servers are up.

    Raises:
        BackupError: a part does not come up; the message names it.
    """
    if not is_provisioned(sandbox):
        forget_backups(sandbox)
        progress(f"provisioned: {provision(sandbox)}")
    initialise(sandbox, progress=progress)
    start_agent(sandbox, heartbeat_seconds=heartbeat_seconds)


def forget_backups(sandbox: Sandbox) -> None:
    """Removes what belongs to an AWS API that is gone: processes with its credentials, and the snapshots beside it."""
    for name in (AGENT, SIDECAR_PROCESS):
        sandbox.processes.stop(name)
    folder = repository_folder(sandbox)
    for entry in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def initialise(sandbox: Sandbox, *, progress: Progress) -> None:
    """`aivo-backup init`, with the sidecar started as soon as its envelope is there.

    Raises:
        UnreachableError, ConfigurationError: a store does not answer.
    """
    app = open_app()
    prepare_envelope(app, progress=progress)
    if sandbox.processes.find(SIDECAR_PROCESS) is None:
        pods.start_sidecar(sandbox)
    for component in Component:
        prepare(app, component, sidecar_timeout=_SIDECAR_SECONDS, progress=progress)


def start_agent(sandbox: Sandbox, *, heartbeat_seconds: float) -> None:
    """Starts the provisioned agent, whose heartbeats every loss is measured by."""
    sandbox.remember(heartbeat_seconds=heartbeat_seconds)
    if sandbox.processes.find(AGENT) is None:
        pod = pods.pod_of_deployment(sandbox.home / "kubernetes", AGENT)
        argv = (*pod.argv, f"--interval={heartbeat_seconds:g}")
        pods.start_pod(sandbox, replace(pod, argv=argv), role=pods.role_of(sandbox, pod))


def bring_up(sandbox: Sandbox, *, progress: Progress) -> None:
    """Everything: what `aivo-backup sandbox up` does.

    Raises:
        BackupError: a part does not come up; the others stay up for a look.
    """
    risen = servers.up(
        sandbox,
        report=lambda row: progress(f"{row.name:<17} {row.address:<28} {row.state}"),
    )
    if risen.aws_state_lost:
        progress(
            "the AWS API started empty: its keys, buckets and backups died with its process; "
            "it is provisioned again, and backups start anew"
        )
    ready(sandbox, progress=progress)
