"""Admission policies: what a group may do, where RBAC's verbs and kinds cannot say it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from aivo_backup.policy.names import PROJECT
from infra.settings import Settings
from infra.tags import labels

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An expression that must be true, and what is said when it is not."""

    expression: str
    message: str


@dataclass(frozen=True, kw_only=True)
class GuardArgs:
    """What a policy looks at.

    Attributes:
        name: its own; policies are cluster-wide, so the environment's is put before it.
        component: the label of who is guarded.
        group: the users that it holds for.
        namespaces: where; another environment in the same cluster has policies of its own.
        operation: of the API, for example ``CREATE``.
        kinds: an API group of version ``v1``, and resources of it.
    """

    settings: Settings
    name: str
    component: str
    group: str
    namespaces: Sequence[str]
    operation: str
    kinds: tuple[str, Sequence[str]]
    rules: Sequence[Rule]


def build_guard(args: GuardArgs, opts: pulumi.ResourceOptions) -> None:
    """The policy, and the binding that makes the server deny what breaks it."""
    admission = k8s.admissionregistration.v1
    logical, full = f"{PROJECT}-{args.name}", f"{PROJECT}-{args.settings.environment}-{args.name}"
    metadata = k8s.meta.v1.ObjectMetaArgs(name=full, labels=labels(args.settings, name=full, component=args.component))
    group, resources = args.kinds
    here = k8s.meta.v1.LabelSelectorRequirementArgs(
        key=_NAMESPACE_LABEL, operator="In", values=list(dict.fromkeys(args.namespaces))
    )
    policy = admission.ValidatingAdmissionPolicy(
        logical,
        metadata=metadata,
        spec=admission.ValidatingAdmissionPolicySpecArgs(
            failure_policy="Fail",
            match_constraints=admission.MatchResourcesArgs(
                namespace_selector=k8s.meta.v1.LabelSelectorArgs(match_expressions=[here]),
                resource_rules=[
                    admission.NamedRuleWithOperationsArgs(
                        api_groups=[group],
                        api_versions=["v1"],
                        operations=[args.operation],
                        resources=list(resources),
                    )
                ],
            ),
            match_conditions=[
                admission.MatchConditionArgs(name="group", expression=f"'{args.group}' in request.userInfo.groups")
            ],
            validations=[
                admission.ValidationArgs(expression=rule.expression, message=rule.message) for rule in args.rules
            ],
        ),
        opts=opts,
    )
    admission.ValidatingAdmissionPolicyBinding(
        logical,
        metadata=metadata,
        spec=admission.ValidatingAdmissionPolicyBindingSpecArgs(policy_name=full, validation_actions=["Deny"]),
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[policy])),
    )
