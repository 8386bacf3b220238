"""Alerting in AWS: topics for the three escalation levels and for the Security team, and alarms that go off when
proof is *missing*.

An alarm on failures alone stays silent when nothing runs at all. So every scheduled function has an alarm on the
number of its calls in which missing data counts as a breach: a test that was never held is an alarm of the same kind
as one that failed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import (
    PROJECT,
    SECURITY_TOPIC,
    Function,
    SecurityEvent,
    alert_topic,
    failed_events_queue,
    function_name,
    security_rule,
    security_topic,
)
from aivo_backup.policy.schedules import expected_runs, function_runs
from infra.documents import Statement, document
from infra.settings import Settings
from infra.tags import aws_tags

_MINUTE = 60
_DAY = 24 * 60 * _MINUTE
# A week shows every day that a schedule of minutes, hours and days of the week can have.
_WEEK = 7
# A Monday, so that the week is whole; the calendar's months only add calls.
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
# The most important proof climbs the runbook's escalation path, a level for each further day that it is missing.
_ESCALATED = Function.VERIFY_RESTORE
_ESCALATION_DAYS = {2: 2, 3: 3}


@dataclass(frozen=True, kw_only=True)
class AlertingArgs:
    """What alarms depend on.

    Attributes:
        key_arn: the key that topics are encrypted with.
    """

    settings: Settings
    key_arn: pulumi.Input[str]


class Alerting(pulumi.ComponentResource):
    """The topics, their subscriptions and the alarms.

    Attributes:
        topic_arns: escalation level (``level1`` to ``level3``), and ``security``, to ARN.
    """

    topic_arns: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: AlertingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Alerting", name, None, opts)
        self._args = args
        self._settings = args.settings
        alerts = args.settings.alerts
        self._topics = [
            self._build_topic(
                alert_topic(args.settings.environment, level),
                addresses,
                topic_policy(args.settings, alert_topic(args.settings.environment, level)),
            )
            for level, addresses in ((1, alerts.level1), (2, alerts.level2), (3, alerts.level3))
        ]
        self.topic_arns = {f"level{level}": topic.arn for level, topic in enumerate(self._topics, start=1)}
        for function in Function:
            self._build_function_alarms(function)
        self._build_queue_alarm()
        # The stand-in keeps no trail of calls: nothing there would ever be told.
        if not args.settings.sandbox:
            name = security_topic(args.settings.environment)
            topic = self._build_topic(name, alerts.security, security_topic_policy(args.settings, name))
            self.topic_arns[SECURITY_TOPIC] = topic.arn
            self._build_delivery_alarms()
        self.register_outputs({"topics": [topic.arn for topic in self._topics]})

    def _build_topic(self, name: str, addresses: tuple[str, ...], policy: str) -> aws.sns.Topic:
        settings = self._settings
        topic = aws.sns.Topic(
            name,
            name=name,
            kms_master_key_id=self._args.key_arn,
            tags=aws_tags(settings, component="alerting", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.sns.TopicPolicy(
            f"{name}-policy",
            arn=topic.arn,
            policy=policy,
            opts=pulumi.ResourceOptions(parent=topic),
        )
        for number, address in enumerate(addresses, start=1):
            aws.sns.TopicSubscription(
                f"{name}-{number}",
                topic=topic.arn,
                protocol="sms" if address.startswith("+") else "email",
                endpoint=address,
                opts=pulumi.ResourceOptions(parent=topic),
            )
        return topic

    def _build_function_alarms(self, function: Function) -> None:
        name = function_name(self._settings.environment, function)
        dimensions = {"FunctionName": name}
        self._build_alarm(
            f"{name}-errors",
            description=f"{function.value} failed; see its log",
            namespace="AWS/Lambda",
            metric="Errors",
            dimensions=dimensions,
            comparison="GreaterThanThreshold",
            threshold=0,
            period=5 * _MINUTE,
            missing="notBreaching",
        )
        calls = least_daily_calls(function, self._settings.verification_cron)
        # A call that failed and was repeated counts twice here, and has its own alarm above.
        self._build_alarm(
            f"{name}-missing",
            description=f"{function.value} was called less than {calls} times in a day: no proof",
            namespace="AWS/Lambda",
            metric="Invocations",
            dimensions=dimensions,
            comparison="LessThanThreshold",
            threshold=calls,
            period=_DAY,
            missing="breaching",
        )
        for level, days in _ESCALATION_DAYS.items() if function is _ESCALATED else ():
            self._build_alarm(
                f"{name}-missing-for-{days}-days",
                description=f"{function.value} has not run for {days} days: nothing is proven any more",
                namespace="AWS/Lambda",
                metric="Invocations",
                dimensions=dimensions,
                comparison="LessThanThreshold",
                threshold=1,
                period=_DAY,
                periods=days,
                missing="breaching",
                level=level,
            )

    def _build_queue_alarm(self) -> None:
        queue = failed_events_queue(self._settings.environment)
        self._build_alarm(
            f"{queue}-waiting",
            description="a scheduled call was given up; its event waits in the queue",
            namespace="AWS/SQS",
            metric="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": queue},
            comparison="GreaterThanThreshold",
            threshold=0,
            period=5 * _MINUTE,
            missing="notBreaching",
        )

    def _build_delivery_alarms(self) -> None:
        for event in security_events(self._settings):
            rule = security_rule(self._settings.environment, event)
            self._build_alarm(
                f"{rule}-undelivered",
                description="the Security team could not be told; see the rule, its topic's policy and its key",
                namespace="AWS/Events",
                metric="FailedInvocations",
                dimensions={"RuleName": rule},
                comparison="GreaterThanThreshold",
                threshold=0,
                period=5 * _MINUTE,
                missing="notBreaching",
            )

    def _build_alarm(
        self,
        name: str,
        *,
        description: str,
        namespace: str,
        metric: str,
        dimensions: dict[str, str],
        comparison: str,
        threshold: int,
        period: int,
        missing: str,
        periods: int = 1,
        level: int = 1,
    ) -> None:
        # Who is told: the level, and everybody before it.
        topics = [topic.arn for topic in self._topics[:level]]
        aws.cloudwatch.MetricAlarm(
            name,
            name=name,
            alarm_description=f"{PROJECT} {self._settings.environment}: {description}",
            namespace=namespace,
            metric_name=metric,
            dimensions=dimensions,
            statistic="Maximum" if namespace == "AWS/SQS" else "Sum",
            comparison_operator=comparison,
            threshold=threshold,
            period=period,
            evaluation_periods=periods,
            treat_missing_data=missing,
            alarm_actions=topics,
            ok_actions=topics[:1],
            tags=aws_tags(self._settings, component="alerting", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )


def least_daily_calls(function: Function, verification_cron: str) -> int:
    """How often the table of schedules calls a function on the day of the week with the fewest calls."""
    crons = [run.cron for run in function_runs(verification_cron) if run.function is function]
    days = [_MONDAY + timedelta(days=day) for day in range(_WEEK)]
    return min(sum(len(list(expected_runs(cron, day, day + timedelta(days=1)))) for cron in crons) for day in days)


def security_events(settings: Settings) -> tuple[SecurityEvent, ...]:
    """What the Security team is told of: the trail's own changes only where the trail is ours."""
    return tuple(event for event in SecurityEvent if event is not SecurityEvent.TRAIL_CHANGED or settings.audit_trail)


