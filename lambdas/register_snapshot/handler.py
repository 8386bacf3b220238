"""Comparison of the catalog with one store's backups; called once a day by its schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aivo_backup.errors import VerificationError
from aivo_backup.jobs.register import register
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import Component
from aivo_backup.policy.retention import kept_for
from lambdas.invocation import invocation


@dataclass(frozen=True, kw_only=True)
class RegisterRequest:
    """The event. ``scheduled_for`` is the schedule's own time, UTC; one time gives one record."""

    component: Component
    scheduled_for: datetime


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, Any]:
    """Records points that the catalog lacks, names those that are gone, and answers with the comparison's record.

    Raises:
        UsageError: the event is malformed.
        VerificationError: the store lost points that the catalog names; the record is filed.
        BackupError: the store or the catalog does not answer.
    """
    with invocation(RegisterRequest, event, context) as call:
        app, component = call.app, call.request.component
        record = register(
            app.store(component),
            scheduled_for=call.request.scheduled_for,
            catalog=app.catalog,
            clock=app.clock,
            kept_for=lambda kind: kept_for(app.environment, component, kind),
        )
        if record.missing:
            raise VerificationError(
                f"{component} lost recovery points that the catalog names: {', '.join(record.missing)}",
                mend="bring their object versions back, or take a new backup",
            )
        answer: dict[str, Any] = to_json(record)
        return answer
