"""EventBridge Scheduler: when functions are called. The table itself is :mod:`aivo_backup.policy.schedules`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import PROJECT, Function, schedule_group
from aivo_backup.policy.schedules import FunctionRun, eventbridge_cron, function_runs
from infra.settings import Settings
from infra.tags import aws_tags

# An event that could not be delivered for two hours is too late to be that day's proof; the alarm has gone off.
_OLDEST_EVENT_SECONDS = 2 * 3600
# A throttled or faulty API is over within these tries, whose waits grow; what is left goes to the queue.
_RETRIES = 5


@dataclass(frozen=True, kw_only=True)
class SchedulesArgs:
    """What the schedules depend on.

    Attributes:
        function_arns: every function that the table calls.
        role_arn: the role that calls them.
        failed_events_arn: the queue for calls that could not be delivered.
    """

    settings: Settings
    function_arns: Mapping[Function, pulumi.Output[str]]
    role_arn: pulumi.Input[str]
    failed_events_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str]


class Schedules(pulumi.ComponentResource):
    """The schedule group and one schedule per row of the table.

    Attributes:
        names: the group's name to those of its schedules.
    """

    names: dict[str, list[str]]

    def __init__(self, name: str, args: SchedulesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Schedules", name, None, opts)
        self._args = args
        settings = args.settings
        self._group = aws.scheduler.ScheduleGroup(
            "schedules",
            name=schedule_group(settings.environment),
            tags=aws_tags(settings, component="schedules", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        runs = function_runs(settings.verification_cron)
        for run in runs:
            self._build_schedule(run)
        self.names = {schedule_group(settings.environment): [run.name for run in runs]}
        self.register_outputs({"group": self._group.name})

    def _build_schedule(self, run: FunctionRun) -> None:
        args = self._args
        aws.scheduler.Schedule(
            run.name,
            name=run.name,
            group_name=self._group.name,
            description=f"{PROJECT}: {run.function.value}",
            schedule_expression=eventbridge_cron(run.cron),
            schedule_expression_timezone="UTC",
            # The event carries the schedule's own time, and an auditor compares it: no window to drift in.
            flexible_time_window={"mode": "OFF"},
            kms_key_arn=args.key_arn,
            target={
                "arn": args.function_arns[run.function],
                "role_arn": args.role_arn,
                "input": json.dumps(run.event, sort_keys=True),
                "retry_policy": {
                    "maximum_event_age_in_seconds": _OLDEST_EVENT_SECONDS,
                    "maximum_retry_attempts": _RETRIES,
                },
                "dead_letter_config": {"arn": args.failed_events_arn},
            },
            opts=pulumi.ResourceOptions(parent=self._group),
        )
