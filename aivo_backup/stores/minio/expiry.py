"""Expires manifests. What they name is not touched: S3 clears a version when it has been out of use for its days."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aivo_backup.catalog.records import Fact
from aivo_backup.policy.environment import BackupKind, MinioSettings
from aivo_backup.policy.names import MINIO_MANIFEST_PREFIX
from aivo_backup.policy.pruning import Because, Condition, Decided, PointState, decide
from aivo_backup.stores.minio.manifest import Summary, summary_key
from aivo_backup.stores.minio.points import Points, point_moment
from aivo_backup.stores.port import Progress, VerifiedSince

_DELETE_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class ManifestExpiry:
    """A decided expiry, ready to be carried out.

    Attributes:
        keys: the objects below each point's or run's folder.
    """

    points: Points
    decided: Decided
    keys: Mapping[str, tuple[str, ...]]

    @property
    def goes(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.stores.port.PlannedExpiry`."""
        return self.decided.goes

    @property
    def kept(self) -> Mapping[str, Because]:
        """See :class:`~aivo_backup.stores.port.PlannedExpiry`."""
        return self.decided.kept

    @property
    def facts(self) -> Mapping[str, Fact]:
        """How many objects the manifests consist of."""
        return {"manifest_objects": sum(len(self.keys[name]) for name in self.goes)}

    def carry_out(self, *, gone: Callable[[str], None], progress: Progress) -> None:
        """Deletes the manifests, the newest first, so that at no moment an increment is there without its base.

        Raises:
            UnreachableError, AccessDeniedError, BackupError: S3.
        """
        for name in reversed(self.goes):
            # The summary first: a point that lacks a part must not look like one.
            keys = sorted(self.keys[name], key=lambda key: key != summary_key(name))
            for start in range(0, len(keys), _DELETE_BATCH):
                batch = keys[start : start + _DELETE_BATCH]
                self.points.patience.retried(lambda batch=batch: self.points.store.delete(self.points.bucket, batch))
            gone(name)
            progress(f"manifest {name} is gone ({len(keys)} objects)")


def plan_expiry(points: Points, settings: MinioSettings, *, now: datetime, verified: VerifiedSince) -> ManifestExpiry:
    """Decides which manifests go. One that is damaged, or whose run died, is no point: it goes with its class.

    Raises:
        UnreachableError, AccessDeniedError, BackupError: S3.
    """
    keys: dict[str, list[str]] = {}
    for item in points.store.objects(points.bucket, MINIO_MANIFEST_PREFIX):
        name, slash, _ = item.key.removeprefix(MINIO_MANIFEST_PREFIX).partition("/")
        # What has no name of a point was not put there by a run, and is not ours to remove.
        if slash and point_moment(name) is not None:
            keys.setdefault(name, []).append(item.key)
    summaries = {stored.summary.point: stored.summary for stored in points.load_all()}
    moments = {name: point_moment(name) or now for name in keys}
    proven = verified(min(moments.values(), default=now))
    retention = {
        BackupKind.FULL: timedelta(days=settings.retention_days),
        BackupKind.INCREMENTAL: timedelta(hours=settings.increment_retention_hours),
    }
    decided = decide(
        (_state(name, moments[name], summaries.get(name), verified=name in proven) for name in keys),
        now=now,
        kept_for=retention.__getitem__,
        verified_kept=settings.verified_points_kept,
    )
    return ManifestExpiry(points=points, decided=decided, keys={name: tuple(found) for name, found in keys.items()})


def _state(name: str, moment: datetime, summary: Summary | None, *, verified: bool) -> PointState:
    if summary is None:
        return PointState(id=name, kind=BackupKind.FULL, taken=moment, condition=Condition.BROKEN)
    return PointState(
        id=name,
        kind=summary.kind,
        taken=summary.started,
        depends_on=(summary.base,) if summary.base else (),
        verified=verified,
    )
