"""Queues."""

from sandbox.provision.resources import Clients, Document, Realiser, Resource

_ATTRIBUTES = {
    "kmsMasterKeyId": "KmsMasterKeyId",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "policy": "Policy",
}


class Queue(Realiser):
    """An SQS queue with the attributes that the program sets, and its tags."""

    kind = "aws:sqs/queue:Queue"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        set_ = {name: resource.inputs.get(key) for key, name in _ATTRIBUTES.items()}
        return {
            "attributes": {name: str(value) for name, value in set_.items() if value is not None},
            "tags": resource.tags,
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            url = aws.sqs.get_queue_url(QueueName=self.name(resource))["QueueUrl"]
        except aws.sqs.exceptions.QueueDoesNotExist:
            return None
        held: dict[str, str] = {
            str(key): value
            for key, value in aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"].items()
        }
        compared = self.wanted(aws, resource)["attributes"]
        return {
            "attributes": {name: held[name] for name in compared if name in held},
            "tags": dict(aws.sqs.list_queue_tags(QueueUrl=url).get("Tags", {})),
        }

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        if current is None:
            aws.sqs.create_queue(QueueName=self.name(resource), Attributes=wanted["attributes"], tags=wanted["tags"])
            return
        url = aws.sqs.get_queue_url(QueueName=self.name(resource))["QueueUrl"]
        aws.sqs.set_queue_attributes(QueueUrl=url, Attributes=wanted["attributes"])
        stale = sorted(current["tags"].keys() - wanted["tags"].keys())
        if stale:
            aws.sqs.untag_queue(QueueUrl=url, TagKeys=stale)
        if wanted["tags"]:
            aws.sqs.tag_queue(QueueUrl=url, Tags=wanted["tags"])

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        url = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return url, {"arn": aws.arn("sqs", name), "url": url}


REALISERS: tuple[Realiser, ...] = (Queue(),)
