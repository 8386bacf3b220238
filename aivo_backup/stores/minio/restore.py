"""Restores a bucket, a prefix, a glob or one key, as of a point, to any store that speaks S3.

Nothing is remembered between two calls: what the target already has equal is skipped, so that a restore that was
interrupted is resumed by starting it again.

Every write carries the condition under which it was decided (the key is absent, or still has the object that was
looked at), so that what an application writes while the restore runs is kept like any newer object.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from aivo_backup.errors import BackupError, RefusedError, UnreachableError, UsageError, VerificationError
from aivo_backup.policy.environment import MinioSettings
from aivo_backup.stores.minio.manifest import Entry, Summary
from aivo_backup.stores.minio.names import Wrong
from aivo_backup.stores.minio.objects import (
    ABSENT,
    AbsentError,
    ChangedError,
    Condition,
    ListedObject,
    ObjectStore,
)
from aivo_backup.stores.minio.ordered import Ready, in_order, ordered_objects
from aivo_backup.stores.minio.plan import Change, PlannedChange, RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.minio.points import Points
from aivo_backup.stores.minio.reading import Patience, digest_of, steady
from aivo_backup.stores.minio.rescue import Rescued
from aivo_backup.stores.minio.spool import Spool
from aivo_backup.stores.minio.transfer import ByteBudget, Copier, WrongContentError
from aivo_backup.stores.port import Clock, Progress, silent

_CHUNK_BYTES = 1024 * 1024
_DELETE_BATCH = 1000
_EXAMPLES = 1000
_PROGRESS_EVERY = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Done:
    planned: PlannedChange
    fault: str = ""


@dataclass(kw_only=True)
class _Tally:
    changes: Counter[Change] = field(default_factory=Counter[Change])
    examples: list[PlannedChange] = field(default_factory=list[PlannedChange])
    wrong: Wrong = field(default_factory=Wrong)
    written: int = 0

    def add(self, done: _Done, removed: Spool[str]) -> None:
        planned = done.planned
        self.changes[planned.change] += 1
        if done.fault:
            self.wrong.add(f"{planned.key} ({done.fault})")
        elif planned.change.writes:
            self.written += planned.size
        elif planned.change is Change.REMOVE:
            removed.add(planned.key)
        if planned.change is not Change.EQUAL and len(self.examples) < _EXAMPLES:
            self.examples.append(planned)


@dataclass(frozen=True, kw_only=True)
class Restorer:
    """Restores from one backup bucket to one store.

    Attributes:
        backup, bucket: the store and bucket that hold the points.
        clock: tells whether a point is past its retention, so that S3 may have expired versions that it names.
        target: the store that is restored to.
    """

    settings: MinioSettings
    backup: ObjectStore
    bucket: str
    target: ObjectStore
    clock: Clock
    patience: Patience = field(default_factory=Patience)

    def plan(self, request: RestoreRequest, *, each: Callable[[PlannedChange], None] | None = None) -> RestorePlan:
        """Says what :meth:`restore` would do, and changes nothing.

        Args:
            each: takes every key in order, also those beyond the plan's examples.

        Raises:
            UsageError: there is no such point, or it selects nothing.
            DamagedManifestError: the point's manifest is missing or damaged.
        """
        return self._carried_out(request, apply=False, each=each, progress=silent, rescued=None)

    def restore(
        self,
        request: RestoreRequest,
        *,
        progress: Progress = silent,
        each: Callable[[PlannedChange], None] | None = None,
        rescued: Rescued | None = None,
    ) -> RestorePlan:
        """Restores, and answers what was done.

        Removals come last, and only if everything else succeeded.

        Args:
            rescued: what was exported before; a newer object that is not in there is kept, whatever was asked for.

        Raises:
            UsageError, DamagedManifestError: as :meth:`plan`; nothing was changed.
            RefusedError: the point is past its retention, and versions that it names have expired; nothing was changed.
            VerificationError: objects were not what was backed up, or not there; the message names them. They were
                not written, all others were.
        """
        if not request.partial and self._is_past(self.points.load(request.point).summary):
            self._require_whole(request)
        return self._carried_out(request, apply=True, each=each, progress=progress, rescued=rescued)

    @property
    def points(self) -> Points:
        """The points that it restores from."""
        return Points(store=self.backup, bucket=self.bucket, patience=self.patience)

    def _carried_out(
        self,
        request: RestoreRequest,
        *,
        apply: bool,
        each: Callable[[PlannedChange], None] | None,
        progress: Progress,
        rescued: Rescued | None,
    ) -> RestorePlan:
        points = self.points
        summary = points.load(request.point).summary
        self._look_for_any(request, points, summary)
        exists = request.into in self.target.buckets()
        if apply and not exists:
            self.target.create_bucket(request.into)
        keeps_versions = self.target.keeps_versions(request.into) if exists or apply else True
        tally = _Tally()
        with Spool[str]() as removed:
            budget = ByteBudget(self.settings.bytes_in_flight)
            copier = self._copier(request.into, budget) if apply else None
            steps = self._steps(request, points, summary, copier, listed=exists, rescued=rescued)
            for done in in_order(steps, threads=self.settings.transfers, halt=budget.halt):
                tally.add(done, removed)
                if each is not None:
                    each(done.planned)
                if tally.changes.total() % _PROGRESS_EVERY == 0:
                    progress(f"{tally.changes.total()} objects, {tally.written} bytes written")
            if tally.wrong:
                raise VerificationError(
                    f"{tally.wrong.count} objects of {request.point} are not what was backed up: {tally.wrong}",
                    mend="restore these from another point",
                )
            if apply:
                self._remove(request.into, removed)
        return RestorePlan(
            request=request,
            changes=dict(tally.changes),
            bytes_written=tally.written,
            examples=tuple(tally.examples),
            creates_bucket=not exists,
            keeps_versions=keeps_versions,
        )

    def _is_past(self, summary: Summary) -> bool:
        """S3 keeps what a newer run superseded for as long as points are kept, and no manifest holds it longer."""
        return self.clock() - summary.started >= timedelta(days=self.settings.retention_days)

    def _require_whole(self, request: RestoreRequest) -> None:
        gone = Wrong()

        def note(planned: PlannedChange) -> None:
            if planned.change is Change.GONE:
                gone.add(planned.key)

        self.plan(request, each=note)
        if gone:
            raise RefusedError(
                f"{request.point} is past its retention, and {gone.count} objects of it have expired: {gone}",
                mend="take a newer point, or give --partial to restore what is left",
            )

    def _look_for_any(self, request: RestoreRequest, points: Points, summary: Summary) -> None:
        """A mistyped name must not end in a restore of nothing that looks like success."""
        selection = request.selection
        if selection.bucket not in summary.buckets:
            raise UsageError(
                f"the point {request.point} holds no bucket {selection.bucket}",
                mend=f"it holds {', '.join(sorted(summary.buckets)) or 'none'}",
            )
        wanted = selection.key or selection.glob or selection.prefix
        if wanted and next(selected(points.entries(summary), selection), None) is None:
            raise UsageError(
                f"the point {request.point} has nothing in {selection.bucket} for {wanted!r}",
                mend="check the key, or take another point",
            )

    def _copier(self, into: str, budget: ByteBudget) -> Copier:
        return Copier(
            target=self.target,
            target_bucket=into,
            budget=budget,
            part_bytes=self.settings.part_bytes,
            patience=self.patience,
        )

    def _steps(
        self,
        request: RestoreRequest,
        points: Points,
        summary: Summary,
        copier: Copier | None,
        *,
        listed: bool,
        rescued: Rescued | None,
    ) -> Iterator[Ready[_Done] | Callable[[], _Done]]:
        selection, past = request.selection, self._is_past(summary)
        listing = ordered_objects(self.target, request.into, selection.common_prefix) if listed else iter(())
        present = (found for found in listing if selection.takes(found.key))
        careful = replace(request, overwrite_newer=False, exact=False)
        for entry, found in merged(selected(points.entries(summary), selection), present):
            spared = rescued is not None and found is not None and not rescued.holds(found)
            asked = careful if spared else request
            if entry is not None:
                yield lambda entry=entry, found=found, asked=asked: self._do(asked, entry, found, copier, past=past)
            elif found is not None:
                change = Change.REMOVE if asked.exact else Change.KEEP_EXTRA
                yield Ready(
                    result=_Done(
                        planned=PlannedChange(change=change, key=found.key, size=found.size, present=found.size)
                    )
                )

    def _do(
        self, request: RestoreRequest, entry: Entry, found: ListedObject | None, copier: Copier | None, *, past: bool
    ) -> _Done:
        planned = PlannedChange(
            change=self._change(request, entry, found),
            key=entry.key,
            size=entry.size,
            present=found.size if found else 0,
        )
        if past and planned.change.writes and self._has_expired(entry):
            return _Done(planned=replace(planned, change=Change.GONE))
        if copier is None or not planned.change.writes:
            return _Done(planned=planned)
        try:
            with steady(
                self.backup, self.bucket, entry.target_key, version_id=entry.version_id, patience=self.patience
            ) as reading:
                copier.copy(
                    reading,
                    entry.key,
                    attributes=entry.attributes,
                    expected_sha256=entry.sha256,
                    condition=Condition(etag=found.etag) if found else ABSENT,
                )
        except ChangedError:
            return _Done(planned=self._overtaken(request, entry, planned))
        except WrongContentError:
            return _Done(planned=planned, fault="its content is not what was backed up")
        except AbsentError:
            return _Done(planned=planned, fault="its version is gone from the backup")
        except UnreachableError:
            raise
        except BackupError as error:
            return _Done(planned=planned, fault=error.what)
        return _Done(planned=planned)

    def _has_expired(self, entry: Entry) -> bool:
        try:
            self.patience.retried(lambda: self.backup.info(self.bucket, entry.target_key, version_id=entry.version_id))
        except AbsentError:
            return True
        return False

    def _change(self, request: RestoreRequest, entry: Entry, found: ListedObject | None) -> Change:
        if found is None:
            return Change.CREATE
        if self._is_equal(request.into, entry, found):
            return Change.EQUAL
        if request.only_missing:
            return Change.KEEP_OTHER
        if found.last_modified <= entry.last_modified:
            return Change.REPLACE
        return Change.REPLACE_NEWER if request.overwrite_newer else Change.KEEP_NEWER

    def _overtaken(self, request: RestoreRequest, entry: Entry, planned: PlannedChange) -> PlannedChange:
        """Somebody wrote the key meanwhile; or we did, and the answer to our first try was lost."""
        try:
            info = self.patience.retried(lambda: self.target.info(request.into, entry.key))
        except AbsentError:
            return replace(planned, change=Change.KEEP_NEWER)
        now = ListedObject(key=entry.key, size=info.size, etag=info.etag, last_modified=info.last_modified)
        return planned if self._is_equal(request.into, entry, now) else replace(planned, change=Change.KEEP_NEWER)

    def _is_equal(self, bucket: str, entry: Entry, found: ListedObject) -> bool:
        """Asks for as little as can tell: the listing, then the headers, then the bytes."""
        if found.size != entry.size:
            return False
        same_etag = found.etag == entry.etag
        if same_etag and found.last_modified == entry.last_modified:
            return True
        try:
            info = self.patience.retried(lambda: self.target.info(bucket, found.key))
            if info.attributes != entry.attributes:
                return False
            # Parts of another size, or encryption, give equal bytes another ETag.
            return same_etag or entry.sha256 == self._target_digest(bucket, found.key)
        except AbsentError:
            return False

    def _target_digest(self, bucket: str, key: str) -> str:
        _, sha256 = digest_of(self.target, bucket, key, chunk_bytes=_CHUNK_BYTES, patience=self.patience)
        return sha256

    def _remove(self, bucket: str, removed: Spool[str]) -> None:
        batch: list[str] = []
        for key in removed:
            batch.append(key)
            if len(batch) == _DELETE_BATCH:
                self.target.delete(bucket, batch)
                batch = []
        if batch:
            self.target.delete(bucket, batch)


def selected(entries: Iterator[Entry], selection: Selection) -> Iterator[Entry]:
    """The entries of a point that a selection takes."""
    return (entry for entry in entries if entry.bucket == selection.bucket and selection.takes(entry.key))


def merged(
    entries: Iterator[Entry], present: Iterator[ListedObject]
) -> Iterator[tuple[Entry | None, ListedObject | None]]:
    """Pairs the point's objects with the target's by key; both are ordered."""
    entry, found = next(entries, None), next(present, None)
    while entry is not None or found is not None:
        if found is None or (entry is not None and entry.key < found.key):
            yield entry, None
            entry = next(entries, None)
        elif entry is None or found.key < entry.key:
            yield None, found
            found = next(present, None)
        else:
            yield entry, found
            entry, found = next(entries, None), next(present, None)
