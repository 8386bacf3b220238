"""A source, a backup bucket and the engine between them, all in memory, with a clock that the test moves."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.policy.environment import BackupKind, Component, MinioSettings
from aivo_backup.stores.minio.objects import Attributes
from aivo_backup.stores.minio.plan import RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.minio.reading import Patience
from aivo_backup.stores.minio.store import MinioStore
from aivo_backup.stores.port import Stopwatch, TakenBackup, TestedRestore
from tests.unit.minio.memory import MemoryStore

BUCKET = "aivo-backup-minio"
HEARTBEAT_BUCKET = "aivo-heartbeat"
FULL, INCREMENTAL = BackupKind.FULL, BackupKind.INCREMENTAL
SETTINGS = MinioSettings(
    endpoint="memory",
    part_bytes=8,
    bytes_in_flight=24,
    transfers=3,
    verify_share=1.0,
)


@dataclass
class World:
    """``hasty``: a store that fails fails at once."""

    settings: MinioSettings = SETTINGS
    source: MemoryStore = field(default_factory=lambda: MemoryStore(name="source"))
    target: MemoryStore = field(default_factory=lambda: MemoryStore(name="target"))
    now: datetime = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    hasty: bool = True
    lines: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.target.create_bucket(BUCKET)
        self.source.create_bucket("docs")
        self.source.create_bucket(HEARTBEAT_BUCKET)
        self.beat()

    @property
    def store(self) -> MinioStore:
        return self.store_with()

    def store_with(self, *, accept_deletions: bool = False) -> MinioStore:
        patience = Patience(seconds=0.0 if self.hasty else 120.0, sleep=self._sleep, clock=lambda: self.now.timestamp())
        return MinioStore(
            settings=self.settings,
            source=self.source,
            target=self.target,
            bucket=BUCKET,
            clock=lambda: self.now,
            accept_deletions=accept_deletions,
            patience=patience,
            checkpoint_objects=2,
        )

    def beat(self) -> None:
        """Writes a heartbeat of the present moment."""
        text = self.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.put("heartbeat.json", f'{{"at": "{text}"}}'.encode(), bucket=HEARTBEAT_BUCKET)

    def put(self, key: str, body: bytes, attributes: Attributes | None = None, *, bucket: str = "docs") -> None:
        """Writes at the source."""
        self.source.add(bucket, key, body, attributes=attributes)

    def backup(self, kind: BackupKind = FULL, *, accept_deletions: bool = False) -> TakenBackup:
        """Takes a backup, half an hour after whatever was before."""
        self.now += timedelta(minutes=30)
        store = self.store_with(accept_deletions=accept_deletions)
        return store.backup(kind, now=self.now, progress=self.lines.append)

    def restore_test(self, taken: TakenBackup, *, share: float = 1.0) -> TestedRestore:
        """Tests the point that a backup left."""
        point = RecoveryPoint(
            id=taken.point,
            component=Component.MINIO,
            kind=FULL,
            run_id="run",
            started=taken.recoverable_at,
            recoverable_at=taken.recoverable_at,
            size_bytes=taken.size_bytes,
            inventory=taken.inventory,
            facts=taken.facts,
        )
        return self.store.restore_test(
            point, scratch=Path("unused"), now=self.now, stopwatch=Stopwatch(), progress=self.lines.append
        )

    def restore(
        self,
        point: str,
        to: MemoryStore,
        *,
        overwrite_newer: bool = False,
        exact: bool = False,
        only_missing: bool = False,
        prefix: str = "",
        glob: str = "",
        key: str = "",
        target_bucket: str = "",
    ) -> RestorePlan:
        """Restores of the bucket ``docs``."""
        request = RestoreRequest(
            point=point,
            selection=Selection(bucket="docs", prefix=prefix, glob=glob, key=key),
            target_bucket=target_bucket,
            overwrite_newer=overwrite_newer,
            exact=exact,
            only_missing=only_missing,
        )
        return self.store.restore(request, to=to)

    def _sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def ten_files() -> World:
    """With ten small objects at the source."""
    world = World()
    for number in range(10):
        world.put(f"file-{number}", f"content of {number}".encode(), Attributes(content_type="text/plain"))
    return world


def failed(tested: TestedRestore) -> dict[str, str]:
    """The checks that did not pass: name to detail."""
    return {check.name: check.detail for check in tested.checks if not check.passed}
