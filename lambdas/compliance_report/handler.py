"""Compliance report of one period; called by the daily and the monthly schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aivo_backup.evidence.periods import Period
from aivo_backup.jobs.report import make_report
from aivo_backup.policy.codec import to_json
from lambdas.invocation import invocation


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """The event. ``scheduled_for`` is the schedule's own time, UTC; one time gives one report."""

    period: Period
    scheduled_for: datetime


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, Any]:
    """Makes the report and answers with its record. A report that says "missed" is a report that was made.

    Raises:
        UsageError: the event is malformed.
        BackupError: the catalog does not answer.
    """
    with invocation(ReportRequest, event, context) as call:
        app = call.app
        made = make_report(
            catalog=app.catalog,
            s3=app.s3,
            environment=app.environment,
            period=call.request.period,
            scheduled_for=call.request.scheduled_for,
            clock=app.clock,
        )
        answer: dict[str, Any] = to_json(made.record)
        return answer
