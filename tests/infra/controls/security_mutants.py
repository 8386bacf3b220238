"""The plans in which something would happen to the backups, and the Security team would not be told."""

import json
from collections.abc import Callable

from aivo_backup.policy.names import SecurityEvent
from tests.infra.controls.security import security_team_is_told
from tests.infra.plans import Mutation, Plan, drop_statement, edit_policy, remove, set_input, widened

_AT_RISK = "aivo-backup-prod-key-at-risk"
_TEAM, _TO_TEAM = "aivo-backup-prod-security-policy", "SecurityRulesToTopic"
_ALL_OF_S3 = '{"source": ["aws.s3"]}'


def _watched_keys(change: Callable[[list[str]], list[str]]) -> Mutation:
    """A mutation of the keys that one rule watches."""

    def mutate(plan: Plan) -> None:
        inputs = plan.one(":EventRule", _AT_RISK).inputs
        pattern = json.loads(inputs["eventPattern"])
        pattern["detail"]["resources"]["ARN"] = change(pattern["detail"]["resources"]["ARN"])
        inputs["eventPattern"] = json.dumps(pattern)

    return mutate


SECURITY: list[tuple[Callable[[Plan], list[str]], str, Mutation]] = [
    *(
        (security_team_is_told, f"no rule {rule}", remove(":EventRule", f"aivo-backup-prod-{rule}"))
        for rule in SecurityEvent
    ),
    *(
        (security_team_is_told, f"no {rule} there", remove(":EventRule", f"aivo-backup-prod-{rule}-replica"))
        for rule in SecurityEvent
        if rule is not SecurityEvent.TRAIL_CHANGED
    ),
    (security_team_is_told, "not handed on", remove(":EventTarget", f"{_AT_RISK}-home")),
    (
        security_team_is_told,
        "may not hand on",
        drop_statement(":RolePolicy", "security-forwarder-policy", "HandToHomeRegion"),
    ),
    (
        security_team_is_told,
        "home does not know the copies",
        _watched_keys(lambda arns: [arn for arn in arns if "-replica-" not in arn]),
    ),
    (security_team_is_told, "too long", _watched_keys(lambda arns: arns * 9)),
    (security_team_is_told, "switched off", set_input(":EventRule", _AT_RISK, ("state",), "DISABLED")),
    (security_team_is_told, "no target", remove(":EventTarget", f"{_AT_RISK}-topic")),
    (security_team_is_told, "all of S3", set_input(":EventRule", _AT_RISK, ("eventPattern",), _ALL_OF_S3)),
    (security_team_is_told, "nobody listens", remove(":TopicSubscription", "aivo-backup-prod-security-1")),
    (security_team_is_told, "closed topic", drop_statement(":TopicPolicy", _TEAM, "Rules")),
    (
        security_team_is_told,
        "a condition that KMS never meets",
        edit_policy(
            "kms/key:Key", "operations-key", widened(_TO_TEAM, "StringEquals", "aws:SourceAccount", "333333333333")
        ),
    ),
]
