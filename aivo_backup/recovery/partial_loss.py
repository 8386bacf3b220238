"""Partial data loss: find what production lacks against a moment, restore copies beside it, extract, import, verify.

Production goes on meanwhile. What it has, newer or changed, stays as it is: only what it lacks comes back.
"""

import csv
import json
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
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
from aivo_backup.recovery.whole import (
    bring_back_index,
    bring_back_tables,
    check_ties,
    extract_tables,
    extracted,
    tie_tables,
)
from aivo_backup.stores.minio.plan import Change, Selection
from aivo_backup.stores.opensearch import documents
from aivo_backup.stores.opensearch.facts import expected_counts
from aivo_backup.stores.port import Difference, Differing, Differs
from aivo_backup.stores.postgres.archive import connect, hurry
from aivo_backup.stores.postgres.difference import compare, snapshots
from aivo_backup.stores.postgres.rescue import export_newer, import_bundle
from aivo_backup.stores.postgres.tables import tables
from aivo_backup.stores.postgres.targets import Target, TargetKind

SCOPE_FILE = "scope.csv"
LEFT_FILE = "left.csv"

_PLACE = "place"
_SCOPE = "scope"
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
                for unit in sorted(set(self.request.tables) - set(tables(live))):
                    work.progress(f"production has no table {unit}: whether there was one is seen in the copy")
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
        for one in (one for some in found.values() for one in some if not one.equal):
            told = f"{one.unit} is gone as a whole, with {one.lost}: it comes back under its name"
            if not one.gone:
                told = f"{one.unit}: {one.lost} lost, {one.changed} changed, {one.newer} newer in production"
            work.progress(told)
            if one.examples:
                work.progress(f"  for example {', '.join(one.examples[:_TOLD])}")
        scope = _Scope(
            gone={component.value: tuple(one.unit for one in some if one.gone) for component, some in found.items()},
            lost={
                component.value: tuple(one.unit for one in some if one.lost and not one.gone)
                for component, some in found.items()
            },
        )
        total = sum(one.lost for some in found.values() for one in some)
        work.note(**{_SCOPE: json.dumps(to_json(scope)), "total": total, "listed": str(file)})
        work.progress(f"every name is in {file}")
        if scope.empty:
            work.progress("nothing that the moment had is missing: there is nothing to import")

    def compared(self, work: Work, each: Differing) -> Mapping[Component, Sequence[Difference]]:
        beside, found = self.beside(work), dict[Component, Sequence[Difference]]()
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
                found[Component.POSTGRES] = compare(pair, units, progress=lambda _line: None, each=each)
        if self.request.asks(Component.MINIO):
            point = self.point(work, Component.MINIO)
            buckets = self.units(Component.MINIO, point)
            found[Component.MINIO] = self.parts.minio.differences(point.id, buckets, each=each)
        if self.request.asks(Component.OPENSEARCH):
            point = self.point(work, Component.OPENSEARCH)
            found[Component.OPENSEARCH] = [
                documents.compare(self.parts.cluster, copy=beside.index(index), live=index, unit=index, each=each)
                for index in self.units(Component.OPENSEARCH, point)
            ]
        return found

    def found(self, work: Work) -> "_Scope":
        return from_json(_Scope, json.loads(str(work.noted(SCOPE)[_SCOPE])), where="journal")

    def bundle(self, work: Work) -> Path:
        return self.folder(work) / "lost-rows"

    def extract(self, work: Work) -> None:
        if not self.request.asks(Component.POSTGRES):
            return
        shutil.rmtree(self.bundle(work), ignore_errors=True)  # what an earlier attempt left may be half of it
        found, beside = self.found(work), self.beside(work)
        if gone := found.gone.get(Component.POSTGRES, ()):
            extract_tables(work, self.parts, beside, gone, self.folder(work))
        # The sides are changed over: wanted is what the copy has and production lacks.
        with (
            connect(beside.database()) as copy,
            connect(self.parts.database()) as live,
            snapshots(live, copy) as pair,
        ):
            bundle = export_newer(
                pair,
                found.lost.get(Component.POSTGRES, ()),
                self.bundle(work),
                after=f"lost since {format_time(self.request.target_time)}",
                now=self.parts.clock(),
                progress=work.progress,
            )
        work.note(rows=bundle.items, bytes=bundle.bytes)

    def bring_back(self, work: Work) -> None:
        found = self.found(work)
        gone = extracted(work, EXTRACT)
        if gone is not None:
            bring_back_tables(work, self.parts, gone, self.folder(work))
        if self.request.asks(Component.POSTGRES) and int(work.noted(EXTRACT)["rows"]):
            with connect(self.parts.database()) as live:
                for done in import_bundle(self.bundle(work), live, overwrite=False, progress=work.progress):
                    work.note(**{f"{done.unit} rows": done.rows})
        if gone is not None:
            # After the rows: the foreign keys speak of them.
            tie_tables(work, self.parts, self.beside(work), gone)
        if buckets := found.missing(Component.MINIO):
            point = self.point(work, Component.MINIO)
            for bucket in buckets:
                done = self.parts.minio.import_lost(point.id, Selection(bucket=bucket), progress=work.progress)
                work.progress(f"{bucket}: {done.changes.get(Change.CREATE, 0)} objects brought back")
        if indices := found.missing(Component.OPENSEARCH):
            self.bring_back_documents(work, self.point(work, Component.OPENSEARCH), indices)

    def bring_back_documents(self, work: Work, point: RecoveryPoint, indices: Sequence[str]) -> None:
        beside = self.beside(work)
        for index in indices:
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
            found = [one for some in self.compared(work, each).values() for one in some]
        work.note(left=str(file))
        tell_references(work, self.parts)
        if any(one.changed for one in found):
            work.progress(f"what was changed since stays as it is; every name is in {file}")
        gone = extracted(work, EXTRACT)
        ties = [] if gone is None else [check_ties(self.parts, self.beside(work), gone)]
        work.check([*(_verdict(one) for one in found), *ties])

    def remove(self, work: Work) -> None:
        made = (Component.OPENSEARCH,) if self.request.asks(Component.OPENSEARCH) else ()
        remove_drilled(self.beside(work), *made)


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """Units by component, in the form that the journal keeps.

    Attributes:
        gone: those that production lacks as a whole, also if they are empty.
        lost: those that are there and lack something.
    """

    gone: Mapping[str, tuple[str, ...]]
    lost: Mapping[str, tuple[str, ...]]

    def missing(self, component: Component) -> tuple[str, ...]:
        return (*self.gone.get(component, ()), *self.lost.get(component, ()))

    @property
    def empty(self) -> bool:
        return not any((*self.gone.values(), *self.lost.values()))


def _verdict(one: Difference) -> Check:
    if one.gone:
        detail = f"it is missing as a whole, with {one.lost}"
    elif one.lost:
        detail = f"{one.lost} are missing: {', '.join(one.examples[:_TOLD])}"
    elif one.changed:
        detail = f"all are there; {one.changed} were changed since and are left as they are: "
        detail += ", ".join(one.examples[: min(one.changed, _TOLD)])
    else:
        detail = "all are there"
    return Check(name=f"nothing lost in {one.unit}", passed=not one.lost and not one.gone, detail=detail)


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
