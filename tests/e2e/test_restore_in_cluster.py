"""`aivo-backup restore postgres --to cluster` on a real StatefulSet: damage, failure, a kill, and what is refused."""

import json
import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from aivo_backup.errors import ExitCode
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import BACKUP_PREFIX, INVENTORY_PREFIX
from aivo_backup.policy.restore_job import RESTORE_LABEL
from aivo_backup.policy.workloads import FORMER
from aivo_backup.stores.opensearch.recovery import existing
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


@pytest.fixture(scope="module", autouse=True)
def database(world: World, refused_restore_test: str) -> None:
    """A database with a full backup, and a table that is worth it; and the agent has something to do meanwhile."""
    assert refused_restore_test
    world.full_backup()
    world.psql("CREATE TABLE IF NOT EXISTS kept (name text PRIMARY KEY)")


@pytest.fixture(scope="module", autouse=True)
def shop(world: World) -> Generator[None]:
    """An application that uses the stores, by its label, with a scale of its own."""
    labels = {"app": SHOP}
    container = {
        "name": SHOP,
        "image": "aivo-backup:local",
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
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
    yield
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


def damage(world: World) -> None:
    """Garbage over a table's pages and over the map that finds the system tables; then the server dies."""
    file = world.psql("SELECT pg_relation_filepath('kept')").strip()
    world.psql("CHECKPOINT")
    where = [f"--namespace={STORES}", f"--container={DATABASE}", f"{DATABASE}-0"]
    garbage = " && ".join(
        f"head -c 8192 /dev/urandom > {VOLUME}/pgdata/{name}" for name in (file, "global/pg_filenode.map")
    )
    world.kubectl("exec", *where, "--", "sh", "-c", garbage)
    world.kubectl("delete", "pod", f"{DATABASE}-0", f"--namespace={STORES}", "--grace-period=0", "--force")


def test_a_restore_that_fails_leaves_everything_running_as_it_was(world: World) -> None:
    insert(world, "before-the-failure")
    done = world.cli("restore", "postgres", "--to", "cluster", "--target-name", "nobody-made-it", "--yes")
    assert done.returncode == ExitCode.VERIFICATION_FAILED, done.stderr
    assert "aivo-backup: recovery failed: " in done.stderr
    assert "the database runs again at its former scale" in done.stderr
    as_before(world)
    assert "before-the-failure" in names(world)
    assert world.cli("recover", "database-corruption", "--abandon").returncode == ExitCode.DONE
    as_before(world)


@pytest.fixture
def second_region(world: World) -> Generator[None]:
    """The second region's copy of all that is at home, whose own backup sets cannot be had meanwhile."""
    insert(world, "copied")
    world.replicate()
    insert(world, "archived-at-home-alone")
    s3, bucket = world.app.s3, world.app.environment.bucket(Component.POSTGRES)
    pages = s3.get_paginator("list_objects_v2")
    keys = [
        entry.get("Key", "")
        for prefix in (BACKUP_PREFIX, INVENTORY_PREFIX)
        for page in pages.paginate(Bucket=bucket, Prefix=prefix)
        for entry in page.get("Contents", [])
    ]
    assert keys
    markers = {key: s3.delete_object(Bucket=bucket, Key=key).get("VersionId", "") for key in keys}
    yield
    for key, marker in markers.items():
        s3.delete_object(Bucket=bucket, Key=key, VersionId=marker)


@pytest.mark.usefixtures("second_region")
def test_a_damaged_database_is_restored_on_its_volume_from_the_second_region(world: World) -> None:
    damage(world)
    done = world.cli("restore", "postgres", "--to", "cluster", "--from-replica", "--yes", "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert f"stopping {STORES}/deployment/{SHOP} ({REPLICAS} replicas)" in done.stderr
    checks = {check["name"]: check["passed"] for check in json.loads(done.stdout)["recovery"]["checks"]}
    assert checks["archiving"]
    assert all(checks.values())
    assert "copied" in names(world)
    assert "archived-at-home-alone" not in names(world)
    as_before(world)
    # The damaged directory is still there, for whoever wants to know why.
    where = [f"--namespace={STORES}", f"--container={DATABASE}", f"{DATABASE}-0"]
    folders = world.kubectl("exec", *where, "--", "ls", VOLUME).split()
    assert [name for name in folders if name.startswith("pgdata.before-")]
    assert not [name for name in folders if "restoring" in name]


def lose_storage(world: World) -> None:
    """The stores on new storage: MinIO and OpenSearch empty, and a database as an image makes it on an empty volume."""
    s3, indices = world.app.minio_source, world.app.opensearch_cluster
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket.get("Name", "")
        for item in s3.list_objects_v2(Bucket=name).get("Contents", []):
            s3.delete_object(Bucket=name, Key=item.get("Key", ""))
        s3.delete_bucket(Bucket=name)
    for name in existing(indices, "*"):
        indices.delete(name, what=name)
    data, programs = f"{VOLUME}/pgdata", world.app.environment.postgres.bin_path
    anew = f"rm -r {data} && {programs}/initdb -A trust -U postgres {data} >&2"
    where = [f"--namespace={STORES}", f"--container={DATABASE}", f"{DATABASE}-0"]
    world.kubectl("exec", *where, "--", "sh", "-c", anew)
    world.kubectl("delete", "pod", f"{DATABASE}-0", f"--namespace={STORES}", "--grace-period=0", "--force")


def killed_at_work(world: World, *arguments: str) -> None:
    """The command, killed while its Job restores on the volume."""
    selector = f"{RESTORE_LABEL}={DATABASE}"

    def works() -> bool:
        jobs = world.kubectl.get("jobs", namespace=STORES, selector=selector)
        return any(job["status"].get("active") for job in jobs)

    process = world.cli_process(*arguments)
    try:
        world.wait("the Job of the restore", works, seconds=120.0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_lost_storage_is_filled_from_the_backups_although_the_command_is_killed(world: World) -> None:
    jobs = {Component.MINIO: "minio-backup", Component.OPENSEARCH: "opensearch-snapshot"}
    held = {point.component for point in world.points()}
    started = [world.start(job) for component, job in jobs.items() if component not in held]
    assert [world.ended(job) for job in started] == ["Complete"] * len(started)
    insert(world, "before-the-loss")
    lose_storage(world)
    killed_at_work(world, "recover", "storage-failure", "--to", "cluster", "--execute", "--yes")
    assert scales(world) == (0, 0)
    for kind, name, replicas in (("statefulset", DATABASE, 1), ("deployment", SHOP, REPLICAS)):
        assert workload(world, kind, name)["metadata"]["annotations"][FORMER] == str(replicas)
    # Whoever comes upon it is told that a restore is under way, and how to go on with it.
    told = world.cli("doctor", "cluster")
    assert told.returncode == ExitCode.FAILED
    assert f"cluster: database: StatefulSet {STORES}/{DATABASE} stands at nothing" in told.stderr
    assert f"cluster: application {SHOP}: deployment {STORES}/{SHOP} stands at 0" in told.stderr
    assert "aivo-backup recover database-corruption (or storage-failure) --resume" in told.stderr
    second = world.cli("restore", "postgres", "--to", "cluster", "--yes")
    assert second.returncode == ExitCode.REFUSED, second.stderr
    assert scales(world) == (0, 0)
    done = world.cli("recover", "storage-failure", "--resume", "--yes", "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    checks = [(check["name"], check["passed"]) for check in json.loads(done.stdout)["recovery"]["checks"]]
    assert checks
    assert all(passed for _, passed in checks), checks
    assert "before-the-loss" in names(world)
    as_before(world)


def test_a_foreign_or_replicated_database_is_refused_unless_its_adapter_is_named(world: World) -> None:
    plan = ("restore", "postgres", "--to", "cluster", "--plan")
    owner = workload(world, "configmap", DATABASE)["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": DATABASE, "uid": owner["uid"]}

    def patch(**content: Any) -> None:
        where = ["statefulset", DATABASE, f"--namespace={STORES}", "--type=merge"]
        world.kubectl("patch", *where, f"--patch={json.dumps(content)}")

    patch(metadata={"ownerReferences": [reference]})
    try:
        owned = world.cli(*plan)
        assert owned.returncode == ExitCode.REFUSED
        assert f"belongs to ConfigMap {DATABASE}" in owned.stderr
        named = world.cli(*plan, "--service", "statefulset")
        assert named.returncode == ExitCode.DONE, named.stderr
        assert "the present data directory is set aside as" in named.stderr
    finally:
        patch(metadata={"ownerReferences": None})
    patch(spec={"replicas": 2})
    try:
        replicated = world.cli(*plan)
        assert replicated.returncode == ExitCode.REFUSED
        assert "is replicated (2 replicas)" in replicated.stderr
    finally:
        patch(spec={"replicas": 1})
        world.kubectl("delete", "persistentvolumeclaim", f"data-{DATABASE}-1", f"--namespace={STORES}", "--wait=false")
    as_before(world)
