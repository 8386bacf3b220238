"""`aivo-backup restore postgres --to cluster` on a real StatefulSet: damage, failure, and what is refused."""

import json
from collections.abc import Generator
from typing import Any

import pytest

from aivo_backup.errors import ExitCode
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import BACKUP_PREFIX, INVENTORY_PREFIX
from tests.e2e.shop import DATABASE, REPLICAS, SHOP, VOLUME, as_before, insert, names, workload
from tests.e2e.world import STORES, World

pytestmark = pytest.mark.usefixtures("database", "shop")


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