def topic_policy(settings: Settings, name: str) -> str:
    """Who may publish to a topic: this account's alarms, over TLS."""
    alarms = f"arn:aws:cloudwatch:{settings.region}:{settings.account_id}:alarm:{PROJECT}-*"
    return _topic_policy(settings, name, "Alarms", "cloudwatch", alarms)


def security_topic_policy(settings: Settings, name: str) -> str:
    """Who may publish to the Security team's topic: the environment's own rules, over TLS."""
    rules = f"arn:aws:events:{settings.region}:{settings.account_id}:rule/{PROJECT}-{settings.environment}-*"
    return _topic_policy(settings, name, "Rules", "events", rules)


def _topic_policy(settings: Settings, name: str, sid: str, service: str, source: str) -> str:
    topic = f"arn:aws:sns:{settings.region}:{settings.account_id}:{name}"
    return document(
        [
            Statement(
                sid=sid,
                principals={"Service": f"{service}.amazonaws.com"},
                actions=("sns:Publish",),
                resources=(topic,),
                conditions={
                    "StringEquals": {"aws:SourceAccount": settings.account_id},
                    "ArnLike": {"aws:SourceArn": source},
                },
            ),
            Statement(
                sid="OnlyOverTls",
                effect="Deny",
                principals={"AWS": "*"},
                actions=("sns:Publish",),
                resources=(topic,),
                conditions={"Bool": {"aws:SecureTransport": "false"}},
            ),
        ]
    )
