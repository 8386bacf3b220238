"""SNS topics, CloudWatch alarms and dashboards."""

import json
from typing import Any, cast

from botocore.exceptions import ClientError

from sandbox.provision.resources import Clients, Document, Realiser, Resource
from sandbox.provision.words import json_form, tag_list, tag_map


class Topic(Realiser):
    """A topic with its key and tags."""

    kind = "aws:sns/topic:Topic"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"key": resource.inputs.get("kmsMasterKeyId") or "", "tags": resource.tags}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        arn = self._arn(aws, resource)
        try:
            attributes = aws.sns.get_topic_attributes(TopicArn=arn)["Attributes"]
        except aws.sns.exceptions.NotFoundException:
            return None
        tags = tag_map(aws.sns.list_tags_for_resource(ResourceArn=arn).get("Tags"))
        return {"key": attributes.get("KmsMasterKeyId", ""), "tags": tags}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        arn = self._arn(aws, resource)
        if current is None:
            aws.sns.create_topic(Name=self.name(resource))
            current = {"tags": {}}
        aws.sns.set_topic_attributes(TopicArn=arn, AttributeName="KmsMasterKeyId", AttributeValue=wanted["key"])
        stale = sorted(current["tags"].keys() - wanted["tags"].keys())
        if stale:
            aws.sns.untag_resource(ResourceArn=arn, TagKeys=stale)
        if wanted["tags"]:
            aws.sns.tag_resource(ResourceArn=arn, Tags=tag_list(wanted["tags"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        arn = self._arn(aws, resource)
        return arn, {"arn": arn}

    def _arn(self, aws: Clients, resource: Resource) -> str:
        return aws.arn("sns", self.name(resource))


class TopicPolicy(Realiser):
    """Who may publish to a topic."""

    kind = "aws:sns/topicPolicy:TopicPolicy"

    def name(self, resource: Resource) -> str:
        return resource.text("arn").rpartition(":")[2]

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"policy": json_form(resource.inputs["policy"])}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        attributes = aws.sns.get_topic_attributes(TopicArn=resource.text("arn"))["Attributes"]
        policy = json_form(attributes["Policy"])
        # A topic is never without a policy: the one that it is made with stands for none.
        return None if policy.get("Id") == "__default_policy_ID" else {"policy": policy}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        policy = json.dumps(wanted["policy"])
        aws.sns.set_topic_attributes(TopicArn=resource.text("arn"), AttributeName="Policy", AttributeValue=policy)

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return resource.text("arn"), {"owner": aws.account}


class TopicSubscription(Realiser):
    """Where a topic delivers to."""

    kind = "aws:sns/topicSubscription:TopicSubscription"

    def name(self, resource: Resource) -> str:
        return f"{_topic(resource).rpartition(':')[2]}:{resource.text('protocol')}:{resource.text('endpoint')}"

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"protocol": resource.text("protocol"), "endpoint": resource.text("endpoint")}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        return self.wanted(aws, resource) if self._find(aws, resource) else None

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        aws.sns.subscribe(TopicArn=_topic(resource), Protocol=wanted["protocol"], Endpoint=wanted["endpoint"])

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        arn = self._find(aws, resource)
        return arn, {"arn": arn, "ownerId": aws.account}

    @staticmethod
    def _find(aws: Clients, resource: Resource) -> str:
        protocol, endpoint = resource.text("protocol"), resource.text("endpoint")
        for page in aws.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=_topic(resource)):
            for held in page["Subscriptions"]:
                if held.get("Protocol") == protocol and held.get("Endpoint") == endpoint:
                    return held.get("SubscriptionArn", "")
        return ""


class MetricAlarm(Realiser):
    """An alarm on one metric."""

    kind = "aws:cloudwatch/metricAlarm:MetricAlarm"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        inputs = resource.inputs
        dimensions: dict[str, str] = inputs.get("dimensions") or {}
        periods = inputs["evaluationPeriods"]
        return {
            "MetricName": resource.text("metricName"),
            "Namespace": resource.text("namespace"),
            "Statistic": inputs.get("statistic"),
            "ExtendedStatistic": inputs.get("extendedStatistic"),
            "Dimensions": [{"Name": name, "Value": value} for name, value in sorted(dimensions.items())],
            "Period": inputs["period"],
            "EvaluationPeriods": periods,
            "DatapointsToAlarm": inputs.get("datapointsToAlarm"),
            "Threshold": float(inputs["threshold"]),
            "ComparisonOperator": resource.text("comparisonOperator"),
            "TreatMissingData": inputs.get("treatMissingData") or "missing",
            "AlarmDescription": inputs.get("alarmDescription") or "",
            "AlarmActions": inputs.get("alarmActions") or [],
            "OKActions": inputs.get("okActions") or [],
            "InsufficientDataActions": inputs.get("insufficientDataActions") or [],
            "Tags": tag_list(resource.tags),
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        found = aws.cloudwatch.describe_alarms(AlarmNames=[self.name(resource)])["MetricAlarms"]
        if not found:
            return None
        held = cast("dict[str, Any]", found[0])
        tags = tag_map(aws.cloudwatch.list_tags_for_resource(ResourceARN=held["AlarmArn"]).get("Tags"))
        dimensions = sorted(held.get("Dimensions") or [], key=lambda dimension: dimension["Name"])
        shown = {key: held.get(key) for key in self.wanted(aws, resource)}
        return {**shown, "Dimensions": dimensions, "Tags": tag_list(tags)}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        if current is not None:
            aws.cloudwatch.delete_alarms(AlarmNames=[self.name(resource)])  # an update would keep old tags
        set_ = {key: value for key, value in wanted.items() if value is not None}
        aws.cloudwatch.put_metric_alarm(AlarmName=self.name(resource), **set_)

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        return name, {"arn": aws.arn("cloudwatch", f"alarm:{name}")}


class Dashboard(Realiser):
    """A CloudWatch dashboard."""

    kind = "aws:cloudwatch/dashboard:Dashboard"

    def name(self, resource: Resource) -> str:
        return resource.text("dashboardName")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"body": json_form(resource.inputs["dashboardBody"])}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            held = aws.cloudwatch.get_dashboard(DashboardName=self.name(resource))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ResourceNotFound":
                return None
            raise
        return {"body": json_form(held["DashboardBody"])}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        aws.cloudwatch.put_dashboard(DashboardName=self.name(resource), DashboardBody=json.dumps(wanted["body"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        return name, {"dashboardArn": f"arn:aws:cloudwatch::{aws.account}:dashboard/{name}"}


def _topic(resource: Resource) -> str:
    return str(resource.inputs["topic"])


REALISERS: tuple[Realiser, ...] = (Topic(), TopicPolicy(), TopicSubscription(), MetricAlarm(), Dashboard())
