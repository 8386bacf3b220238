"""Partial data loss: find what production lacks against a moment, restore copies beside it, extract, import, verify.

Production goes on meanwhile. What it has, newer or changed, stays as it is: only what it lacks comes back.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.errors import RefusedError, UsageError
from aivo_backup.policy.codec import format_time, from_json, to_json
from aivo_backup.policy.environment import Component
from aivo_backup.recovery import commands
from aivo_backup.recovery.estimates import assumed, side_by_side, size_of
from aivo_backup.recovery.executor import Procedure, Work
from aivo_backup.recovery.parts import Isolation, Parts, Surveyed, isolation
from aivo_backup.recovery.plan import Estimate, Plan, PlannedStep, Scenario
from aivo_backup.recovery.restores import check_postgres, remove_drilled, restore_opensearch, restore_postgres
from aivo_backup.recovery.verifying import tell_references
from aivo_backup.stores.minio.restore import Change, RestoreRequest, Selection
from aivo_backup.stores.opensearch import documents
from aivo_backup.stores.opensearch.facts import expected_counts
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference
from aivo_backup.stores.postgres.archive import connect, hurry
from aivo_backup.stores.postgres.difference import compare, snapshots
from aivo_backup.stores.postgres.rescue import export_newer, import_bundle
from aivo_backup.stores.postgres.targets import Target, TargetKind

CHECK = "check-points"
STAGE = "restore-staging"
SCOPE = "find-scope"
EXTRACT = "extract-lost"
IMPORT = "import-lost"
VERIFY = "verify-consistency"
REMOVE = "remove-staging"

_PLACE = "place"
_HURRY_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class PartialRequest:
    """What is asked for.

    Attributes:
        target_time: a moment before the loss, UTC. MinIO and OpenSearch go by their newest points at or before it.
        tables, buckets, indices: the units to look at; all of them when none of the three names any.
        from_replica: read the second region.
    """

    target_time: datetime
    tables: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    indices: tuple[str, ...] = ()
    from_replica: bool = False

    def asks(self, component: Component) -> bool:
        """Whether a store is looked at."""
        chosen = {
            Component.POSTGRES: self.tables,
            Component.MINIO: self.buckets,
            Component.OPENSEARCH: self.indices,
        }
        return bool(chosen[component]) or not any(chosen.values())


OpenBeside = Callable[[Isolation | None], Parts]
"""Opens the parts with copies going beside production, into an isolation."""


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """The steps of one partial loss."""

    open_parts: OpenBeside
    parts: Parts
    request: PartialRequest
    folder: Path

    @property
    def target(self) -> Target:
        return Target(kind=TargetKind.TIME, time=self.request.target_time)

    def point(self, component: Component) -> RecoveryPoint:
        return self.parts.catalog.point_at(component, self.request.target_time)

    def beside(self, work: Work) -> Parts:
        return self.open_parts(from_json(_Place, json.loads(str(work.noted(CHECK)[_PLACE])), where="journal").isolation)

    def check(self, work: Work) -> None:
        if _PLACE not in work.notes:
            place = isolation(self.folder / "pgdata-copy", now=self.parts.clock(), drill=False)
            work.note(**{_PLACE: json.dumps(to_json(_Place.of(place)))})
        for component in (Component.MINIO, Component.OPENSEARCH):
            if self.request.asks(component):
                work.progress(f"{component} is compared with {self.point(component).id}")
        if self.request.asks(Component.POSTGRES):
            # A loss is often noticed within the minute: without this, the moment before it is not archived yet.
            with connect(self.parts.database()) as live:
                hurry(live, timeout_seconds=_HURRY_SECONDS)
            check_postgres(work, self.beside(work), self.target)

    def stage(self, work: Work) -> None:
        beside = self.beside(work)
        if self.request.asks(Component.OPENSEARCH):
            point = self.point(Component.OPENSEARCH)
            restore_opensearch(work, beside, point, lost_at=self.request.target_time)
        if self.request.asks(Component.POSTGRES):
            restore_postgres(work, beside, self.target, planned=work.noted(CHECK))

    def scope(self, work: Work) -> None:
        found = self.compared(work)
        for each in found:
            if not each.equal:
                work.progress(
                    f"{each.unit}: {each.lost} lost, {each.changed} changed, {each.newer} newer in production"
                )
                work.progress(f"  for example {', '.join(each.examples[:5])}")
        lost = {each.unit: each.lost for each in found if each.lost}
        work.note(lost=json.dumps(lost), total=sum(lost.values()))
        if not lost:
            work.progress("nothing that the moment had is missing: there is nothing to import")

    def compared(self, work: Work) -> list[Difference]:
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
                    raise UsageError(f"no table is called {unknown[0]}", mend="write it as schema.table")
                found += compare(pair, units, progress=lambda _line: None)
        if self.request.asks(Component.MINIO):
            found += self.objects()
        if self.request.asks(Component.OPENSEARCH):
            found += self.indices(beside)
        return found

    def objects(self) -> list[Difference]:
        point = self.point(Component.MINIO)
        held = self.parts.minio.points.load(point.id).summary.buckets
        own = self.parts.environment.minio.heartbeat_bucket
        buckets = self.request.buckets or tuple(sorted(set(held) - {own}))
        unknown = [bucket for bucket in buckets if bucket not in held]
        if unknown:
            raise UsageError(f"{point.id} holds no bucket {unknown[0]}", mend=f"it holds: {', '.join(sorted(held))}")
        return [self.bucket(point, bucket) for bucket in buckets]

    def bucket(self, point: RecoveryPoint, bucket: str) -> Difference:
        plan = self.parts.minio.plan_restore(RestoreRequest(point=point.id, selection=Selection(bucket=bucket)))
        lost = [each.key for each in plan.examples if each.change is Change.CREATE][:EXAMPLES_BOUND]
        return Difference(
            unit=bucket,
            lost=plan.changes.get(Change.CREATE, 0),
            changed=plan.changes.get(Change.REPLACE, 0) + plan.changes.get(Change.KEEP_NEWER, 0),
            newer=plan.changes.get(Change.KEEP_EXTRA, 0),
            examples=tuple(lost),
        )

    def indices(self, beside: Parts) -> list[Difference]:
        own = self.parts.environment.opensearch.heartbeat_index
        held = expected_counts(self.point(Component.OPENSEARCH).facts)
        indices = self.request.indices or tuple(index for index in held if index != own)
        unknown = [index for index in indices if index not in held]
        if unknown:
            raise UsageError(f"the snapshot holds no index {unknown[0]}", mend=f"it holds: {', '.join(sorted(held))}")
        return [
            documents.compare(self.parts.cluster, copy=beside.index(index), live=index, unit=index) for index in indices
        ]

    def lost(self, work: Work, found: Sequence[str]) -> list[str]:
        known: dict[str, int] = json.loads(str(work.noted(SCOPE)["lost"]))
        return [unit for unit in found if unit in known]

    @property
    def bundle(self) -> Path:
        return self.folder / "lost-rows"

    def extract(self, work: Work) -> None:
        if not self.request.asks(Component.POSTGRES):
            return
        shutil.rmtree(self.bundle, ignore_errors=True)  # what an earlier attempt left may be half of it
        beside = self.beside(work)
        # The sides are changed over: wanted is what the copy has and production lacks.
        with (
            connect(beside.database()) as copy,
            connect(self.parts.database()) as live,
            snapshots(live, copy) as pair,
        ):
            _, held = pair.tables()
            units = self.lost(work, sorted(held))
            bundle = export_newer(
                pair,
                units,
                self.bundle,
                after=f"lost since {format_time(self.request.target_time)}",
                now=self.parts.clock(),
                progress=work.progress,
            )
        work.note(rows=bundle.items, bytes=bundle.bytes)

    def bring_back(self, work: Work) -> None:
        if self.request.asks(Component.POSTGRES) and int(work.noted(EXTRACT)["rows"]):
            with connect(self.parts.database()) as live:
                for done in import_bundle(self.bundle, live, overwrite=False, progress=work.progress):
                    work.note(**{f"{done.unit} rows": done.rows})
        if self.request.asks(Component.MINIO):
            point = self.point(Component.MINIO)
            for bucket in self.lost(work, sorted(self.parts.minio.points.load(point.id).summary.buckets)):
                request = RestoreRequest(point=point.id, selection=Selection(bucket=bucket))
                done = self.parts.minio.restore(request, progress=work.progress)
                work.progress(f"{bucket}: {done.changes.get(Change.CREATE, 0)} objects brought back")
        if self.request.asks(Component.OPENSEARCH):
            self.bring_back_documents(work)

    def bring_back_documents(self, work: Work) -> None:
        beside, held = self.beside(work), expected_counts(self.point(Component.OPENSEARCH).facts)
        for index in self.lost(work, sorted(held)):
            if not self.parts.cluster.exists(index):
                raise RefusedError(
                    f"the whole index {index} is gone",
                    mend=f"`aivo-backup restore opensearch --index {index}`, then give --resume",
                )
            number = documents.bring_back(self.parts.cluster, copy=beside.index(index), live=index)
            work.progress(f"{index}: {number} documents brought back")

    def verify(self, work: Work) -> None:
        found = self.compared(work)
        tell_references(work, self.parts)
        work.check(
            [
                Check(
                    name=f"nothing lost in {each.unit}",
                    passed=not each.lost,
                    detail=f"{each.lost} are missing: {', '.join(each.examples[:5])}" if each.lost else "all are there",
                )
                for each in found
            ]
        )

    def remove(self, work: Work) -> None:
        indices = self.point(Component.OPENSEARCH) if self.request.asks(Component.OPENSEARCH) else None
        remove_drilled(self.beside(work), None, indices)


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


def partial_loss(open_parts: OpenBeside, request: PartialRequest, *, folder: Path) -> Procedure:
    """The recovery, not begun.

    Args:
        folder: for the staging copy and the extracted rows; outlives the run.
    """
    parts = open_parts(None)
    loss = _Loss(open_parts=open_parts, parts=parts, request=request, folder=folder)
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
    )


def steps(parts: Surveyed, request: PartialRequest) -> tuple[PlannedStep, ...]:
    """The plan's steps."""
    settings = parts.environment

    def expected(name: str, otherwise: Estimate) -> Estimate:
        return parts.estimator.step(Scenario.PARTIAL_LOSS, name, otherwise=otherwise)

    target = Target(kind=TargetKind.TIME, time=request.target_time)
    asked = [each for each in (Component.POSTGRES, Component.OPENSEARCH) if request.asks(each)]
    rates = [parts.estimator.restore(each, size_of(parts.newest_or_none(each))) for each in asked]
    remove = "remove-staging stops the staging server and removes the copies"
    return (
        PlannedStep(
            name=CHECK,
            title="look whether the moment can be reached, and which points are compared with",
            precondition="the backups can be read; the moment is before the loss",
            expected=expected(CHECK, assumed(5)),
            commands=commands.check_database(settings.postgres),
        ),
        PlannedStep(
            name=STAGE,
            title="restore the database to staging and the indices under other names",
            precondition="there is room beside production",
            changes="a staging server and copies of indices come up beside production",
            expected=expected(STAGE, side_by_side([assumed(5), *rates])),
            undo=remove,
            commands=commands.restore_staging(settings.postgres, target),
        ),
        PlannedStep(
            name=SCOPE,
            title="compare production with them: rows by key range, objects by manifest, documents by id",
            precondition="the copies answer",
            expected=expected(SCOPE, assumed(30)),
            commands=commands.compare(settings.postgres),
        ),
        PlannedStep(
            name=EXTRACT,
            title="extract the lost rows into a folder that can be read without this tool",
            precondition="the scope is known",
            changes="files in the folder of the recovery",
            expected=expected(EXTRACT, assumed(10)),
            undo="remove the folder",
            commands=commands.extract(settings.postgres),
        ),
        PlannedStep(
            name=IMPORT,
            title="import what is lost: rows, objects and documents",
            precondition="a person has read the scope",
            changes="what is missing is added; nothing that is there is touched",
            destructive=True,
            expected=expected(IMPORT, assumed(30)),
            undo="delete what was added: the scope and the extracted rows name it",
            commands=commands.bring_back(settings.postgres, settings.minio, settings.opensearch),
        ),
        PlannedStep(
            name=VERIFY,
            title="compare once more, and follow the references between the stores",
            precondition="the import has ended",
            expected=expected(VERIFY, assumed(30)),
            commands=commands.compare(settings.postgres),
        ),
        PlannedStep(
            name=REMOVE,
            title="remove the staging server and the copies; the extracted rows stay",
            precondition="the result is verified",
            changes="the staging server and the copies are gone",
            expected=expected(REMOVE, assumed(5)),
            undo="restore them again",
            commands=commands.remove_staging(),
        ),
    )
