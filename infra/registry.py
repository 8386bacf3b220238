"""The image repository. Which image runs is not decided here: its digest is stack configuration, reviewed like code."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import PROJECT
from infra.settings import Settings
from infra.tags import aws_tags

# What no digest of a stack names any more may go after a quarter: long enough to go back to.
_UNTAGGED_DAYS = 90


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """What the repository depends on.

    Attributes:
        key_arn: the key that images are encrypted with.
    """

    settings: Settings
    key_arn: pulumi.Input[str]


class Registry(pulumi.ComponentResource):
    """The repository that jobs, the sidecar and functions take their one image from.

    Attributes:
        url: what an image reference begins with.
    """

    url: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Registry", name, None, opts)
        settings = args.settings
        repository = aws.ecr.Repository(
            "images",
            name=f"{PROJECT}-{settings.environment}",
            # A tag that was tested can never come to mean another image.
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "KMS", "kms_key": args.key_arn}],
            tags=aws_tags(settings, component="images", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )
        untagged = {
            "rulePriority": 1,
            "description": "images without a tag",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": _UNTAGGED_DAYS,
            },
            "action": {"type": "expire"},
        }
        aws.ecr.LifecyclePolicy(
            "images-lifecycle",
            repository=repository.name,
            policy=json.dumps({"rules": [untagged]}),
            opts=pulumi.ResourceOptions(parent=repository),
        )
        self.url = repository.repository_url
        self.register_outputs({"url": self.url})
