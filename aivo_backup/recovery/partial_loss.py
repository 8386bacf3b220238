"""Partial data loss: find what production lacks against a moment, restore copies beside it, extract, import, verify.

Production goes on meanwhile. What it has, newer or changed, stays as it is: only what it lacks comes back.
"""

import csv
import json
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.errors import BackupError, UsageError
from aivo_backup.policy.codec import format_time, from_json, to_json
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.executor import Procedure, Work
from aivo_backup.recovery.journal import Journal
from aivo_backup.recovery.partial_plan import (
    CHECK,
    EXTRACT,
    IMPORT,
    REMOVE,
    SCOPE,
    STAGE,
    VERIFY,
    PartialRequest,
    steps,
)
from aivo_backup.recovery.parts import Isolation, Parts, isolation
from aivo_backup.recovery.plan import Plan, Scenario
from aivo_backup.recovery.restores import check_postgres, remove_drilled, restore_opensearch, restore_postgres
from aivo_backup.recovery.verifying import tell_references
from aivo_backup.recovery.whole import bring_back_index, bring_back_tables
from aivo_backup.stores.minio.plan import Change, PlannedChange, RestoreRequest, Selection
from aivo_backup.stores.opensearch import documents
from aivo_backup.stores.opensearch.facts import expected_counts
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference, Differing, Differs
from aivo_backup.stores.postgres.archive import connect, hurry
from aivo_backup.stores.postgres.difference import WHOLE_TABLE, compare, snapshots
from aivo_backup.stores.postgres.rescue import export_newer, import_bundle
from aivo_backup.stores.postgres.targets import Target, TargetKind

SCOPE_FILE = "scope.csv"
LEFT_FILE = "left.csv"

_PLACE = "place"
_TOLD = 5
_HURRY_SECONDS = 30.0


