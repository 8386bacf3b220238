"""What processes read at start: SSM parameters, and Secrets Manager secrets with the sandbox's own values."""

import json

from aivo_backup.errors import ConfigurationError
from sandbox.provision.resources import Clients, Document, Realiser, Resource
from sandbox.provision.words import tag_list, tag_map


class Parameter(Realiser):
    """An SSM parameter."""

    kind = "aws:ssm/parameter:Parameter"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {
            "value": resource.inputs.get("value") or resource.inputs.get("insecureValue"),
            "type": resource.text("type"),
            "key": resource.inputs.get("keyId") or "",
            "tier": resource.inputs.get("tier") or "Standard",
            "tags": resource.tags,
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        name = self.name(resource)
        try:
            held = aws.ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
        except aws.ssm.exceptions.ParameterNotFound:
            return None
        about = aws.ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Values": [name]}])["Parameters"][0]
        tags = aws.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
        return {
            "value": held.get("Value"),
            "type": held.get("Type"),
            "key": about.get("KeyId") or "",
            "tier": about.get("Tier") or "Standard",
            "tags": tag_map(tags),
        }

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        name = self.name(resource)
        key = {"KeyId": wanted["key"]} if wanted["key"] else {}
        aws.ssm.put_parameter(
            Name=name, Value=wanted["value"], Type=wanted["type"], Tier=wanted["tier"], Overwrite=True, **key
        )
        stale = sorted((current or {"tags": {}})["tags"].keys() - wanted["tags"].keys())
        if stale:
            aws.ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId=name, TagKeys=stale)
        if wanted["tags"]:
            aws.ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=name, Tags=tag_list(wanted["tags"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        name = self.name(resource)
        return name, {"arn": aws.arn("ssm", f"parameter/{name.lstrip('/')}")}


class Secret(Realiser):
    """A secret. The program only names it; the sandbox, which owns the stores, puts its own logins in.

    The last part of the name is the folder under ``.sandbox/secrets/`` whose files become the JSON object's keys.
    """

    kind = "aws:secretsmanager/secret:Secret"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        folder = aws.secrets_folder / self.name(resource).rpartition("/")[2]
        values = {file.name: file.read_text(encoding="utf-8").strip() for file in sorted(folder.glob("*"))}
        if not values:
            raise ConfigurationError(
                f"secret {self.name(resource)}: {folder} has no values for it", mend="run `aivo-backup sandbox up`"
            )
        return {"values": values, "key": resource.inputs.get("kmsKeyId") or "", "tags": resource.tags}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        name = self.name(resource)
        try:
            about = aws.secrets.describe_secret(SecretId=name)
            if about.get("DeletedDate"):
                return None
            values = json.loads(aws.secrets.get_secret_value(SecretId=name)["SecretString"])
        except aws.secrets.exceptions.ResourceNotFoundException:
            return None
        return {"values": values, "key": about.get("KmsKeyId") or "", "tags": tag_map(about.get("Tags"))}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        name, text = self.name(resource), json.dumps(wanted["values"])
        key = {"KmsKeyId": wanted["key"]} if wanted["key"] else {}
        if current is None and not self._restored(aws, name):
            aws.secrets.create_secret(Name=name, SecretString=text, Tags=tag_list(wanted["tags"]), **key)
            return
        aws.secrets.update_secret(SecretId=name, SecretString=text, **key)
        stale = sorted((current or {"tags": {}})["tags"].keys() - wanted["tags"].keys())
        if stale:
            aws.secrets.untag_resource(SecretId=name, TagKeys=stale)
        if wanted["tags"]:
            aws.secrets.tag_resource(SecretId=name, Tags=tag_list(wanted["tags"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        arn = aws.secrets.describe_secret(SecretId=self.name(resource))["ARN"]
        return arn, {"arn": arn}

    @staticmethod
    def _restored(aws: Clients, name: str) -> bool:
        """Takes back a deletion that is only scheduled; its name could not be used again before it is over."""
        try:
            aws.secrets.restore_secret(SecretId=name)
        except aws.secrets.exceptions.ResourceNotFoundException:
            return False
        return True


REALISERS: tuple[Realiser, ...] = (Parameter(), Secret())
