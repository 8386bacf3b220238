"""The plan of a partial data loss: what is asked for, and the steps that it comes to."""

from dataclasses import dataclass
from datetime import datetime

from aivo_backup.errors import UsageError
from aivo_backup.policy.environment import Component
from aivo_backup.recovery import commands
from aivo_backup.recovery.estimates import assumed, side_by_side, size_of
from aivo_backup.recovery.parts import Surveyed
from aivo_backup.recovery.plan import Estimate, PlannedStep, Scenario
from aivo_backup.stores.postgres.targets import Target, TargetKind

CHECK = "check-points"
STAGE = "restore-staging"
SCOPE = "find-scope"
EXTRACT = "extract-lost"
IMPORT = "import-lost"
VERIFY = "verify-consistency"
REMOVE = "remove-staging"


@dataclass(frozen=True, kw_only=True)
class PartialRequest:
    """What is asked for.

    Attributes:
        target_time: a moment before the loss, UTC. MinIO and OpenSearch go by their newest points at or before it.
        tables, buckets, indices: the units to look at; all of them when none of the three names any.
        from_replica: read the second region.

    Raises:
        UsageError: at construction, when a table is named without its schema.
    """

    target_time: datetime
    tables: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    indices: tuple[str, ...] = ()
    from_replica: bool = False

    def __post_init__(self) -> None:
        bare = [table for table in self.tables if "." not in table]
        if bare:
            raise UsageError(f"--table {bare[0]} names no schema", mend=f"give --table public.{bare[0]}, for example")

    def asks(self, component: Component) -> bool:
        """Whether a store is looked at."""
        chosen = {
            Component.POSTGRES: self.tables,
            Component.MINIO: self.buckets,
            Component.OPENSEARCH: self.indices,
        }
        return bool(chosen[component]) or not any(chosen.values())


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
            title="extract lost rows, and tables that are gone, into files that can be read without this tool",
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
            changes="what is missing is added, what is gone as a whole under its name; what is there is not touched",
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