OpenBeside = Callable[[Isolation | None], Parts]
"""Opens the parts with copies going beside production, into an isolation."""


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """The steps of one partial loss."""

    open_parts: OpenBeside
    parts: Parts
    request: PartialRequest

    @property
    def target(self) -> Target:
        return Target(kind=TargetKind.TIME, time=self.request.target_time)

    def point(self, work: Work, component: Component) -> RecoveryPoint:
        """The one that was chosen at first: a backup that ends meanwhile must not change what is compared with."""
        return self.parts.catalog.point(component, str(work.noted(CHECK)[component.value]))

    def folder(self, work: Work) -> Path:
        """For the staging copy, the lists and the extracted rows; beside the journal, and named like it."""
        folder = work.journal.file.with_suffix("")
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def beside(self, work: Work) -> Parts:
        return self.open_parts(from_json(_Place, json.loads(str(work.noted(CHECK)[_PLACE])), where="journal").isolation)

    def check(self, work: Work) -> None:
        if _PLACE not in work.notes:
            place = isolation(self.folder(work) / "copy", now=self.parts.clock(), drill=False)
            work.note(**{_PLACE: json.dumps(to_json(_Place.of(place)))})
        for component in (Component.MINIO, Component.OPENSEARCH):
            if self.request.asks(component):
                point = self.parts.catalog.point_at(component, self.request.target_time)
                self.units(component, point)
                work.progress(f"{component} is compared with {point.id}")
                work.note(**{component.value: point.id})
        if self.request.asks(Component.POSTGRES):
            # A loss is often noticed within the minute: without this, the moment before it is not archived yet.
            with connect(self.parts.database()) as live:
                hurry(live, timeout_seconds=_HURRY_SECONDS)
            check_postgres(work, self.beside(work), self.target)

    def stage(self, work: Work) -> None:
        beside = self.beside(work)
        if self.request.asks(Component.OPENSEARCH):
            point = self.point(work, Component.OPENSEARCH)
            restore_opensearch(work, beside, point, lost_at=self.request.target_time)
        if self.request.asks(Component.POSTGRES):
            restore_postgres(work, beside, self.target, planned=work.noted(CHECK))

    def units(self, component: Component, point: RecoveryPoint) -> tuple[str, ...]:
        """The buckets or indices to look at.

        Raises:
            UsageError: the point holds no such one.
        """
        settings = self.parts.environment
        if component is Component.MINIO:
            asked, own, kind = self.request.buckets, settings.minio.heartbeat_bucket, "bucket"
            held = set(self.parts.minio.points.load(point.id).summary.buckets)
        else:
            asked, own, kind = self.request.indices, settings.opensearch.heartbeat_index, "index"
            held = set(expected_counts(point.facts))
        unknown = sorted(set(asked) - held)
        if unknown:
            raise UsageError(
                f"{point.id} holds no {kind} {unknown[0]}", mend=f"it holds: {', '.join(sorted(held)) or 'none'}"
            )
        return tuple(sorted(asked or held - {own}))

    def scope(self, work: Work) -> None:
        file = self.folder(work) / SCOPE_FILE
        with _listed(file) as each:
            found = self.compared(work, each)
        for one in found:
            if not one.equal:
                work.progress(f"{one.unit}: {one.lost} lost, {one.changed} changed, {one.newer} newer in production")
                work.progress(f"  for example {', '.join(one.examples[:_TOLD])}")
        lost = {one.unit: one.lost for one in found if one.lost}
        work.note(lost=json.dumps(lost), total=sum(lost.values()), listed=str(file))
        work.progress(f"every name is in {file}")
        if not lost:
            work.progress("nothing that the moment had is missing: there is nothing to import")
        gone = [one.unit for one in found if WHOLE_TABLE in one.examples and one.lost]
        work.note(gone=json.dumps(gone))
        for unit in gone:
            work.progress(f"{unit} is gone as a whole: it comes back under its name, with its definition")

    def compared(self, work: Work, each: Differing) -> list[Difference]:
        beside, found = self.beside(work), list[Difference]()
        if self.request.asks(Component.POSTGRES):
            with (
                connect(beside.database()) as copy,
                connect(self.parts.database()) as live,
                snapshots(copy, live) as pair,
            ):
                ours, theirs = pair.tables()
                units = self.request.tables or tuple(sorted(ours))
                unknown = [unit for unit in units if unit not in ours and unit not in theirs]
                if unknown:
                    raise UsageError(
                        f"no table is called {unknown[0]}", mend="give --abandon, and write it as schema.table"
                    )
                found += compare(pair, units, progress=lambda _line: None, each=each)
        if self.request.asks(Component.MINIO):
            point = self.point(work, Component.MINIO)
            found += [self.bucket(point, bucket, each) for bucket in self.units(Component.MINIO, point)]
        if self.request.asks(Component.OPENSEARCH):
            point = self.point(work, Component.OPENSEARCH)
            found += [
                documents.compare(self.parts.cluster, copy=beside.index(index), live=index, unit=index, each=each)
                for index in self.units(Component.OPENSEARCH, point)
            ]
        return found

    def bucket(self, point: RecoveryPoint, bucket: str, each: Differing) -> Difference:
        names: dict[Differs, list[str]] = {how: [] for how in Differs}

        def note(planned: PlannedChange) -> None:
            how = _DIFFERS.get(planned.change)
            if how is None:
                return
            each(bucket, how, planned.key)
            if len(names[how]) < EXAMPLES_BOUND:
                names[how].append(planned.key)

        plan = self.parts.minio.plan_restore(_missing(point, bucket), each=note)
        counts = {how: sum(plan.changes.get(change, 0) for change in _changes(how)) for how in Differs}
        examples = (*names[Differs.LOST], *names[Differs.CHANGED], *names[Differs.NEWER])
        return Difference(
            unit=bucket,
            lost=counts[Differs.LOST],
            changed=counts[Differs.CHANGED],
            newer=counts[Differs.NEWER],
            examples=examples[:EXAMPLES_BOUND],
        )

    def lost(self, work: Work, found: Sequence[str]) -> list[str]:
        known: dict[str, int] = json.loads(str(work.noted(SCOPE)["lost"]))
        return [unit for unit in found if unit in known]

    def gone(self, work: Work) -> list[str]:
        return list(json.loads(str(work.noted(SCOPE).get("gone", "[]"))))

    def bundle(self, work: Work) -> Path:
        return self.folder(work) / "lost-rows"

    def extract(self, work: Work) -> None:
        if not self.request.asks(Component.POSTGRES):
            return
        shutil.rmtree(self.bundle(work), ignore_errors=True)  # what an earlier attempt left may be half of it
        beside = self.beside(work)
        # The sides are changed over: wanted is what the copy has and production lacks.
        with (
            connect(beside.database()) as copy,
            connect(self.parts.database()) as live,
            snapshots(live, copy) as pair,
        ):
            _, held = pair.tables()
            units = [unit for unit in self.lost(work, sorted(held)) if unit not in self.gone(work)]
            bundle = export_newer(
                pair,
                units,
                self.bundle(work),
                after=f"lost since {format_time(self.request.target_time)}",
                now=self.parts.clock(),
                progress=work.progress,
            )
        work.note(rows=bundle.items, bytes=bundle.bytes)

    def bring_back(self, work: Work) -> None:
        if gone := self.gone(work):
            bring_back_tables(work, self.parts, self.beside(work), gone, self.target)
        if self.request.asks(Component.POSTGRES) and int(work.noted(EXTRACT)["rows"]):
            with connect(self.parts.database()) as live:
                for done in import_bundle(self.bundle(work), live, overwrite=False, progress=work.progress):
                    work.note(**{f"{done.unit} rows": done.rows})
        if self.request.asks(Component.MINIO):
            point = self.point(work, Component.MINIO)
            for bucket in self.lost(work, self.units(Component.MINIO, point)):
                done = self.parts.minio.import_lost(point.id, Selection(bucket=bucket), progress=work.progress)
                work.progress(f"{bucket}: {done.changes.get(Change.CREATE, 0)} objects brought back")
        if self.request.asks(Component.OPENSEARCH):
            self.bring_back_documents(work, self.point(work, Component.OPENSEARCH))

    def bring_back_documents(self, work: Work, point: RecoveryPoint) -> None:
        beside = self.beside(work)
        for index in self.lost(work, self.units(Component.OPENSEARCH, point)):
            if not self.parts.cluster.exists(index):
                bring_back_index(work, self.parts, point, index)
                continue
            number = documents.bring_back(self.parts.cluster, copy=beside.index(index), live=index)
            work.progress(f"{index}: {number} documents brought back")

    def verify(self, work: Work) -> None:
        """What is still missing is wrong, unless production has something newer in its place; that, and what was
        changed since, is told and listed."""
        file = self.folder(work) / LEFT_FILE
        with _listed(file) as each:
            found = self.compared(work, each)
        work.note(left=str(file))
        tell_references(work, self.parts)
        if any(one.changed for one in found):
            work.progress(f"what was changed since stays as it is; every name is in {file}")
        work.check([_verdict(one) for one in found])

    def remove(self, work: Work) -> None:
        made = (Component.OPENSEARCH,) if self.request.asks(Component.OPENSEARCH) else ()
        remove_drilled(self.beside(work), *made)


