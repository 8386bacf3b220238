"""The sandbox's applications as workloads with a scale: what Deployments are in the cluster.

The wanted scale is kept in ``state.json``, as a cluster keeps ``spec.replicas``, so it outlives whoever set it.
"""

import sys
from collections.abc import Mapping

from aivo_backup.policy.names import AGENT
from aivo_backup.recovery.applications import Applications
from aivo_backup.stores.port import Progress
from sandbox.cluster.place import Place
from sandbox.state import Sandbox

SHOP = "deployment/shop"
_AGENT = f"deployment/{AGENT}"
_NOTE = "applications"


class SandboxApplications:
    """The shop (:mod:`sandbox.application`) and the agent, which writes into the stores too."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def scales(self) -> Mapping[str, int]:
        """The wanted replicas of each workload; the agent's is whether it runs until somebody scales it."""
        noted: dict[str, int] = dict(self._sandbox.remembered().get(_NOTE, {}))
        noted.setdefault(_AGENT, int(self._sandbox.processes.find(AGENT) is not None))
        return noted

    def scale(self, workload: str, replicas: int, progress: Progress) -> None:
        """Starts or ends its processes until there are so many.

        Raises:
            BackupError: one does not start or end.
        """
        self._sandbox.remember(**{_NOTE: {**self.scales(), workload: replicas}})
        if workload == _AGENT:
            self._scale_agent(replicas)
            return
        name = workload.rpartition("/")[2]
        number = 0
        while number < replicas or self._sandbox.processes.find(f"{name}-{number}") is not None:
            process = f"{name}-{number}"
            if number >= replicas:
                self._sandbox.processes.stop(process)
            elif self._sandbox.processes.find(process) is None:
                self._sandbox.processes.start(
                    process,
                    [sys.executable, "-m", "sandbox.application"],
                    log=self._sandbox.logs / f"{process}.log",
                    cwd=self._sandbox.checkout,
                )
            number += 1

    def _scale_agent(self, replicas: int) -> None:
        # Only this way needs the Pulumi program's manifests, and their reader.
        from sandbox import lifecycle

        if replicas:
            lifecycle.start_agent(self._sandbox, heartbeat_seconds=_heartbeat_seconds(self._sandbox))
        else:
            self._sandbox.processes.stop(AGENT)


def _heartbeat_seconds(sandbox: Sandbox) -> float:
    from sandbox import lifecycle

    return float(sandbox.remembered().get("heartbeat_seconds", lifecycle.HEARTBEAT_SECONDS))


def applications() -> Applications:
    """The applications of this checkout's sandbox; while its cluster is up, those in the cluster, by label.

    Raises:
        ConfigurationError: there is no sandbox.
    """
    sandbox = Sandbox.load()
    if Place(sandbox).processes.find("kube-apiserver") is None:
        return SandboxApplications(sandbox)
    from aivo_backup.cli.recover.kubectl import KubectlApplications
    from sandbox import lifecycle

    environment = lifecycle.open_app().environment
    return KubectlApplications(
        namespaces=(environment.recovery.store_namespace, environment.namespace),
        selector=environment.recovery.application_selector,
    )
