"""Adapters of a real environment: applications by label through kubectl, infrastructure through the Pulumi CLI."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aivo_backup.errors import BackupError, UnreachableError
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.stores.port import Progress
from aivo_backup.stores.process import Finished, run

_KINDS = "deployments,statefulsets"
_SCALE_SECONDS = 600
_PROVISION_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class KubectlApplications:
    """Deployments and StatefulSets of some namespaces that carry a label, under the caller's kubeconfig."""

    namespaces: tuple[str, ...]
    selector: str

    def scales(self) -> Mapping[str, int]:
        """See :class:`~aivo_backup.recovery.applications.Applications`."""
        found: dict[str, int] = {}
        for namespace in dict.fromkeys(self.namespaces):
            done = _kubectl("get", _KINDS, f"--namespace={namespace}", f"--selector={self.selector}", "--output=json")
            items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
            for item in items:
                name = f"{namespace}/{item['kind'].lower()}/{item['metadata']['name']}"
                found[name] = int(item["spec"].get("replicas", 1))
        return found

    def scale(self, workload: str, replicas: int) -> None:
        """See :class:`~aivo_backup.recovery.applications.Applications`."""
        namespace, _, name = workload.partition("/")
        _kubectl("scale", name, f"--namespace={namespace}", f"--replicas={replicas}")
        # Of a workload that is scaled to nothing, this waits until its pods are gone.
        _kubectl("rollout", "status", name, f"--namespace={namespace}", f"--timeout={_SCALE_SECONDS}s")


@dataclass(frozen=True, kw_only=True)
class PulumiCli:
    """The Pulumi CLI in the checkout that is the working folder."""

    stack: str
    namespace: str

    def provision(self, progress: Progress) -> Endpoints:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`. Services keep their names, so no endpoint changes."""
        progress(f"pulumi up --refresh, stack {self.stack}")
        argv = ["pulumi", "up", "--refresh", "--yes", "--non-interactive", f"--stack={self.stack}"]
        done = run(argv, timeout_seconds=_PROVISION_SECONDS)
        if done.exit_code != 0:
            raise BackupError(f"pulumi up failed: {done.tail()}", mend="mend what it names, then give --resume")
        return Endpoints()

    def redirect(self, endpoints: Endpoints, progress: Progress) -> None:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`."""
        progress(f"rolling out what reads the stores' endpoints in {self.namespace}")
        _kubectl("rollout", "restart", "deployments", f"--namespace={self.namespace}")

    def provision_commands(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`."""
        return (
            f"pulumi up --refresh --stack {self.stack}",
            f"kubectl get pods,persistentvolumeclaims -n {self.namespace}   # every store ready on an empty volume",
        )

    def redirect_commands(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`."""
        return (
            f"kubectl get services,endpointslices -n {self.namespace}   # each Service leads to the new pods",
            f"kubectl rollout restart deployments -n {self.namespace}",
        )


def _kubectl(*arguments: str) -> Finished:
    done = run(["kubectl", *arguments], timeout_seconds=_SCALE_SECONDS + 30)
    if done.exit_code == 0:
        return done
    said = done.tail()
    if "connection" in said or "Unable to connect" in said:
        raise UnreachableError(f"the cluster does not answer: {said}", mend="check the kubeconfig")
    raise BackupError(f"kubectl {' '.join(arguments[:2])} failed: {said}", mend="look at the workload with kubectl")
