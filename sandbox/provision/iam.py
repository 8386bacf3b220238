"""Roles and their policies, weakened where the sandbox's AWS API judges more narrowly than AWS does."""

import json
from typing import Any

from aivo_backup.errors import ConfigurationError
from sandbox.provision.resources import Clients, Document, Realiser, Resource
from sandbox.provision.weakening import weakened_permissions, weakened_trust
from sandbox.provision.words import json_form, tag_list, tag_map


class Role(Realiser):
    """A role: who may take it on, for how long, and its tags."""

    kind = "aws:iam/role:Role"

    def name(self, resource: Resource) -> str:
        return resource.text("name")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        for refused in ("inlinePolicies", "managedPolicyArns"):
            if resource.inputs.get(refused):
                raise ConfigurationError(
                    f"role {self.name(resource)}: the sandbox does not realise {refused}", mend="use aws.iam.RolePolicy"
                )
        trust = json_form(resource.inputs["assumeRolePolicy"])
        return {
            "trust": weakened_trust(trust, administrator=aws.administrator),
            "session": resource.inputs.get("maxSessionDuration") or 3600,
            "description": resource.inputs.get("description") or "",
            "tags": resource.tags,
        }

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            role: dict[str, Any] = dict(aws.iam.get_role(RoleName=self.name(resource))["Role"])
        except aws.iam.exceptions.NoSuchEntityException:
            return None
        return {
            "trust": role["AssumeRolePolicyDocument"],
            "session": role.get("MaxSessionDuration"),
            "description": role.get("Description", ""),
            "tags": tag_map(aws.iam.list_role_tags(RoleName=self.name(resource))["Tags"]),
        }

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        name = self.name(resource)
        trust = json.dumps(wanted["trust"])
        if current is None:
            path = resource.inputs.get("path") or "/"
            aws.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=trust)
        else:
            aws.iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust)
            stale = sorted(current["tags"].keys() - wanted["tags"].keys())
            if stale:
                aws.iam.untag_role(RoleName=name, TagKeys=stale)
        aws.iam.update_role(RoleName=name, Description=wanted["description"], MaxSessionDuration=wanted["session"])
        if wanted["tags"]:
            aws.iam.tag_role(RoleName=name, Tags=tag_list(wanted["tags"]))

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        role = aws.iam.get_role(RoleName=self.name(resource))["Role"]
        return role["RoleName"], {"arn": role["Arn"], "uniqueId": role["RoleId"]}


class RolePolicy(Realiser):
    """A policy that is part of one role."""

    kind = "aws:iam/rolePolicy:RolePolicy"

    def name(self, resource: Resource) -> str:
        return f"{_role(resource)}:{self._policy(resource)}"

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"policy": weakened_permissions(json_form(resource.inputs["policy"]))}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            held = aws.iam.get_role_policy(RoleName=_role(resource), PolicyName=self._policy(resource))
        except aws.iam.exceptions.NoSuchEntityException:
            return None
        return {"policy": held["PolicyDocument"]}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        policy = json.dumps(wanted["policy"])
        aws.iam.put_role_policy(RoleName=_role(resource), PolicyName=self._policy(resource), PolicyDocument=policy)

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return self.name(resource), {"name": self._policy(resource)}

    @staticmethod
    def _policy(resource: Resource) -> str:
        # A policy's name needs to be unique within its role only, so the program may leave it to Pulumi.
        return str(resource.inputs.get("name") or resource.logical)


class OpenIdConnectProvider(Realiser):
    """The cluster's identity provider, which IAM trusts for service accounts."""

    kind = "aws:iam/openIdConnectProvider:OpenIdConnectProvider"

    def name(self, resource: Resource) -> str:
        return resource.text("url").removeprefix("https://")

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"audiences": sorted(resource.inputs.get("clientIdLists") or [])}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        try:
            held = aws.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=self._arn(aws, resource))
        except aws.iam.exceptions.NoSuchEntityException:
            return None
        return {"audiences": sorted(held["ClientIDList"])}

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        if current is None:
            aws.iam.create_open_id_connect_provider(
                Url=resource.text("url"),
                ClientIDList=wanted["audiences"],
                ThumbprintList=resource.inputs.get("thumbprintLists") or [],
            )
            return
        arn = self._arn(aws, resource)
        for audience in sorted(set(wanted["audiences"]) - set(current["audiences"])):
            aws.iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=audience)
        for audience in sorted(set(current["audiences"]) - set(wanted["audiences"])):
            aws.iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=audience)

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        arn = self._arn(aws, resource)
        return arn, {"arn": arn}

    def _arn(self, aws: Clients, resource: Resource) -> str:
        return f"arn:aws:iam::{aws.account}:oidc-provider/{self.name(resource)}"


def _role(resource: Resource) -> str:
    return resource.text("role").rpartition("/")[2]


REALISERS: tuple[Realiser, ...] = (Role(), RolePolicy(), OpenIdConnectProvider())
