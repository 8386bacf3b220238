"""The last chapter: one byte flipped at rest in each backup, and a verification that must name it."""

from pathlib import Path

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.policy.environment import Component
from sandbox.data.opensearch import PACKAGES
from sandbox.data.snapshot_files import data_files, flip_byte
from sandbox.demo.narrator import DemoError
from sandbox.demo.world import World


def damaged(world: World) -> None:
    """Flips a byte in the newest point of each store; `aivo-backup verify` must fail, by name, with exit code 5."""
    for component, flip in (
        (Component.POSTGRES, _flip_postgres),
        (Component.MINIO, _flip_minio),
        (Component.OPENSEARCH, _flip_opensearch),
    ):
        point = world.app.catalog.newest_point(component)
        with world.narrator.step(f"{component}: flip one byte at rest in {point.id}"):
            named = flip(world, point)
            answer = world.cli("verify", component.value, "--point", point.id, expect=5)
        said = " ".join([answer[0]["error"], *(c["detail"] for c in answer[0]["checks"] if not c["passed"])])
        world.narrator.fact(said)
        world.narrator.expect(named in said, f"verification fails with exit code 5 and names {named}")


def _flip_postgres(world: World, point: RecoveryPoint) -> str:
    if point.inventory is None:
        raise DemoError(f"{point.id} has no inventory")
    inventory = world.app.postgres.inventories.read(point.inventory)
    largest = max(
        (entry for entry in inventory.objects if "backup.manifest" not in entry.key), key=lambda entry: entry.size_bytes
    )
    bucket = world.app.environment.bucket(Component.POSTGRES)
    flipped = world.sandbox.aws_control.flip_byte(bucket, largest.key, version_id=largest.version_id)
    world.narrator.fact(f"s3://{bucket}/{largest.key}, version {largest.version_id}, byte {flipped.offset:,}")
    return largest.key.rsplit("/", 1)[1]


def _flip_minio(world: World, point: RecoveryPoint) -> str:
    store = world.app.minio
    summary = store.points.load(point.id).summary
    entry = max(store.points.entries(summary), key=lambda candidate: candidate.size)
    flipped = world.sandbox.aws_control.flip_byte(store.bucket, entry.target_key, version_id=entry.version_id)
    world.narrator.fact(f"s3://{store.bucket}/{entry.target_key}, version {entry.version_id}, byte {flipped.offset:,}")
    return entry.key


def _flip_opensearch(world: World, point: RecoveryPoint) -> str:
    location = Path(world.app.environment.opensearch.fs_location)
    file = data_files(location, str(point.facts["snapshot_uuid"]))[0]
    offset = flip_byte(file)
    world.narrator.fact(f"{file.relative_to(location)}, byte {offset:,}")
    # OpenSearch tells index, shard and Lucene's own name of the file; the largest file is the largest index's.
    return f"{PACKAGES}[{file.parent.name}]"
