"""MinIO as a :class:`~aivo_backup.stores.port.Store`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from aivo_backup.catalog.records import Artefact, RecoveryPoint
from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import BackupKind, Component, MinioSettings
from aivo_backup.stores.bundle import require_fresh
from aivo_backup.stores.minio.backup import CHECKPOINT_OBJECTS, BackupRun
from aivo_backup.stores.minio.bringing import BroughtBack, Importer
from aivo_backup.stores.minio.difference import differences
from aivo_backup.stores.minio.expiry import ManifestExpiry, plan_expiry
from aivo_backup.stores.minio.manifest import StoredSummary
from aivo_backup.stores.minio.objects import ObjectStore
from aivo_backup.stores.minio.plan import PlannedChange, RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.minio.points import Points
from aivo_backup.stores.minio.reading import Patience
from aivo_backup.stores.minio.rescue import Exporter, Rescued
from aivo_backup.stores.minio.restore import Restorer
from aivo_backup.stores.minio.spool import Spool
from aivo_backup.stores.minio.verify import RestoreTest, facts_of
from aivo_backup.stores.port import (
    Clock,
    Difference,
    Differing,
    HeldPoint,
    Progress,
    RescueBundle,
    Stopwatch,
    TakenBackup,
    TestedRestore,
    VerifiedSince,
    silent,
    unlisted,
)


@dataclass(frozen=True, kw_only=True)
class MinioStore:
    """The object store and its mirror.

    Attributes:
        source: what is backed up; None where only points are listed and tested (a function outside the cluster).
        target: where the backup bucket is, writing under the component's KMS key.
        bucket: the backup bucket.
        clock: tells when a run ended.
        accept_deletions: lets a run pass the deletion guard; for one run, after a person looked.
        checkpoint_objects: after so many copied objects a run puts down what another could take over.
    """

    settings: MinioSettings
    source: ObjectStore | None
    target: ObjectStore
    bucket: str
    clock: Clock
    accept_deletions: bool = False
    patience: Patience = field(default_factory=Patience)
    checkpoint_objects: int = CHECKPOINT_OBJECTS

    @property
    def component(self) -> Component:
        """Which store it is."""
        return Component.MINIO

    def backup(self, kind: BackupKind, *, now: datetime, progress: Progress) -> TakenBackup:
        """See the port. The point is named after ``now``, to the second.

        Raises:
            RefusedError: too many objects are gone at the source, or a newer point exists.
            BackupError: objects could not be copied; the message names them.
        """
        run = BackupRun(
            settings=self.settings,
            source=self._required_source(),
            target=self.target,
            bucket=self.bucket,
            kind=kind,
            now=now,
            clock=self.clock,
            progress=progress,
            accept_deletions=self.accept_deletions,
            checkpoint_objects=self.checkpoint_objects,
            patience=self.patience,
        )
        stored = run.run()
        held = self._held(stored)
        return TakenBackup(
            point=held.point,
            recoverable_at=held.recoverable_at,
            size_bytes=held.size_bytes,
            bytes_transferred=stored.summary.bytes_transferred,
            inventory=held.inventory,
            facts=held.facts,
            depends_on=held.depends_on,
        )

    def held_points(self) -> tuple[HeldPoint, ...]:
        """See the port. A point whose summary is damaged cannot be restored and is left out."""
        return tuple(self._held(stored) for stored in self.points.load_all())

    def restore_test(
        self, point: RecoveryPoint, *, scratch: Path, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> TestedRestore:
        """See the port. Restored bytes are hashed as they come and need no room in ``scratch``."""
        _ = scratch
        test = RestoreTest(
            settings=self.settings,
            target=self.target,
            bucket=self.bucket,
            progress=progress,
            patience=self.patience,
        )
        return test.run(point, now=now, stopwatch=stopwatch)

    def plan_expiry(self, *, now: datetime, verified: VerifiedSince) -> ManifestExpiry:
        """See :class:`~aivo_backup.stores.port.Expirable`."""
        return plan_expiry(self.points, self.settings, now=now, verified=verified)

    def plan_restore(
        self,
        request: RestoreRequest,
        *,
        to: ObjectStore | None = None,
        each: Callable[[PlannedChange], None] | None = None,
    ) -> RestorePlan:
        """What :meth:`restore` would do; see :meth:`.restore.Restorer.plan`."""
        return self._restorer(to).plan(request, each=each)

    def restore(
        self,
        request: RestoreRequest,
        *,
        to: ObjectStore | None = None,
        progress: Progress = silent,
        each: Callable[[PlannedChange], None] | None = None,
        rescue: Path | None = None,
    ) -> RestorePlan:
        """Restores objects; see :meth:`.restore.Restorer.restore`.

        Args:
            to: the store to write to; the source itself when None.
            rescue: an empty folder; newer objects that will be lost are exported to it before anything is changed.
                One that is written after its export is kept.

        Raises:
            UsageError: the folder cannot take a bundle; nothing was changed.
            RefusedError: its disk has too little room; nothing was changed.
        """
        restorer = self._restorer(to)
        rescued = None if rescue is None else Rescued(self._rescued(restorer, request, rescue, progress).folder)
        return restorer.restore(request, progress=progress, each=each, rescued=rescued)

    def rescue(
        self, request: RestoreRequest, folder: Path, *, to: ObjectStore | None = None, progress: Progress = silent
    ) -> RescueBundle:
        """Exports the newer objects that a restore would replace or remove; changes nothing in the store.

        Raises:
            UsageError, RefusedError, BackupError: as the ``rescue`` of :meth:`restore`.
        """
        return self._rescued(self._restorer(to), request, folder, progress)

    def differences(
        self,
        point: str,
        buckets: Sequence[str] = (),
        *,
        to: ObjectStore | None = None,
        each: Differing = unlisted,
    ) -> tuple[Difference, ...]:
        """How each bucket of production differs from a point; see :func:`.difference.differences`."""
        return differences(self._restorer(to), self.settings, point, buckets, each=each)

    def import_lost(self, point: str, selection: Selection, *, progress: Progress = silent) -> RestorePlan:
        """Writes into production what the point holds and production lacks, and touches nothing that is there. Of a
        point past its retention that is what is left of it; :meth:`differences` tells what is still lost then.

        Raises:
            UsageError, VerificationError: as :meth:`restore`.
        """
        request = RestoreRequest(point=point, selection=selection, only_missing=True, partial=True)
        return self.restore(request, progress=progress)

    def bring_back(
        self,
        folder: Path,
        *,
        to: ObjectStore | None = None,
        into: str = "",
        overwrite: bool = False,
        progress: Progress = silent,
    ) -> BroughtBack:
        """Writes rescued objects to production, or to another store; see :class:`.bringing.Importer`."""
        importer = Importer(
            settings=self.settings,
            target=to or self._required_source(),
            into=into,
            overwrite=overwrite,
            patience=self.patience,
        )
        return importer.bring_back(folder, progress=progress)

    @property
    def points(self) -> Points:
        """The points in the backup bucket."""
        return Points(store=self.target, bucket=self.bucket, patience=self.patience)

    def _rescued(self, restorer: Restorer, request: RestoreRequest, folder: Path, progress: Progress) -> RescueBundle:
        with Spool[str]() as keys:
            size = 0

            def note(planned: PlannedChange) -> None:
                nonlocal size
                if planned.change.loses_newer:
                    keys.add(planned.key)
                    size += planned.present

            restorer.plan(request, each=note)
            require_fresh(folder, size_bytes=size)
            exporter = Exporter(
                store=restorer.target, bucket=request.into, threads=self.settings.transfers, patience=self.patience
            )
            return exporter.export(keys, folder, progress=progress)

    def _restorer(self, to: ObjectStore | None) -> Restorer:
        return Restorer(
            settings=self.settings,
            backup=self.target,
            bucket=self.bucket,
            target=to or self._required_source(),
            clock=self.clock,
            patience=self.patience,
        )

    def _required_source(self) -> ObjectStore:
        if self.source is None:
            raise ConfigurationError(
                "no credentials for the MinIO source are here", mend="mount the secret minio-source"
            )
        return self.source

    def _held(self, stored: StoredSummary) -> HeldPoint:
        summary = stored.summary
        return HeldPoint(
            point=summary.point,
            kind=summary.kind,
            started=summary.started,
            # What was written after the listing began may be missing, so nothing later than the start is promised.
            recoverable_at=summary.started,
            size_bytes=summary.size_bytes,
            inventory=Artefact(
                location=self.bucket,
                key=stored.key,
                version_id=stored.version_id,
                size_bytes=stored.size,
                checksum=stored.sha256,
            ),
            facts=facts_of(summary),
            depends_on=(summary.base,) if summary.base else (),
        )
