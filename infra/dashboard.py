"""One CloudWatch dashboard: what a person on call looks at first."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import PROJECT, Function, failed_events_queue, function_name
from infra.settings import Settings

_WIDTH, _HEIGHT = 12, 6
_HOUR, _DAY = 3600, 86400


@dataclass(frozen=True, kw_only=True)
class DashboardArgs:
    """What the dashboard shows.

    Attributes:
        bucket_names: use to bucket name.
    """

    settings: Settings
    bucket_names: Mapping[str, str]


class Dashboard(pulumi.ComponentResource):
    """The dashboard."""

    def __init__(self, name: str, args: DashboardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Dashboard", name, None, opts)
        aws.cloudwatch.Dashboard(
            "dashboard",
            dashboard_name=f"{PROJECT}-{args.settings.environment}",
            dashboard_body=dashboard_body(args.settings, args.bucket_names),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def dashboard_body(settings: Settings, bucket_names: Mapping[str, str]) -> str:
    """The dashboard as CloudWatch reads it: proof first, then failures, then what fills up."""
    functions = [function_name(settings.environment, function) for function in Function]
    charts = [
        ("Calls per day: less than expected is a day without proof", "Sum", _DAY, _lambda("Invocations", functions)),
        ("Errors", "Sum", _HOUR, _lambda("Errors", functions)),
        ("Duration (the limit is 900,000 ms)", "Maximum", _HOUR, _lambda("Duration", functions)),
        (
            "Events given up",
            "Maximum",
            _HOUR,
            [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", failed_events_queue(settings.environment)]],
        ),
        (
            "Bucket sizes",
            "Average",
            _DAY,
            [
                ["AWS/S3", "BucketSizeBytes", "StorageType", storage, "BucketName", bucket]
                for bucket in bucket_names.values()
                for storage in ("StandardStorage", "StandardIAStorage")
            ],
        ),
    ]
    widgets = [
        {
            "type": "metric",
            "x": (number % 2) * _WIDTH,
            "y": (number // 2) * _HEIGHT,
            "width": _WIDTH,
            "height": _HEIGHT,
            "properties": {
                "title": title,
                "region": settings.region,
                "stat": statistic,
                "period": period,
                "view": "timeSeries",
                "metrics": metrics,
            },
        }
        for number, (title, statistic, period, metrics) in enumerate(charts)
    ]
    return json.dumps({"widgets": widgets})


def _lambda(metric: str, functions: list[str]) -> list[list[str]]:
    return [["AWS/Lambda", metric, "FunctionName", name] for name in functions]