_DIFFERS = {
    Change.CREATE: Differs.LOST,
    Change.KEEP_OTHER: Differs.CHANGED,
    Change.KEEP_EXTRA: Differs.NEWER,
}


def _changes(how: Differs) -> list[Change]:
    return [change for change, differs in _DIFFERS.items() if differs is how]


def _missing(point: RecoveryPoint, bucket: str) -> RestoreRequest:
    return RestoreRequest(point=point.id, selection=Selection(bucket=bucket), only_missing=True)


def _verdict(one: Difference) -> Check:
    if one.lost:
        detail = f"{one.lost} are missing: {', '.join(one.examples[:_TOLD])}"
    elif one.changed:
        detail = f"all are there; {one.changed} were changed since and are left as they are: "
        detail += ", ".join(one.examples[: min(one.changed, _TOLD)])
    else:
        detail = "all are there"
    return Check(name=f"nothing lost in {one.unit}", passed=not one.lost, detail=detail)


@contextmanager
def _listed(file: Path) -> Generator[Differing]:
    """Writes what is lost or changed into a CSV file, one name a line; newer names may be without number, and nothing
    is done with them.

    Raises:
        BackupError: the file cannot be written.
    """
    try:
        with file.open("w", encoding="utf-8", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(("unit", "how", "name"))

            def each(unit: str, how: Differs, name: str) -> None:
                if how is not Differs.NEWER:
                    rows.writerow((unit, how.value, name))

            yield each
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}", mend="make room, then --resume") from error


@dataclass(frozen=True, kw_only=True)
class _Place:
    """An isolation in the form that the journal keeps."""

    folder: str
    port: int
    prefix: str
    bucket_prefix: str

    @staticmethod
    def of(place: Isolation) -> "_Place":
        return _Place(folder=str(place.folder), port=place.port, prefix=place.prefix, bucket_prefix=place.bucket_prefix)

    @property
    def isolation(self) -> Isolation:
        return Isolation(
            folder=Path(self.folder), port=self.port, prefix=self.prefix, bucket_prefix=self.bucket_prefix, drill=False
        )


def partial_loss(open_parts: OpenBeside, request: PartialRequest) -> Procedure:
    """The recovery, not begun."""
    parts = open_parts(None)
    loss = _Loss(open_parts=open_parts, parts=parts, request=request)
    return Procedure(
        plan=Plan(
            scenario=Scenario.PARTIAL_LOSS,
            environment=parts.environment.name,
            from_replica=request.from_replica,
            summary=(
                f"what was there at {format_time(request.target_time)} and is missing now comes back",
                "what production has stays as it is, newer and changed data too; nothing is lost by it",
            ),
            steps=steps(parts, request),
        ),
        request=request,
        actions={
            CHECK: loss.check,
            STAGE: loss.stage,
            SCOPE: loss.scope,
            EXTRACT: loss.extract,
            IMPORT: loss.bring_back,
            VERIFY: loss.verify,
            REMOVE: loss.remove,
        },
        applications=parts.applications,
        # Backups go on meanwhile: only another restore is in the way.
        leases=parts.apart(*(component for component in Component if request.asks(component))),
    )


def give_up(open_parts: OpenBeside, journal: Journal) -> None:
    """Removes the staging copies of a recovery that is given up; the lists and the extracted rows stay.

    Raises:
        BackupError: they cannot be removed.
    """
    notes = journal.step(CHECK).notes
    if _PLACE not in notes:
        return
    beside = open_parts(from_json(_Place, json.loads(str(notes[_PLACE])), where="journal").isolation)
    remove_drilled(beside, *((Component.OPENSEARCH,) if notes.get(Component.OPENSEARCH.value) else ()))
