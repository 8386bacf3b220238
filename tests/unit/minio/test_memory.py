"""Memory is bounded by pages and windows, not by the number of objects."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from aivo_backup.policy.environment import BackupKind, MinioSettings
from aivo_backup.stores.minio.objects import Attributes, Condition, ListedObject, ListedVersion, Stored
from aivo_backup.stores.minio.plan import RestoreRequest, Selection
from aivo_backup.stores.minio.reading import Patience
from aivo_backup.stores.minio.store import MinioStore
from aivo_backup.stores.port import silent
from tests.unit.minio.memory import Held, MemoryReading, MemoryStore
from tests.unit.minio.world import BUCKET, HEARTBEAT_BUCKET

BORN = datetime(2026, 1, 1, tzinfo=UTC)
MEBIBYTE = 1024 * 1024


class Endless(MemoryStore):
    """A source whose objects are made up as they are listed and read."""

    number = 0

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        for number in range(self.number if bucket == "docs" else 0):
            yield ListedObject(key=f"object/{number:08d}", size=4, etag=f"{number:032x}", last_modified=BORN)

    def open(self, bucket: str, key: str, *, version_id: str = "", if_match: str = "", start: int = 0) -> MemoryReading:
        held = Held(version_id="", body=b"body", etag=if_match, last_modified=BORN, attributes=Attributes())
        return MemoryReading(self, bucket, key, held, b"body")


class Forgetful(MemoryStore):
    """A target that keeps manifests, and of data no more than that it was written."""

    number = 0

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        sha256: str,
        condition: Condition | None = None,
    ) -> Stored:
        if key.startswith("minio-data/"):
            return Stored(version_id="v", etag="e")
        return super().put(bucket, key, body, attributes, sha256=sha256, condition=condition)

    def folders(self, bucket: str, prefix: str) -> tuple[str, ...]:
        return ("docs",)

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        for number in range(self.number if prefix == "minio-data/docs/" else 0):
            yield ListedVersion(
                key=f"{prefix}object/{number:08d}", version_id="v", size=4, etag="e", is_latest=True, is_marker=False
            )


def peak_bytes(number: int) -> dict[str, int]:
    """Peak of each kind of run over so many objects, above what the stores themselves hold."""
    source, target = Endless(name="source"), Forgetful(name="target")
    source.number = target.number = number
    target.create_bucket(BUCKET)
    source.create_bucket("docs")
    source.create_bucket(HEARTBEAT_BUCKET)
    store = MinioStore(
        settings=MinioSettings(endpoint="memory", transfers=2),
        source=source,
        target=target,
        bucket=BUCKET,
        clock=lambda: BORN,
        patience=Patience(seconds=0.0),
    )
    peaks: dict[str, int] = {}
    tracemalloc.start()
    for hour, (name, kind) in enumerate(
        (("first", BackupKind.FULL), ("unchanged", BackupKind.INCREMENTAL), ("audit", BackupKind.FULL))
    ):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        store.backup(kind, now=BORN + timedelta(hours=hour), progress=silent)
        peaks[name] = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    point = store.held_points()[-1].point
    store.plan_restore(RestoreRequest(point=point, selection=Selection(bucket="docs")), to=MemoryStore())
    peaks["plan"] = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peaks


@pytest.mark.timeout(300)
def test_ten_times_the_objects_take_no_more_memory() -> None:
    few, many = peak_bytes(1_200), peak_bytes(12_000)
    grown = {name: (many[name] - few[name]) / MEBIBYTE for name in few}
    # Up to 5,000 decisions wait in memory for the guard; 12,000 entries held as objects would be 12 MiB and more.
    assert max(grown.values()) < 7, grown
