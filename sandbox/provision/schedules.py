"""EventBridge Scheduler."""

from typing import Any, cast

from sandbox.provision.resources import Clients, Document, Realiser, Resource
from sandbox.provision.words import api_form, tag_list, tag_map

_DEFAULT_GROUP = "default"


class ScheduleGroup(Realiser):
    """A group of schedules with its tags."""

    kind = "aws:scheduler/scheduleGroup:ScheduleGroup"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"tags": resource.tags}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            arn = aws.scheduler.get_schedule_group(Name=self.name(resource))["Arn"]
        except aws.scheduler.exceptions.ResourceNotFoundException:
            return None
        return {"tags": tag_map(aws.scheduler.list_tags_for_resource(ResourceArn=arn).get("Tags"))}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        if current is None:
            aws.scheduler.create_schedule_group(Name=self.name(resource), Tags=tag_list(wanted["tags"]))
            return
        arn = self._arn(aws, resource)
        stale = sorted(current["tags"].keys() - wanted["tags"].keys())
        if stale:
            aws.scheduler.untag_resource(ResourceArn=arn, TagKeys=stale)
        aws.scheduler.tag_resource(ResourceArn=arn, Tags=tag_list(wanted["tags"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return self.name(resource), {"arn": self._arn(aws, resource), "state": "ACTIVE"}

    def _arn(self, aws: Clients, resource: Resource) -> str:
        return aws.arn("scheduler", f"schedule-group/{self.name(resource)}")


class Schedule(Realiser):
    """A schedule: when, and what it calls with which input."""

    kind = "aws:scheduler/schedule:Schedule"

    def name(self, resource: Resource) -> str:
        return f"{self._group(resource)}/{resource.text('name')}"

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        inputs = resource.inputs
        return {
            "Description": inputs.get("description") or "",
            "ScheduleExpression": resource.text("scheduleExpression"),
            "ScheduleExpressionTimezone": inputs.get("scheduleExpressionTimezone") or "UTC",
            "FlexibleTimeWindow": api_form(inputs["flexibleTimeWindow"]),
            "State": inputs.get("state") or "ENABLED",
            "KmsKeyArn": inputs.get("kmsKeyArn") or "",
            "Target": api_form(inputs["target"]),
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            answer = aws.scheduler.get_schedule(GroupName=self._group(resource), Name=resource.text("name"))
        except aws.scheduler.exceptions.ResourceNotFoundException:
            return None
        held = cast("dict[str, Any]", answer)
        return {key: held.get(key) or "" for key in self.wanted(aws, resource)}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        put = aws.scheduler.create_schedule if current is None else aws.scheduler.update_schedule
        set_ = {key: value for key, value in wanted.items() if value != ""}
        put(GroupName=self._group(resource), Name=resource.text("name"), **set_)

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        return name, {"arn": aws.arn("scheduler", f"schedule/{name}")}

    @staticmethod
    def _group(resource: Resource) -> str:
        return str(resource.inputs.get("groupName") or _DEFAULT_GROUP)


REALISERS: tuple[Realiser, ...] = (ScheduleGroup(), Schedule())
