"""How long each step will take: from what earlier recoveries and drills took, else from size and configured rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from aivo_backup.catalog.records import Recovery, RecoveryPoint
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.recovery.plan import Basis, Estimate, Scenario

_COUNTED = 3
"""The newest times that count: enough to level one odd run out, few enough to follow a store that grows."""


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """Estimates the steps of one scenario.

    Attributes:
        history: recoveries on record, oldest first; those of other scenarios, failed and resumed ones do not count.
        from_replica: what is estimated reads the second region: those that did count before the others.
    """

    environment: Environment
    history: Sequence[Recovery]
    from_replica: bool = False

    def step(self, scenario: Scenario, name: str, *, otherwise: Estimate) -> Estimate:
        """The median of a step's newest measured times; ``otherwise`` where it was never measured."""
        measured = [
            (record.from_replica, step.seconds)
            for record in self.history
            if record.scenario == scenario.value and not record.error and not record.resumed
            for step in record.steps
            if step.name == name
        ]
        # The other region is another distance away: its times are taken only where there are no better ones.
        alike = [seconds for from_replica, seconds in measured if from_replica is self.from_replica]
        times = (alike or [seconds for _, seconds in measured])[-_COUNTED:]
        if not times:
            return otherwise
        detail = f"median of the last {len(times)}" if len(times) > 1 else "the last one"
        return Estimate(seconds=round(median(times), 2), basis=Basis.MEASURED, detail=detail)

    def restore(self, component: Component, size_bytes: int) -> Estimate:
        """Size over the component's configured restore rate, in seconds."""
        rate = {
            Component.POSTGRES: self.environment.postgres.restore_bytes_per_second,
            Component.MINIO: self.environment.minio.restore_bytes_per_second,
            Component.OPENSEARCH: self.environment.opensearch.restore_bytes_per_second,
        }[component]
        return Estimate(
            seconds=round(size_bytes / rate, 1), basis=Basis.RATE, detail=f"{size_bytes:,} bytes at {rate:,} bytes/s"
        )


def assumed(seconds: float) -> Estimate:
    """A step that does not grow with the data and was never measured."""
    return Estimate(seconds=seconds, basis=Basis.ASSUMED)


def side_by_side(estimates: Sequence[Estimate]) -> Estimate:
    """The estimate of parts that run at once: the longest."""
    return max(estimates, key=lambda estimate: estimate.seconds)


def size_of(point: RecoveryPoint | None) -> int:
    """What a point stands for, in bytes; nothing where there is none."""
    return point.size_bytes if point else 0
