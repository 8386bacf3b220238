"""How production's buckets differ from a recovery point: its listing held against the point's manifest.

It is the plan of a restore that would undo every difference, so that what is told here is what a restore would do.
Objects are told apart by the listing alone where that can tell; only where it cannot are headers or bytes read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aivo_backup.errors import UsageError
from aivo_backup.policy.environment import MinioSettings
from aivo_backup.stores.minio.plan import Change, PlannedChange, RestoreRequest, Selection
from aivo_backup.stores.minio.restore import Restorer
from aivo_backup.stores.port import EXAMPLES_BOUND, Difference, Differing, Differs, unlisted

_LOST = (Change.CREATE,)
_CHANGED = (Change.REPLACE, Change.REPLACE_NEWER)
_NEWER = (Change.REMOVE,)


@dataclass(kw_only=True)
class _Kind:
    bucket: str
    how: Differs
    each: Differing
    count: int = 0
    examples: list[str] = field(default_factory=list[str])

    def add(self, key: str) -> None:
        self.each(self.bucket, self.how, key)
        self.count += 1
        if len(self.examples) < EXAMPLES_BOUND:
            self.examples.append(key)


def differences(
    restorer: Restorer,
    settings: MinioSettings,
    point: str,
    buckets: Sequence[str],
    *,
    each: Differing = unlisted,
) -> tuple[Difference, ...]:
    """One difference for each bucket, in the order of their names.

    Args:
        buckets: those to compare; when empty all that the point or production has, but for the heartbeat's, which
            differs always.
        each: takes the key of every object that differs.

    Raises:
        UsageError: there is no such point, or neither it nor production has one of the buckets.
        DamagedManifestError: the point's manifest is missing or damaged.
    """
    held = set(restorer.points.load(point).summary.buckets)
    present = set(restorer.target.buckets())
    unknown = sorted(set(buckets) - held - present)
    if unknown:
        raise UsageError(
            f"neither {point} nor production has a bucket {', '.join(unknown)}",
            mend=f"the point holds {', '.join(sorted(held)) or 'none'}",
        )
    wanted = set(buckets) or (held | (present & set(settings.buckets or present))) - {settings.heartbeat_bucket}
    return tuple(
        _difference(restorer, point, bucket, each, gone=bucket not in present)
        if bucket in held
        else _all_newer(restorer, bucket, each)
        for bucket in sorted(wanted)
    )


def _difference(restorer: Restorer, point: str, bucket: str, each: Differing, *, gone: bool) -> Difference:
    kinds = tuple(_Kind(bucket=bucket, how=how, each=each) for how in (Differs.LOST, Differs.CHANGED, Differs.NEWER))

    def note(planned: PlannedChange) -> None:
        for kind, changes in zip(kinds, (_LOST, _CHANGED, _NEWER), strict=True):
            if planned.change in changes:
                kind.add(planned.key)
        if planned.change is Change.GONE:
            kinds[1 if planned.present else 0].add(planned.key)

    restorer.plan(
        RestoreRequest(point=point, selection=Selection(bucket=bucket), overwrite_newer=True, exact=True), each=note
    )
    lost, changed, newer = kinds
    return Difference(
        unit=bucket,
        gone=gone,
        lost=lost.count,
        changed=changed.count,
        newer=newer.count,
        examples=tuple([*lost.examples, *changed.examples, *newer.examples][:EXAMPLES_BOUND]),
    )


def _all_newer(restorer: Restorer, bucket: str, each: Differing) -> Difference:
    newer = _Kind(bucket=bucket, how=Differs.NEWER, each=each)
    for listed in restorer.target.objects(bucket):
        newer.add(listed.key)
    return Difference(unit=bucket, newer=newer.count, examples=tuple(newer.examples))
