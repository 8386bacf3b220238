"""What has to differ between an IAM policy of the program and the one that the sandbox's AWS API enforces.

moto judges more narrowly than AWS in a few known ways, so a correct least-privilege policy would refuse the product's
own jobs there. These functions widen exactly those places and nothing else; actions are never added, apart from the
second name that moto has for one service. What is stored in a real account is always the policy as written.

What moto (5.2) does, and what follows:

- Only S3, SQS, STS and role operations of IAM are judged by their ARN; every other request is for ``*``, which no
  ARN matches. An Allow for the others is widened to ``*``, in a statement of its own where services are mixed.
- A condition it cannot evaluate holds, so a conditional Deny always denies, in bucket policies too. Those are dropped;
  conditions of an Allow stay, and are wider than AWS by themselves.
- A Deny with NotResource is read as an Allow. It is dropped.
- A request that deletes several objects is judged by the bucket's ARN instead of by each object's: a statement that
  allows s3:DeleteObject gets the bucket beside its keys.
- CloudWatch is judged under ``monitoring:``, the name that its requests are signed with.
- A role's trust knows principals by their exact ARN and fails on a service alone. The administrator plays AWS's
  services in the sandbox, so a trusted service brings the administrator's ARN with it; a trusted account is ``*``.
- A bucket takes access logs only if its policy lets S3's log delivery write to exactly the prefix at hand or to the
  whole bucket: that one statement is widened to the whole bucket.
"""

from collections.abc import Mapping
from typing import Any, cast

_JUDGED_BY_ARN = frozenset({"s3", "sqs", "sts", "iam"})
_SIGNED_AS = {"cloudwatch": "monitoring"}
_LOG_DELIVERY = "logging.s3.amazonaws.com"

Statement = dict[str, Any]


def weakened_permissions(document: Mapping[str, Any]) -> dict[str, Any]:
    """A role's permissions as the sandbox enforces them. The argument stays as it is.

    Args:
        document: an identity policy (``Version``, ``Statement``).
    """
    statements: list[Statement] = []
    for statement in _statements(document):
        if not _misread(statement):
            parts = [statement] if statement.get("Effect") == "Deny" else _allowed(statement)
            statements += [_with_second_names(part) for part in parts]
    return {**document, "Statement": statements}


def weakened_trust(document: Mapping[str, Any], *, administrator: str) -> dict[str, Any]:
    """A role's trust policy as the sandbox enforces it. The argument stays as it is.

    Args:
        document: an assume-role policy.
        administrator: ARN of the sandbox's administrator, who stands in for AWS's services.
    """
    return {**document, "Statement": [_trusted(statement, administrator) for statement in _statements(document)]}


def weakened_bucket_policy(document: Mapping[str, Any]) -> dict[str, Any]:
    """A bucket's policy as the sandbox enforces it. The argument stays as it is."""
    kept = [statement for statement in _statements(document) if not _misread(statement)]
    return {**document, "Statement": [_delivered(statement) for statement in kept]}


def _misread(statement: Statement) -> bool:
    return statement.get("Effect") == "Deny" and ("Condition" in statement or "NotResource" in statement)


def _delivered(statement: Statement) -> Statement:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping) or cast("Mapping[str, object]", principal).get("Service") != _LOG_DELIVERY:
        return statement
    buckets = sorted({resource.partition("/")[0] for resource in _listed(statement.get("Resource"))})
    return {**statement, "Resource": f"{buckets[0]}/*"} if len(buckets) == 1 else statement


def _allowed(statement: Statement) -> list[Statement]:
    resources = _listed(statement.get("Resource"))
    if not resources or "*" in resources:
        return [statement]
    if "NotAction" in statement:
        return [{**statement, "Resource": [*resources, "*"]}]
    actions = _listed(statement.get("Action"))
    by_arn = [action for action in actions if action.partition(":")[0].lower() in _JUDGED_BY_ARN]
    others = [action for action in actions if action not in by_arn]
    statement = _with_buckets(statement, by_arn, resources)
    if not others:
        return [statement]
    widened = {**statement, "Action": others, "Resource": "*"}
    if not by_arn:
        return [widened]
    if "Sid" in statement:
        widened["Sid"] = f"{statement['Sid']}Widened"  # a Sid names one statement
    return [{**statement, "Action": by_arn}, widened]


def _with_buckets(statement: Statement, actions: list[str], resources: list[str]) -> Statement:
    if "s3:DeleteObject" not in actions:
        return statement
    buckets = sorted({resource.partition("/")[0] for resource in resources} - set(resources))
    return {**statement, "Resource": [*resources, *buckets]}


def _with_second_names(statement: Statement) -> Statement:
    changed = dict(statement)
    for element in ("Action", "NotAction"):
        actions = _listed(statement.get(element))
        second = [
            f"{_SIGNED_AS[service]}:{name}"
            for service, _, name in (action.partition(":") for action in actions)
            if service in _SIGNED_AS
        ]
        if second:
            changed[element] = [*actions, *second]
    return changed


def _trusted(statement: Statement, administrator: str) -> Statement:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping):
        return statement
    named = cast("Mapping[str, object]", principal)
    accounts = _listed(named.get("AWS"))
    if any(arn.endswith(":root") for arn in accounts):
        return {**statement, "Principal": {**named, "AWS": "*"}}
    if "Service" in named:
        return {**statement, "Principal": {**named, "AWS": [*accounts, administrator]}}
    return statement


def _statements(document: Mapping[str, Any]) -> list[Statement]:
    found = document.get("Statement", [])
    return [cast("Statement", found)] if isinstance(found, dict) else list(cast("list[Statement]", found))


def _listed(value: object) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(cast("list[str]", value))
