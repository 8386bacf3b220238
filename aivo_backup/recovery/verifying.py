"""Looks at all three stores after a recovery, at every object and index that the points say, and between them."""

from collections.abc import Iterator

from aivo_backup.catalog.records import Check
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.consistency import reconcile
from aivo_backup.recovery.executor import Work
from aivo_backup.recovery.parts import Parts
from aivo_backup.stores.minio.restore import Change, RestoreRequest, Selection
from aivo_backup.stores.opensearch.facts import count, expected_counts
from aivo_backup.stores.opensearch.states import count_problem
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.integrity import integrity

_TOLD = 5


def verify_everything(work: Work, parts: Parts, *, minio: str, opensearch: str) -> None:
    """Checks PostgreSQL's pages and indexes, MinIO's objects and OpenSearch's counts against the points restored.

    References that lead to nothing are told by name and are no failure: points of different stores are of different
    moments, so the newest references may be ahead of what they refer to.

    Raises:
        VerificationError: a store is not what its point says.
    """
    login = parts.database()
    checks = [
        *integrity(login, parts.environment.postgres, archives=parts.isolation is None),
        *_objects(parts, minio),
        *_indices(parts, opensearch),
    ]
    if not parts.isolation:  # a drill's copies have other names than the references lead to
        tell_references(work, parts)
    work.check(checks)


def tell_references(work: Work, parts: Parts) -> None:
    """Follows the configured references between the stores; what is missing is told by name and noted."""
    with connect(parts.database()) as connection:
        followed = reconcile(
            parts.environment.recovery.references,
            connection=connection,
            objects=parts.objects,
            cluster=parts.cluster,
        )
    for each in followed:
        work.progress(f"{'ok  ' if each.check.passed else 'MISS'} {each.check.name}: {each.check.detail}")
        work.note(**{each.check.name: each.check.detail})


def _objects(parts: Parts, point: str) -> Iterator[Check]:
    summary = parts.minio.points.load(point).summary
    for bucket in sorted(summary.buckets):
        request = RestoreRequest(point=point, selection=Selection(bucket=bucket), target_bucket=parts.bucket(bucket))
        plan = parts.minio.plan_restore(request)
        # Heartbeats go on: what is newer at the source than in the point is not wrong.
        wrong = [each.key for each in plan.examples if each.change in (Change.CREATE, Change.REPLACE)]
        number = plan.changes.get(Change.CREATE, 0) + plan.changes.get(Change.REPLACE, 0)
        yield Check(
            name=f"objects in {bucket}",
            passed=number == 0,
            detail=f"{number} are not as in the point: {', '.join(wrong[:_TOLD])}"
            if number
            else f"{plan.changes.get(Change.EQUAL, 0)} as in the point",
        )


def _indices(parts: Parts, point: str) -> Iterator[Check]:
    recorded = expected_counts(parts.catalog.point(Component.OPENSEARCH, point).facts)
    names = tuple(parts.index(index) for index in recorded)
    missing = [name for name in names if not parts.cluster.exists(name)]
    counted = count(parts.cluster, tuple(name for name in names if name not in missing))
    for index, expected in recorded.items():
        found = counted.get(parts.index(index))
        problem = "it is missing" if found is None else count_problem(expected, found)
        yield Check(
            name=f"documents in {index}", passed=not problem, detail=problem or f"{expected.documents}, as in the point"
        )
