"""Replaces lost storage of the sandbox: what the platform team's manifests and volumes are in a cluster.

The program is realised again with a look at what is really there. A store whose server or data is gone comes up empty
on another port; what is left of its data is set aside.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.recovery.parts import Provisioner
from aivo_backup.stores.port import Progress
from sandbox.cluster.place import Place
from sandbox.servers.base import Server
from sandbox.servers.minio import Minio
from sandbox.servers.opensearch import OpenSearch, OpenSearchProxy
from sandbox.servers.postgres import Postgres
from sandbox.state import SIDECAR, Sandbox


class SandboxProvisioner:
    """Fulfils :class:`aivo_backup.recovery.parts.Provisioner` on this machine."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def provision(self, progress: Progress) -> Endpoints:
        """See the port."""
        # The Pulumi SDK takes seconds to import, and only this needs it: a plan must not wait for it.
        from aivo_backup.cli.init import prepare_envelope
        from sandbox import lifecycle, pods, servers

        sandbox = self._sandbox
        progress(f"provisioned: {lifecycle.provision(sandbox)}")
        if not self._half_done():
            gone = [server for server in self._stores() if is_lost(server)]
            sandbox.remember(replaced_storage=[server.name for server in gone])
            for server in gone:
                clear(server, progress)
            renewed = frozenset(port for server in gone for port in _public_ports(server))
            kept = frozenset(vars(sandbox.ports)) - renewed
            sandbox.choose_ports(keep=kept, renew=renewed)
        replaced = self._half_done()
        for server in self._stores():
            if server.name not in replaced:
                continue
            if isinstance(server, Postgres):
                # No data of its own: the restore brings them, and starts it.
                progress(f"{server.name}: empty storage at {server.address}")
                server.configure()
                sandbox.processes.stop(SIDECAR)
            else:
                come_up_empty(server, progress)
        if sandbox.processes.find(SIDECAR) is None:
            # A repository's bucket that was made anew has no envelope, and without one the sidecar does not start.
            prepare_envelope(lifecycle.open_app(), progress=progress)
            pods.start_sidecar(sandbox)
        return servers.endpoints(sandbox)

    def redirect(self, endpoints: Endpoints, progress: Progress) -> None:
        """See the port. The agent and the applications are stopped and read the file when they start."""
        from sandbox import pods, servers

        progress(f"{self._sandbox.endpoints_file.name} leads to the new storage")
        servers.write_endpoints(self._sandbox, endpoints)
        self._sandbox.processes.stop(SIDECAR)
        pods.start_sidecar(self._sandbox)
        self._sandbox.remember(replaced_storage=())

    def provision_commands(self) -> tuple[str, ...]:
        """See the port."""
        return ("aivo-backup sandbox up",)

    def redirect_commands(self) -> tuple[str, ...]:
        """See the port."""
        return ("aivo-backup sandbox up",)

    def _half_done(self) -> list[str]:
        """Stores that an earlier attempt replaced, and nobody was pointed to yet."""
        return list(self._sandbox.remembered().get("replaced_storage", []))

    def _stores(self) -> tuple[Server, ...]:
        return (Postgres(self._sandbox), Minio(self._sandbox), OpenSearch(self._sandbox))


def is_lost(server: Server) -> bool:
    """Whether a store does not answer, or has no data any more."""
    return bool(server.ailment()) or not _data(server).is_dir()


def clear(server: Server, progress: Progress) -> None:
    """Stops what is left of a lost store, and sets its data aside."""
    server.stop()
    data = _data(server)
    if not data.exists():
        return
    if not any(data.iterdir()):
        shutil.rmtree(data)
        return
    aside = data.with_name(f"{data.name}.lost-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    data.rename(aside)
    progress(f"what is left of {data} is now {aside}")


def come_up_empty(server: Server, progress: Progress) -> None:
    """Starts a store on empty storage, and what leads to it."""
    progress(f"{server.name}: empty storage at {server.address}")
    server.up()
    if isinstance(server, OpenSearch):
        proxy = OpenSearchProxy(server.sandbox)
        proxy.stop()
        proxy.up()


def _data(server: Server) -> Path:
    folder = {"postgres": "volume/pgdata", "minio": "data", "opensearch": "data"}[server.name]
    return server.sandbox.home / server.name / folder


def _public_ports(server: Server) -> tuple[str, ...]:
    # OpenSearch is reached through its proxy.
    return ("opensearch",) if isinstance(server, OpenSearch) else server.ports


def provisioner() -> Provisioner:
    """The provisioner of this checkout's sandbox, or of its cluster while that is up.

    Raises:
        ConfigurationError: there is no sandbox.
    """
    sandbox = Sandbox.load()
    place = Place(sandbox)
    if place.processes.find("kube-apiserver") is None:
        return SandboxProvisioner(sandbox)
    from sandbox.cluster.kubectl import Kubectl
    from sandbox.cluster.reprovision import ClusterProvisioner
    from sandbox.cluster.tools import ClusterTools

    return ClusterProvisioner(Kubectl(place=place, tools=ClusterTools.load(sandbox.checkout)))
