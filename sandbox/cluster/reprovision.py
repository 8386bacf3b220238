"""Replaces lost storage while the sandbox's cluster is up: the program's objects again, and MinIO and OpenSearch empty.

The database's volume is the cluster's own: the Job of the restore fills it. The other stores are reached through
Services that stay, so that nobody has to be pointed elsewhere.
"""

from aivo_backup.cli.kubectl import roll_out
from aivo_backup.cli.recover.kubectl import readers
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.stores.port import Progress
from sandbox import lifecycle
from sandbox.cluster.deployment import read_manifests
from sandbox.cluster.kubectl import Kubectl
from sandbox.reprovision import clear, come_up_empty, is_lost
from sandbox.servers.minio import Minio
from sandbox.servers.opensearch import OpenSearch


class ClusterProvisioner:
    """Fulfils :class:`aivo_backup.recovery.parts.Provisioner`."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def provision(self, progress: Progress) -> Endpoints:
        """See the port."""
        place = self._kubectl.place
        sandbox = place.sandbox
        progress(f"provisioned: {lifecycle.provision(sandbox)}")
        manifests = read_manifests(place)
        self._kubectl.apply(manifests)
        progress(f"{len(manifests)} objects are in the cluster")
        for server in (Minio(sandbox), OpenSearch(sandbox)):
            if is_lost(server):
                clear(server, progress)
                come_up_empty(server, progress)
        return Endpoints()

    def redirect(self, endpoints: Endpoints, progress: Progress) -> None:
        """See the port."""
        for namespace, selector in readers(lifecycle.open_app().environment):
            roll_out(namespace, selector, progress)

    def provision_commands(self) -> tuple[str, ...]:
        """See the port."""
        return ("aivo-backup sandbox cluster up",)

    def redirect_commands(self) -> tuple[str, ...]:
        """See the port."""
        return tuple(
            f"kubectl rollout restart deployments,statefulsets -n {namespace} -l {selector}"
            for namespace, selector in readers(lifecycle.open_app().environment)
        )
