"""A database and an application that restores in the cluster stop and start again; their fixtures are in conftest."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from aivo_backup.policy.workloads import FORMER
from tests.e2e.world import STORES, World

SHOP, REPLICAS = "shop", 2
DATABASE = "postgresql"
VOLUME = "/var/lib/postgresql/data"
SECURITY = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@contextmanager
def an_application(world: World) -> Generator[None]:
    """An application that uses the stores, by its label, with a scale of its own."""
    labels = {"app": SHOP}
    container = {
        "name": SHOP,
        "image": "aivo-backup:local",
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "trap exit TERM; sleep infinity & wait"],
        "securityContext": SECURITY,
    }
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SHOP, "namespace": STORES, "labels": {"aivo-backup/uses-stores": "true"}},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    world.kubectl.apply([document], field_manager="shop-owner")
    world.kubectl("rollout", "status", "deployment", SHOP, f"--namespace={STORES}", "--timeout=120s")
    try:
        yield
    finally:
        world.kubectl("delete", "deployment", SHOP, f"--namespace={STORES}", "--wait=false")


def workload(world: World, kind: str, name: str) -> dict[str, Any]:
    return world.kubectl.get(kind, name, namespace=STORES)


def scales(world: World) -> tuple[int, int]:
    """How many pods of database and shop are wanted."""
    found = (workload(world, "statefulset", DATABASE), workload(world, "deployment", SHOP))
    return found[0]["spec"]["replicas"], found[1]["spec"]["replicas"]


def as_before(world: World) -> None:
    """Everything is at its former scale and ready, and nothing remembers that it was not."""
    for kind, name, replicas in (("statefulset", DATABASE, 1), ("deployment", SHOP, REPLICAS)):
        found = workload(world, kind, name)
        assert (found["spec"]["replicas"], found["status"].get("readyReplicas")) == (replicas, replicas), name
        assert FORMER not in (found["metadata"].get("annotations") or {}), name


def insert(world: World, name: str) -> None:
    """A row that has reached the repository."""
    world.psql(f"INSERT INTO kept VALUES ('{name}') ON CONFLICT DO NOTHING")  # noqa: S608 - names of this file
    segment = world.psql("SELECT pg_walfile_name(pg_switch_wal())").strip()
    world.wait(
        f"segment {segment} archived",
        lambda: world.psql("SELECT last_archived_wal FROM pg_stat_archiver").strip() >= segment,
        seconds=60.0,
    )


def names(world: World) -> set[str]:
    return set(world.psql("SELECT name FROM kept").split())
