"""The cluster heals from a crash, and leaves the machine as it was. Last of the folder: it takes the cluster down."""

import os
import signal
from pathlib import Path

from aivo_backup.stores.postgres.archive import connect
from sandbox import servers
from sandbox.cluster import lifecycle, machine
from sandbox.cluster.kubectl import Kubectl
from sandbox.cluster.place import BRIDGE
from tests.e2e.world import World

_KILLED = ("kubelet", "containerd", "kube-apiserver", "way-postgres-port")


def test_a_killed_cluster_comes_up_again_with_its_data(kubectl: Kubectl, world: World) -> None:
    place = kubectl.place
    world.psql("CREATE TABLE IF NOT EXISTS survivors (name text); INSERT INTO survivors VALUES ('before the crash')")
    for name in _KILLED:
        process = place.processes.find(name)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    lifecycle.up(place.sandbox, progress=print)
    assert world.psql("SELECT name FROM survivors").strip() == "before the crash"


def test_down_leaves_nothing_and_gives_the_database_back(kubectl: Kubectl, world: World) -> None:
    place, sandbox = kubectl.place, kubectl.place.sandbox
    # What `remains` looks for is there, so its empty answer below says something.
    found = " ".join(machine.remains(place))
    assert all(kind in found for kind in ("process", "mount", "control group", str(place.network_namespace)))
    lifecycle.down(sandbox)
    assert machine.remains(place) == []
    assert place.processes.running() == []
    assert not place.short.exists()
    assert not Path("/sys/class/net", BRIDGE).exists()
    assert lifecycle.down(sandbox) == []
    servers.up(sandbox)
    with connect(world.app.postgres_login) as connection:
        assert connection.execute("SELECT name FROM survivors").fetchall() == [("before the crash",)]
