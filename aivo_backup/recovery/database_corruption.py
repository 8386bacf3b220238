"""Database corruption: stop the applications, restore PostgreSQL in place, verify it, start the applications."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import Component, PostgresSettings
from aivo_backup.recovery import commands
from aivo_backup.recovery.estimates import assumed, size_of
from aivo_backup.recovery.executor import START_APPLICATIONS, STOP_APPLICATIONS, Procedure, Work
from aivo_backup.recovery.parts import Parts, Surveyed
from aivo_backup.recovery.plan import Estimate, Plan, PlannedStep, Scenario
from aivo_backup.recovery.rescuing import check_rescue, rescue_newer
from aivo_backup.recovery.restores import check_postgres, remove_drilled, restore_postgres
from aivo_backup.recovery.verifying import tell_references
from aivo_backup.stores.postgres.integrity import integrity
from aivo_backup.stores.postgres.targets import Target, TargetKind

CHECK = "check-target"
RESCUE = "rescue-newer"
RESTORE = "restore-database"
VERIFY = "verify-database"


@dataclass(frozen=True, kw_only=True)
class CorruptionRequest:
    """What is asked for.

    Attributes:
        target_time: the moment to go back to, UTC; the newest archived state when None.
        label: the backup set to start from; chosen when empty.
        from_replica: read the second region.
        kind, value: a position, a transaction or a named point to go back to, instead of a moment.
        in_cluster: on the volume of the database's StatefulSet, by a Job.
        adapter_named: though an operator owns it, or it is replicated.
        rescue: the folder that gets what was written after the target, before it is lost; nothing when empty.
    """

    target_time: datetime | None = None
    label: str = ""
    from_replica: bool = False
    kind: TargetKind = TargetKind.LATEST
    value: str = ""
    in_cluster: bool = False
    adapter_named: bool = False
    rescue: str = ""

    @property
    def target(self) -> Target:
        """The same as the engine's target."""
        if self.target_time is not None:
            return Target(kind=TargetKind.TIME, time=self.target_time, label=self.label)
        if self.value:
            return Target(kind=self.kind, value=self.value, label=self.label)
        return Target(kind=TargetKind.SET if self.label else TargetKind.LATEST, label=self.label)


def database_corruption(parts: Parts, request: CorruptionRequest) -> Procedure:
    """The recovery, not begun."""

    def check(work: Work) -> None:
        if request.rescue:
            check_rescue(parts, Path(request.rescue))
        check_postgres(work, parts, request.target)

    def verify(work: Work) -> None:
        work.check(tuple(integrity(parts.database(), parts.environment.postgres, archives=parts.isolation is None)))
        # The other stores were not touched: what they lack is told, and is no failure of this recovery.
        tell_references(work, parts)

    return Procedure(
        plan=Plan(
            scenario=Scenario.DATABASE_CORRUPTION,
            environment=parts.environment.name,
            from_replica=request.from_replica,
            isolated=parts.isolation is not None,
            summary=_summary(parts, request),
            steps=steps(parts, request),
        ),
        request=request,
        actions={
            CHECK: check,
            RESCUE: lambda work: rescue_newer(work, parts, request.target, Path(request.rescue)),
            RESTORE: lambda work: restore_postgres(work, parts, request.target, planned=work.noted(CHECK)),
            VERIFY: verify,
        },
        applications=parts.applications,
        leases=parts.held(Component.POSTGRES),
        tidy=lambda: remove_drilled(parts),
    )


def steps(parts: Surveyed, request: CorruptionRequest) -> tuple[PlannedStep, ...]:
    """The plan's steps."""
    point = parts.newest_or_none(Component.POSTGRES)

    def expected(name: str, otherwise: Estimate) -> Estimate:
        return parts.estimator.step(Scenario.DATABASE_CORRUPTION, name, otherwise=otherwise)

    settings, recovery = parts.environment.postgres, parts.environment.recovery
    everything = (
        PlannedStep(
            name=CHECK,
            title="check the target against the recovery window, the WAL, the disk and the cluster's identity",
            precondition="the backup repository can be read",
            expected=expected(CHECK, assumed(3)),
            commands=commands.check_database(settings),
        ),
        PlannedStep(
            name=STOP_APPLICATIONS,
            title="stop the applications that use the stores",
            precondition="the target can be reached",
            changes="the applications are stopped; their scale is kept in the journal",
            destructive=True,
            expected=expected(STOP_APPLICATIONS, assumed(30)),
            undo="`--abandon` starts them at their former scale",
            commands=commands.stop_applications(
                (recovery.store_namespace, parts.environment.namespace), recovery.application_selector
            ),
        ),
        PlannedStep(
            name=RESCUE,
            title=f"export what was written after {request.target} into {request.rescue}",
            precondition="only with --rescue: the database still answers, and there is room for a copy of it beside it",
            changes="files in that folder",
            expected=expected(RESCUE, parts.estimator.restore(Component.POSTGRES, size_of(point))),
            undo="remove the folder",
            commands=commands.rescue(settings, request.target),
        ),
        PlannedStep(
            name=RESTORE,
            title=f"restore PostgreSQL {_where(request, settings)} to {request.target}",
            precondition="no application writes; the old and the new data directory fit on the disk",
            changes="the data directory is replaced; the present one is set aside as pgdata.before-<time>",
            destructive=True,
            expected=expected(RESTORE, parts.estimator.restore(Component.POSTGRES, size_of(point))),
            undo="stop PostgreSQL, move pgdata away, move pgdata.before-<time> to pgdata, start PostgreSQL",
            commands=commands.restore_database(settings, request.target, recovery),
        ),
        PlannedStep(
            name=VERIFY,
            title="verify every heap and index, the sentinel queries, and the references into the other stores",
            precondition="PostgreSQL has left recovery",
            expected=expected(VERIFY, assumed(10)),
            undo="nothing to undo; if it fails, undo the restore or choose an earlier target",
            commands=commands.verify_database(settings),
        ),
        PlannedStep(
            name=START_APPLICATIONS,
            title="start the applications again at their former scale",
            precondition="the database is verified",
            changes="the applications run",
            expected=expected(START_APPLICATIONS, assumed(30)),
            undo="scale them down again",
            commands=commands.start_applications(recovery.application_selector),
        ),
    )
    return tuple(step for step in everything if request.rescue or step.name != RESCUE)


def _where(request: CorruptionRequest, settings: PostgresSettings) -> str:
    if not request.in_cluster:
        return "in place"
    return f"on the volume of statefulset {settings.pod.namespace}/{settings.pod.stateful_set}, by a Job,"


def _summary(parts: Parts, request: CorruptionRequest) -> tuple[str, ...]:
    now = parts.clock()
    rescued = (
        f"it is exported to {request.rescue} first; `aivo-backup restore postgres --import` puts it back"
        if request.rescue
        else "--rescue FOLDER exports it first"
    )
    if request.value:
        return (f"back to {request.target}; what was written since then is kept in the old directory alone", rescued)
    if request.target_time is None:
        return ("back to the newest archived state: at most what was not archived yet is lost",)
    lost = (now - request.target_time).total_seconds()
    return (
        f"back to {format_time(request.target_time)}",
        f"what was written in the {lost:,.0f} s since then is lost to the database; the old directory keeps it",
        rescued,
    )
