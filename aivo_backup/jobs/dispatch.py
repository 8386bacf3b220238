"""Hands a restore test that outgrows a function to a Job in the cluster."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from aivo_backup.policy.environment import Component, Environment
from aivo_backup.policy.names import restore_test_job


class Jobs(Protocol):
    """Whatever starts a Job from a CronJob's template."""

    def start_job(self, namespace: str, cron_job: str, *, name: str) -> bool:
        """Answers False when a Job of that name is there already; raises :class:`BackupError` when it cannot."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """A Job that was asked to hold a restore test. It is no proof: the Job files the restore's record.

    Attributes:
        started: False when an earlier call with the same scheduled time had started it.
        reason: why the function did not hold the test itself.
    """

    name: str
    component: Component
    scheduled_for: datetime
    started: bool
    reason: str


def dispatch(
    jobs: Jobs, environment: Environment, component: Component, *, scheduled_for: datetime, reason: str
) -> Dispatched:
    """Starts the component's restore test as a Job, once for each scheduled time.

    Raises:
        ConfigurationError: the cluster has no template for it.
        AccessDeniedError, UnreachableError: the cluster refuses, or does not answer.
    """
    template = restore_test_job(component)
    name = f"{template}-{scheduled_for.astimezone(UTC):%Y%m%d%H%M%S}"
    started = jobs.start_job(environment.namespace, template, name=name)
    return Dispatched(name=name, component=component, scheduled_for=scheduled_for, started=started, reason=reason)
