"""Storage system failure: provision again, restore all three stores side by side, point to them, verify, resume."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.errors import BackupError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Component, PostgresSettings
from aivo_backup.recovery import commands
from aivo_backup.recovery.estimates import assumed, side_by_side, size_of
from aivo_backup.recovery.executor import START_APPLICATIONS, STOP_APPLICATIONS, Procedure, Work
from aivo_backup.recovery.parts import Open, Parts, Provisioner, Surveyed
from aivo_backup.recovery.plan import Estimate, Plan, PlannedStep, Scenario
from aivo_backup.recovery.restores import remove_drilled, restore_minio, restore_opensearch, restore_postgres
from aivo_backup.recovery.verifying import verify_everything
from aivo_backup.stores.postgres.targets import Target

CHECK = "check-points"
PROVISION = "provision-storage"
RESTORE = "restore-stores"
REPOSITORY = "prepare-backups"
REDIRECT = "redirect-endpoints"
VERIFY = "verify-stores"


@dataclass(frozen=True, kw_only=True)
class StorageRequest:
    """What is asked for.

    Attributes:
        from_replica: the primary backup buckets are gone too; everything comes from the second region.
        minio, opensearch: recovery points; the newest when empty. PostgreSQL goes to the newest archived state.
        in_cluster: the database on the new volume of its StatefulSet, by a Job.
        adapter_named: though an operator owns it, or it is replicated.
    """

    from_replica: bool = False
    minio: str = ""
    opensearch: str = ""
    in_cluster: bool = False
    adapter_named: bool = False


@dataclass(frozen=True, kw_only=True)
class _Points:
    minio: RecoveryPoint
    opensearch: RecoveryPoint


def storage_failure(
    open_parts: Open, provisioner: Provisioner, request: StorageRequest, *, initialise: Callable[[Endpoints], None]
) -> Procedure:
    """The recovery, not begun.

    Args:
        open_parts: opens the environment's parts on some endpoints.
        initialise: what ``aivo-backup init`` does, on some endpoints.
    """
    parts = open_parts(Endpoints())

    def points() -> _Points:
        return _Points(
            minio=_point(parts, Component.MINIO, request.minio),
            opensearch=_point(parts, Component.OPENSEARCH, request.opensearch),
        )

    def renewed(work: Work) -> Parts:
        return parts if parts.isolation else open_parts(_endpoints(work))

    def check(work: Work) -> None:
        chosen = points()
        parts.minio.points.load(chosen.minio.id)
        info = parts.postgres.info()
        newest = max(backup.stopped for backup in info.sets) if info.sets else None
        if newest is None:
            raise BackupError("the repository of PostgreSQL holds no backup set", mend="try --from-replica")
        work.progress(f"PostgreSQL from the set of {newest:%Y-%m-%d %H:%M:%S} UTC and all WAL after it")
        work.progress(f"MinIO from {chosen.minio.id}, OpenSearch from {chosen.opensearch.id}")
        work.note(minio=chosen.minio.id, opensearch=chosen.opensearch.id)

    def provision(work: Work) -> None:
        where = provisioner.provision(work.progress)
        # Names of the stores alone: nothing that an endpoint may carry beyond that belongs into a journal.
        work.note(endpoints=json.dumps(to_json(where)))

    def restore(work: Work) -> None:
        _restore_all(work, renewed(work))

    def redirect(work: Work) -> None:
        provisioner.redirect(_endpoints(work), work.progress)

    def verify(work: Work) -> None:
        verify_everything(work, renewed(work), minio=_noted(work, "minio"), opensearch=_noted(work, "opensearch"))

    def tidy() -> None:
        remove_drilled(parts, Component.MINIO, Component.OPENSEARCH)

    return Procedure(
        plan=Plan(
            scenario=Scenario.STORAGE_FAILURE,
            environment=parts.environment.name,
            from_replica=request.from_replica,
            isolated=parts.isolation is not None,
            summary=_summary(parts, request),
            steps=steps(parts, provisioner, request),
        ),
        request=request,
        actions={
            CHECK: check,
            PROVISION: provision,
            RESTORE: restore,
            REPOSITORY: lambda work: initialise(_endpoints(work)),
            REDIRECT: redirect,
            VERIFY: verify,
        },
        applications=parts.applications,
        leases=parts.held(*Component),
        tidy=tidy,
    )


def _restore_all(work: Work, parts: Parts) -> None:
    """All three at once; each that ended well is noted, so that a later attempt leaves it alone.

    Raises:
        BackupError: the first failure; the others are its notes. Every restore has ended by then.
    """
    lost_at = work.journal.entries.started
    minio = parts.catalog.point(Component.MINIO, _noted(work, "minio"))
    opensearch = parts.catalog.point(Component.OPENSEARCH, _noted(work, "opensearch"))
    jobs: dict[Component, Callable[[], None]] = {
        Component.POSTGRES: lambda: restore_postgres(work, parts, Target(), planned={}),
        Component.MINIO: lambda: restore_minio(work, parts, minio, lost_at=lost_at),
        Component.OPENSEARCH: lambda: restore_opensearch(work, parts, opensearch, lost_at=lost_at),
    }

    def run(component: Component) -> None:
        done = f"{component.value} done"
        if done in work.notes:
            work.progress(f"{component}: restored before")
            return
        jobs[component]()
        work.note(**{done: True})

    with ThreadPoolExecutor(len(jobs)) as pool:
        tasks = {component: pool.submit(run, component) for component in jobs}
    failures = [error for task in tasks.values() if (error := task.exception()) is not None]
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"and: {other}")
        raise failures[0]


def _endpoints(work: Work) -> Endpoints:
    return from_json(Endpoints, json.loads(str(work.noted(PROVISION)["endpoints"])), where="journal")


def _noted(work: Work, name: str) -> str:
    return str(work.noted(CHECK)[name])


def _point(parts: Parts, component: Component, name: str) -> RecoveryPoint:
    return parts.catalog.point(component, name) if name else parts.catalog.newest_point(component)


def _summary(parts: Parts, request: StorageRequest) -> tuple[str, ...]:
    where = "the second region" if request.from_replica else "the backup buckets"
    lines = [f"everything is restored from {where} onto new, empty storage"]
    now = parts.clock()
    for component in (Component.MINIO, Component.OPENSEARCH):
        point = parts.newest_or_none(component)
        if point:
            lines.append(f"{component}: {point.id}, {_ago(now, point.recoverable_at)} old; what came later is lost")
    lines.append("postgres: the newest archived WAL; at most what was not archived yet is lost")
    return tuple(lines)


def _where(request: StorageRequest, settings: PostgresSettings) -> str:
    if not request.in_cluster:
        return ""
    return f" (by a Job on the volume of statefulset {settings.pod.namespace}/{settings.pod.stateful_set})"


def _ago(now: datetime, then: datetime) -> str:
    return f"{(now - then).total_seconds():,.0f} s"


def steps(parts: Surveyed, provisioner: Provisioner, request: StorageRequest) -> tuple[PlannedStep, ...]:
    """The plan's steps. A drill has no storage to provision and nobody to point elsewhere."""
    settings, recovery = parts.environment, parts.environment.recovery

    def expected(name: str, otherwise: Estimate) -> Estimate:
        return parts.estimator.step(Scenario.STORAGE_FAILURE, name, otherwise=otherwise)

    rates = [parts.estimator.restore(each, size_of(parts.newest_or_none(each))) for each in Component]
    everything = [
        PlannedStep(
            name=CHECK,
            title="look whether every store has a recovery point that can be read",
            precondition=f"{'the second region' if request.from_replica else 'the backup buckets'} can be read",
            expected=expected(CHECK, assumed(5)),
            commands=(
                f"pgbackrest info --stanza={settings.postgres.stanza}",
                f"aws s3 ls s3://{settings.bucket(Component.MINIO)}/metadata/minio/",
                f"aws s3 ls s3://{settings.bucket(Component.OPENSEARCH)}/{settings.opensearch.base_path}/",
            ),
        ),
        PlannedStep(
            name=STOP_APPLICATIONS,
            title="stop the applications that use the stores",
            precondition="every store has a recovery point",
            changes="the applications are stopped; their scale is kept in the journal",
            destructive=True,
            expected=expected(STOP_APPLICATIONS, assumed(30)),
            undo="`--abandon` starts them at their former scale",
            commands=commands.stop_applications(
                (recovery.store_namespace, settings.namespace), recovery.application_selector
            ),
        ),
        PlannedStep(
            name=PROVISION,
            title="provision infrastructure and empty storage again, looking at what is really there",
            precondition="the applications are stopped",
            changes="what is missing is made; what is left of lost storage is set aside",
            destructive=True,
            expected=expected(PROVISION, assumed(300)),
            undo="the old storage is kept beside the new one",
            commands=provisioner.provision_commands(),
        ),
        PlannedStep(
            name=RESTORE,
            title=f"restore PostgreSQL{_where(request, settings.postgres)}, MinIO and OpenSearch side by side",
            precondition="the new storage is empty and answers",
            changes="the new storage is filled; a database that was initialised on it since is set aside",
            expected=expected(RESTORE, side_by_side(rates)),
            undo="nothing to undo: the new storage was empty",
            commands=(
                *commands.restore_database(settings.postgres, Target(), recovery),
                *commands.restore_objects(settings.minio, settings.bucket(Component.MINIO)),
                *commands.restore_indices(settings.opensearch),
            ),
        ),
        PlannedStep(
            name=REDIRECT,
            title="point configuration and Services to the new storage, and roll out what reads them",
            precondition="the stores are restored",
            changes="clients reach the new storage",
            destructive=True,
            expected=expected(REDIRECT, assumed(60)),
            undo="publish the former endpoints again",
            commands=provisioner.redirect_commands(),
        ),
        PlannedStep(
            name=REPOSITORY,
            title="make sure that backups go on: cipher envelope, stanza, snapshot repository, heartbeats",
            precondition="the stores answer at their new endpoints",
            changes="what a new backup bucket lacks is made",
            expected=expected(REPOSITORY, assumed(15)),
            commands=(f"pgbackrest stanza-create --stanza={settings.postgres.stanza}", "aivo-backup init"),
        ),
        PlannedStep(
            name=VERIFY,
            title="verify every heap and index, every object and document count, and the references between the stores",
            precondition="every store answers at its new endpoint",
            expected=expected(VERIFY, assumed(30)),
            undo="nothing to undo; if it fails, choose other points",
            commands=commands.verify_database(settings.postgres),
        ),
        PlannedStep(
            name=START_APPLICATIONS,
            title="start the applications again at their former scale",
            precondition="all stores are verified",
            changes="the applications run",
            expected=expected(START_APPLICATIONS, assumed(30)),
            undo="scale them down again",
            commands=commands.start_applications(recovery.application_selector),
        ),
    ]
    if parts.isolation:
        return tuple(replace(step, destructive=False) for step in everything if step.name in (CHECK, RESTORE, VERIFY))
    return tuple(everything)
