"""Restore test of one component; called once a day by its schedule.

What outgrows a function is handed to a Job in the cluster, which runs the same use case and files the same record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aivo_backup.errors import VerificationError
from aivo_backup.jobs.dispatch import dispatch
from aivo_backup.jobs.verify import verify
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import Component
from aivo_backup.policy.verification import outgrown
from lambdas.invocation import invocation


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """The event. ``scheduled_for`` is the schedule's own time, UTC; retries carry the same one."""

    component: Component
    scheduled_for: datetime


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, Any]:
    """Restores the component's newest recovery point and answers with the restore's record.

    A test that does not fit into a function is started as a Job instead; the answer names it, and proves nothing.

    Raises:
        UsageError: the event is malformed, or the component has no recovery point yet.
        VerificationError: a check failed; the record is filed and names it.
        BackupError: the test could not be held; a failed record is filed.
    """
    with invocation(VerifyRequest, event, context) as call:
        app, component = call.app, call.request.component
        if reason := outgrown(app.environment.store(component), app.environment.verification):
            job = dispatch(
                app.cluster_jobs(), app.environment, component, scheduled_for=call.request.scheduled_for, reason=reason
            )
            call.progress(f"{reason}: handed to the Job {job.name}")
            handed_over: dict[str, Any] = to_json(job)
            return handed_over
        record = verify(
            app.store(component),
            app.catalog.newest_point(component),
            catalog=app.catalog,
            clock=app.clock,
            progress=call.progress,
            max_loss_seconds=app.environment.objectives.rpo_seconds,
        )
        if not record.passed:
            found = "; ".join(f"{check.name}: {check.detail}" for check in record.checks if not check.passed)
            raise VerificationError(
                f"{component} {record.recovery_point} did not pass its restore test: {record.error or found}",
                mend=f"see the record {record.id}, then take a new backup and test it",
            )
        answer: dict[str, Any] = to_json(record)
        return answer
