"""`aivo-backup recover storage-failure --to cluster`: every store of the cluster stands on new, empty storage."""

import json
import os
import signal

import pytest

from aivo_backup.errors import ExitCode
from aivo_backup.policy.environment import Component
from aivo_backup.policy.restore_job import RESTORE_LABEL
from aivo_backup.policy.workloads import FORMER
from aivo_backup.stores.opensearch.recovery import existing
from tests.e2e.shop import DATABASE, REPLICAS, SHOP, VOLUME, as_before, insert, names, scales, workload
from tests.e2e.world import STORES, World

pytestmark = pytest.mark.usefixtures("database", "shop")


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
