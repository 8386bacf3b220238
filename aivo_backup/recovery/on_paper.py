"""Plans without an environment at hand: for runbooks, which are written before anything has happened."""

from dataclasses import dataclass
from datetime import UTC, datetime

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.recovery import database_corruption, partial_plan, storage_failure
from aivo_backup.recovery.estimates import Estimator
from aivo_backup.recovery.parts import Provisioner, Surveyed
from aivo_backup.recovery.plan import Plan, Scenario

_EXAMPLE = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class OnPaper:
    """Fulfils :class:`~aivo_backup.recovery.parts.Surveyed` with settings alone."""

    environment: Environment
    isolation: None = None

    @property
    def estimator(self) -> Estimator:
        """Nothing was measured."""
        return Estimator(environment=self.environment, history=())

    def newest_or_none(self, component: Component) -> RecoveryPoint | None:
        """No catalog is at hand."""
        del component


def plans(environment: Environment, provisioner: Provisioner) -> tuple[Plan, ...]:
    """The plan of each scenario."""
    here: Surveyed = OnPaper(environment=environment)
    corruption = database_corruption.CorruptionRequest(target_time=_EXAMPLE, rescue="FOLDER")
    partial = partial_plan.PartialRequest(target_time=_EXAMPLE)
    return (
        Plan(
            scenario=Scenario.DATABASE_CORRUPTION,
            environment=environment.name,
            steps=database_corruption.steps(here, corruption),
        ),
        Plan(
            scenario=Scenario.STORAGE_FAILURE,
            environment=environment.name,
            steps=storage_failure.steps(here, provisioner, storage_failure.StorageRequest()),
        ),
        Plan(scenario=Scenario.PARTIAL_LOSS, environment=environment.name, steps=partial_plan.steps(here, partial)),
    )
