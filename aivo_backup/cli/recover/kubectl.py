"""Adapters of a real environment: applications by label through kubectl, infrastructure through the Pulumi CLI."""

from collections.abc import Mapping
from dataclasses import dataclass

from aivo_backup.cli.kubectl import WORKLOADS, found, roll_out, scale_down, scale_up
from aivo_backup.errors import BackupError
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.names import PROJECT
from aivo_backup.policy.workloads import wanted_scale
from aivo_backup.stores.port import Progress
from aivo_backup.stores.process import run

_PROVISION_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class KubectlApplications:
    """Deployments and StatefulSets of some namespaces that carry a label, under the caller's kubeconfig.

    The former scale of one that is stopped is kept at itself too, so that a recovery on another machine knows it.
    """

    namespaces: tuple[str, ...]
    selector: str

    def scales(self) -> Mapping[str, int]:
        """See :class:`~aivo_backup.recovery.applications.Applications`."""
        return {
            f"{namespace}/{item['kind'].lower()}/{item['metadata']['name']}": wanted_scale(item)
            for namespace in dict.fromkeys(self.namespaces)
            for item in found(WORKLOADS, namespace, selector=self.selector)
        }

    def scale(self, workload: str, replicas: int, progress: Progress) -> None:
        """See :class:`~aivo_backup.recovery.applications.Applications`."""
        namespace, _, name = workload.partition("/")
        if replicas:
            scale_up(namespace, name, replicas)
            return
        kind, _, bare = name.partition("/")
        for item in found(kind, namespace, name=bare):
            scale_down(namespace, name, item, progress)


@dataclass(frozen=True, kw_only=True)
class PulumiCli:
    """The Pulumi CLI in the checkout that is the working folder; what reads the stores' endpoints, through kubectl."""

    environment: Environment

    def provision(self, progress: Progress) -> Endpoints:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`. Services keep their names, so no endpoint changes."""
        progress(f"pulumi up --refresh, stack {self.environment.name}")
        argv = ["pulumi", "up", "--refresh", "--yes", "--non-interactive", f"--stack={self.environment.name}"]
        done = run(argv, timeout_seconds=_PROVISION_SECONDS)
        if done.exit_code != 0:
            raise BackupError(f"pulumi up failed: {done.tail()}", mend="mend what it names, then give --resume")
        return Endpoints()

    def redirect(self, endpoints: Endpoints, progress: Progress) -> None:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`."""
        for namespace, selector in readers(self.environment):
            roll_out(namespace, selector, progress)

    def provision_commands(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`."""
        namespace = self.environment.recovery.store_namespace
        return (
            f"pulumi up --refresh --stack {self.environment.name}",
            f"kubectl get pods,persistentvolumeclaims -n {namespace}   # every store on an empty volume",
        )

    def redirect_commands(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.recovery.parts.Provisioner`."""
        namespace = self.environment.recovery.store_namespace
        return (
            f"kubectl get services,endpointslices -n {namespace}   # each Service leads to the new pods",
            *(
                f"kubectl rollout restart {WORKLOADS} -n {namespace} -l {selector}"
                for namespace, selector in readers(self.environment)
            ),
        )


def readers(environment: Environment) -> tuple[tuple[str, str], ...]:
    """What reads the stores' endpoints when it starts: namespace and selector of the applications, and of the agent."""
    recovery = environment.recovery
    return (
        (recovery.store_namespace, recovery.application_selector),
        (environment.namespace, f"app.kubernetes.io/part-of={PROJECT}"),
    )
