"""KMS keys and aliases. A key has no name of its own, so it is known again by a tag that only the sandbox gives it."""

import json
from typing import Any, cast

from botocore.exceptions import ClientError

from sandbox.provision.resources import Clients, Document, Realiser, Resource
from sandbox.provision.words import json_form, tag_map

_NAME_TAG = "sandbox:resource"
_DEFAULT_DELETION_DAYS = 30


class Key(Realiser):
    """A customer-managed key with its policy, rotation and tags; one scheduled for deletion or disabled comes back."""

    kind = "aws:kms/key:Key"

    def name(self, resource: Resource) -> str:
        return resource.logical

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {
            "description": resource.inputs.get("description") or "",
            "usage": resource.inputs.get("keyUsage") or "ENCRYPT_DECRYPT",
            "spec": resource.inputs.get("customerMasterKeySpec") or "SYMMETRIC_DEFAULT",
            "multi-region": bool(resource.inputs.get("multiRegion", False)),
            "rotation": bool(resource.inputs.get("enableKeyRotation", False)),
            "policy": json_form(resource.inputs.get("policy")),
            "tags": {**resource.tags, _NAME_TAG: resource.logical},
            "state": "Enabled" if resource.inputs.get("isEnabled", True) else "Disabled",
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        key = self._find(aws, resource)
        if key is None:
            return None
        about = aws.kms.describe_key(KeyId=key)["KeyMetadata"]
        wants_policy = resource.inputs.get("policy") is not None
        policy = aws.kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"] if wants_policy else None
        return {
            "description": about.get("Description", ""),
            "usage": about.get("KeyUsage"),
            "spec": about.get("KeySpec"),
            "multi-region": about.get("MultiRegion", False),
            "rotation": _rotates(aws, key),
            "policy": json_form(policy),
            "tags": _tags(aws, key),
            "state": about.get("KeyState"),
        }

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        key = self._find(aws, resource) or self._create(aws, wanted)
        if current is not None and current["state"] == "PendingDeletion":
            aws.kms.cancel_key_deletion(KeyId=key)
        if wanted["state"] == "Enabled":
            aws.kms.enable_key(KeyId=key)
        else:
            aws.kms.disable_key(KeyId=key)
        aws.kms.update_key_description(KeyId=key, Description=wanted["description"])
        if wanted["policy"] is not None:
            aws.kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(wanted["policy"]))
        if wanted["rotation"]:
            aws.kms.enable_key_rotation(KeyId=key)
        elif _rotates(aws, key):
            aws.kms.disable_key_rotation(KeyId=key)
        stale = sorted(_tags(aws, key).keys() - wanted["tags"].keys())
        if stale:
            aws.kms.untag_resource(KeyId=key, TagKeys=stale)
        aws.kms.tag_resource(KeyId=key, Tags=_tag_list(wanted["tags"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        key = self._find(aws, resource) or ""
        return key, {"keyId": key, "arn": aws.arn("kms", f"key/{key}")}

    @staticmethod
    def _create(aws: Clients, wanted: Document) -> str:
        made = aws.kms.create_key(
            KeyUsage=wanted["usage"],
            KeySpec=wanted["spec"],
            MultiRegion=wanted["multi-region"],
            Tags=_tag_list({_NAME_TAG: wanted["tags"][_NAME_TAG]}),
        )
        return made["KeyMetadata"]["KeyId"]

    @staticmethod
    def _find(aws: Clients, resource: Resource) -> str | None:
        if resource.logical not in aws.found_keys:
            for page in aws.kms.get_paginator("list_keys").paginate():
                for key in (entry.get("KeyId", "") for entry in page["Keys"]):
                    aws.found_keys[_tags(aws, key).get(_NAME_TAG, "")] = key
        return aws.found_keys.get(resource.logical)


class Alias(Realiser):
    """An alias and the key that it points to."""

    kind = "aws:kms/alias:Alias"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"key": resource.text("targetKeyId").rpartition("/")[2]}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        for page in aws.kms.get_paginator("list_aliases").paginate():
            for alias in page["Aliases"]:
                if alias.get("AliasName") == self.name(resource):
                    return {"key": alias.get("TargetKeyId")}
        return None

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        put = aws.kms.create_alias if current is None else aws.kms.update_alias
        put(AliasName=self.name(resource), TargetKeyId=wanted["key"])

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        key = resource.text("targetKeyId").rpartition("/")[2]
        name = self.name(resource)
        return name, {"arn": aws.arn("kms", name), "targetKeyArn": aws.arn("kms", f"key/{key}")}


def _rotates(aws: Clients, key: str) -> bool:
    try:
        return aws.kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "UnsupportedOperationException":
            return False  # asymmetric keys do not rotate
        raise


def _tags(aws: Clients, key: str) -> dict[str, str]:
    answer = cast("dict[str, Any]", aws.kms.list_resource_tags(KeyId=key))
    return tag_map(answer.get("Tags"), key="TagKey", value="TagValue")


def _tag_list(tags: dict[str, str]) -> Any:
    return [{"TagKey": key, "TagValue": value} for key, value in sorted(tags.items())]


REALISERS: tuple[Realiser, ...] = (Key(), Alias())
