"""The database as a StatefulSet, through kubectl: guards, scale, and the Job on its volume."""

import json
import time
from collections.abc import Sequence
from typing import Any

from aivo_backup.cli.kubectl import found, kubectl, scale_down, scale_up
from aivo_backup.errors import (
    BackupError,
    ConfigurationError,
    ExitCode,
    RefusedError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.restore_job import CONTAINER, RESTORE_LABEL, restore_job
from aivo_backup.policy.workloads import outcome, wanted_scale
from aivo_backup.stores.port import Progress

_START_SECONDS = 300.0
_POLL_SECONDS = 1.0
_LOG_LINES = 50
_PREFIX = "aivo-backup: "
_KINDS: dict[int, type[BackupError]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.CONFIGURATION: ConfigurationError,
    ExitCode.UNREACHABLE: UnreachableError,
    ExitCode.VERIFICATION_FAILED: VerificationError,
    ExitCode.REFUSED: RefusedError,
}

Document = dict[str, Any]


class StatefulSetDatabase:
    """See :class:`~aivo_backup.stores.postgres.cluster_database.ClusterDatabase`."""

    def __init__(self, environment: Environment, *, adapter_named: bool) -> None:
        """
        Args:
            adapter_named: somebody said that it is a StatefulSet to be scaled; without that, one that an operator owns
                or that has replicas is refused.
        """
        pod = environment.postgres.pod
        self._environment = environment
        self._namespace, self._name = pod.namespace, pod.stateful_set
        self._adapter_named = adapter_named
        self._adopted: set[str] = set()

    def check(self) -> bool:
        """See the port."""
        workload = self._workload()
        if not self._adapter_named:
            self._refuse_foreign(workload)
        if working := self.working():
            others = [job for job in working if job not in self._adopted]
            if others:
                raise RefusedError(
                    f"Job {self._namespace}/{others[0]} restores on the volume of {self._name}",
                    mend="wait for it, or give --resume to the recovery that began it",
                )
        return wanted_scale(workload) > 0

    def stop(self, progress: Progress) -> None:
        """See the port."""
        progress(f"scaling statefulset {self._namespace}/{self._name} to nothing")
        scale_down(self._namespace, f"statefulset/{self._name}", self._workload(), progress)

    def start(self, progress: Progress) -> None:
        """See the port."""
        replicas = max(1, wanted_scale(self._workload()))
        progress(f"scaling statefulset {self._namespace}/{self._name} to {replicas}, and waiting until it is ready")
        scale_up(self._namespace, f"statefulset/{self._name}", replicas)

    def working(self) -> list[str]:
        """See the port."""
        jobs = found("jobs", self._namespace, selector=f"{RESTORE_LABEL}={self._name}")
        return [str(job["metadata"]["name"]) for job in jobs if not outcome(job)]

    def left(self, name: str) -> bool:
        """See the port."""
        jobs = found("jobs", self._namespace, name=name)
        fit = bool(jobs) and outcome(jobs[0]) != "Failed"
        if fit:
            self._adopted.add(name)
        return fit

    def restore(self, name: str, arguments: Sequence[str], progress: Progress) -> str:
        """See the port."""
        if not found("jobs", self._namespace, name=name):
            progress(f"Job {self._namespace}/{name} restores on the volume")
            document = restore_job(self._environment, name, arguments)
            kubectl("create", "--filename=-", stdin=json.dumps(document))
        ended, said = "", ""
        begun = time.monotonic()
        while not ended:
            time.sleep(_POLL_SECONDS)
            jobs = found("jobs", self._namespace, name=name)
            if not jobs:
                raise BackupError(f"Job {self._namespace}/{name} is gone", mend="somebody deleted it; restore again")
            ended = outcome(jobs[0])
            if not self._started(name):
                if not ended and time.monotonic() - begun > _START_SECONDS:
                    self._give_up(name)
                continue
            line = self._log(name, lines=1).strip()
            if line and line != said and not line.startswith(("{", _PREFIX)):
                progress(line)
            said = line
        lines = self._log(name, lines=_LOG_LINES).splitlines() if self._started(name) else []
        if ended == "Failed":
            raise self._failure(name, lines)
        return next((line for line in reversed(lines) if line.startswith("{")), "")

    def _workload(self) -> Document:
        workloads = found("statefulsets", self._namespace, name=self._name)
        if not workloads:
            raise ConfigurationError(
                f"there is no StatefulSet {self._namespace}/{self._name}", mend="correct postgres.pod in the settings"
            )
        return workloads[0]

    def _refuse_foreign(self, workload: Document) -> None:
        name = f"StatefulSet {self._namespace}/{self._name}"
        owners: list[Document] = workload["metadata"].get("ownerReferences") or []
        if owners:
            raise RefusedError(
                f"{name} belongs to {owners[0]['kind']} {owners[0]['name']}, which would scale it up again",
                mend="pause that, and name the adapter with --service statefulset",
            )
        if (replicas := wanted_scale(workload)) > 1:
            raise RefusedError(
                f"{name} is replicated ({replicas} replicas)",
                mend="stop and rebuild its standbys, and name the adapter with --service statefulset",
            )

    def _pods(self, name: str) -> list[Document]:
        return found("pods", self._namespace, selector=f"job-name={name}")

    def _started(self, name: str) -> bool:
        return any("waiting" not in state for pod in self._pods(name) for state in _states(pod))

    def _log(self, name: str, *, lines: int) -> str:
        where = (f"--namespace={self._namespace}", f"--container={CONTAINER}", f"--tail={lines}")
        try:
            return kubectl("logs", f"job/{name}", *where).stdout
        except UnreachableError:
            raise
        except BackupError:
            return ""  # its container is being made, or already removed

    def _give_up(self, name: str) -> None:
        events = found("events", self._namespace)
        about = [event for event in events if str(event.get("involvedObject", {}).get("name", "")).startswith(name)]
        why = str(about[-1].get("message", "")) if about else "no event says why"
        kubectl("delete", "job", name, f"--namespace={self._namespace}", "--cascade=foreground", "--wait=true")
        raise BackupError(
            f"the pod of Job {self._namespace}/{name} does not start: {why}", mend="mend that, then again"
        )

    def _failure(self, name: str, lines: Sequence[str]) -> BackupError:
        codes = [
            int(state["terminated"]["exitCode"])
            for pod in self._pods(name)
            for state in _states(pod)
            if "terminated" in state
        ]
        told = next((line.removeprefix(_PREFIX) for line in reversed(lines) if line.startswith(_PREFIX)), "")
        kind = _KINDS.get(codes[-1] if codes else 1, BackupError)
        return kind(told) if told else BackupError(f"Job {self._namespace}/{name} was ended", mend="see its events")


def _states(pod: Document) -> list[Document]:
    statuses: list[Document] = pod.get("status", {}).get("containerStatuses") or []
    return [status.get("state") or {} for status in statuses]
