"""Ways between this machine's loopback and the cluster's network: pairs of relays that meet at a Unix socket.

Nothing listens on any other address of this machine, and the stores need not know that there is a cluster.
"""

from dataclasses import dataclass

from sandbox.cluster.machine import inside
from sandbox.cluster.parts import Part
from sandbox.cluster.place import API_PORT, GATEWAY, Place
from sandbox.cluster.tools import ClusterTools

POSTGRES_SERVICE = "10.96.0.20"
POSTGRES_PORT = 5432


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way in or out.

    Attributes:
        outer: the port on this machine's loopback.
        address: the loopback address.
        inner: ``address:port`` in the cluster's network.
        inward: whether it is opened on this machine and leads into the cluster.
    """

    name: str
    outer: int
    inner: str
    inward: bool
    address: str = "127.0.0.1"


def ways(place: Place, api_port: int) -> tuple[Way, ...]:
    """Every way that the cluster needs: the stores' out of it, the API's and the database's into it."""
    ports = place.sandbox.ports
    return (
        Way(name="minio", outer=ports.minio, inner=f"{GATEWAY}:9000", inward=False),
        Way(name="opensearch", outer=ports.opensearch, inner=f"{GATEWAY}:9200", inward=False),
        Way(name="aws", outer=ports.aws, inner=f"{GATEWAY}:443", inward=False),
        Way(name="api", outer=api_port, inner=f"127.0.0.1:{API_PORT}", inward=True),
        Way(
            name="postgres",
            outer=POSTGRES_PORT,
            inner=f"{POSTGRES_SERVICE}:{POSTGRES_PORT}",
            inward=True,
            address=place.sandbox.cluster_address,
        ),
        # Where the sandbox's own sidecar answers while there is no cluster.
        Way(name="pgbackrest", outer=ports.pgbackrest, inner=f"{POSTGRES_SERVICE}:8432", inward=True),
    )


def relays(place: Place, tools: ClusterTools, way: Way) -> tuple[Part, Part]:
    """The two processes of a way: the one that waits at the socket first."""
    socket = place.short / f"{way.name}.sock"
    waits = f"UNIX-LISTEN:{socket},fork,mode=600,unlink-early,backlog=128"
    calls = f"UNIX-CONNECT:{socket}"
    address, _, port = way.inner.partition(":")
    outside = (
        f"TCP:{way.address}:{way.outer}",
        f"TCP-LISTEN:{way.outer},bind={way.address},fork,reuseaddr,backlog=128",
    )
    within = (f"TCP:{way.inner}", f"TCP-LISTEN:{port},bind={address},fork,reuseaddr,backlog=128")
    at_socket, at_port = f"way-{way.name}-socket", f"way-{way.name}-port"
    if way.inward:
        return (
            Part(name=at_socket, argv=inside(place, tools, [str(tools.socat), waits, within[0]])),
            Part(name=at_port, argv=[str(tools.socat), outside[1], calls]),
        )
    return (
        Part(name=at_socket, argv=[str(tools.socat), waits, outside[0]]),
        Part(name=at_port, argv=inside(place, tools, [str(tools.socat), within[1], calls])),
    )
