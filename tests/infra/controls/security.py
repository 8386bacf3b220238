"""Controls of what the Security team is told, judged by events as CloudTrail writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from tests.infra.plans import Document, Plan, listed, statements

# EventBridge's quota, "event pattern size".
_LONGEST_PATTERN = 2048
_KEY_CALLS = ("DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant")
_BUCKET_CALLS = (
    "DeleteBucket",
    "PutBucketLifecycle",
    "PutBucketObjectLockConfiguration",
    "PutBucketPolicy",
    "PutBucketVersioning",
)


def security_team_is_told(plan: Plan) -> list[str]:
    """Whatever endangers the backups reaches the Security team; what happens every day does not.

    Every such call is matched by an enabled rule whose target is the team's topic, the topic lets the rules publish,
    their key lets them encrypt, and in production somebody listens. A call in the second region is matched by a rule
    there that may hand it to the home region's event bus, and by one of the home region. No pattern is longer than
    EventBridge takes.
    """
    if plan.stack == "local":
        return []
    team = [topic.inputs["name"] for topic in plan.all(":Topic") if topic.inputs["name"].endswith("-security")]
    if len(team) != 1:
        return ["the Security team has no topic"]
    telling = _patterns(plan, lambda target: _topic(target["arn"]) == team[0])
    handing = _patterns(plan, lambda target: _hands_home(plan, target))
    findings = [f"not told: {what}" for what, event in _alarming(plan) if not _any(telling, event)]
    for what, event in _alarming_there(plan):
        if not (_any(handing, event) and _any(telling, event)):
            findings.append(f"not told: {what} in the second region")
    findings += [f"told every day: {what}" for what, event in _ordinary(plan) if _any([*telling, *handing], event)]
    findings += [
        f"{rule.name}: longer than EventBridge takes"
        for rule in plan.all(":EventRule")
        if len(rule.inputs["eventPattern"]) > _LONGEST_PATTERN
    ]
    policy = plan.one(":TopicPolicy", f"{team[0]}-policy").document()
    key = plan.one("kms/key:Key", "operations-key").document()
    for document, action in ((policy, "sns:Publish"), (key, "kms:GenerateDataKey"), (key, "kms:Decrypt")):
        if not any(_for_rules(statement, action) for statement in statements(document)):
            findings.append(f"rules may not {action}")
    listening = [entry for entry in plan.all(":TopicSubscription") if _topic(entry.inputs["topic"]) == team[0]]
    if plan.settings()["production"] and not listening:
        findings.append("nobody listens")
    return findings


def _patterns(plan: Plan, wanted: Callable[[Mapping[str, Any]], bool]) -> list[Document]:
    """Of the enabled rules with such a target; by its parent, since rules of both regions have the same names."""
    rules = {target.parent.rpartition("::")[2] for target in plan.all(":EventTarget") if wanted(target.inputs)}
    return [
        json.loads(rule.inputs["eventPattern"])
        for rule in plan.all(":EventRule")
        if rule.name in rules and rule.inputs.get("state") != "DISABLED"
    ]


def _hands_home(plan: Plan, target: Mapping[str, Any]) -> bool:
    bus: str = target["arn"]
    if ":event-bus/" not in bus or not target.get("roleArn"):
        return False
    policy = plan.one(":RolePolicy", f"{target['roleArn'].rpartition('aivo-backup-' + plan.stack + '-')[2]}-policy")
    return any(
        statement["Effect"] == "Allow"
        and "events:PutEvents" in listed(statement["Action"])
        and bus in listed(statement["Resource"])
        for statement in statements(policy.document())
    )


def _any(patterns: Sequence[Document], event: Document) -> bool:
    return any(_matches(pattern, event) for pattern in patterns)


def _topic(arn: str) -> str:
    return arn.rpartition(":")[2].rpartition("/")[2]


def _for_rules(statement: Document, action: str) -> bool:
    conditions: Mapping[str, Any] = statement.get("Condition", {})
    # KMS is told neither source nor account by EventBridge: such a condition would refuse every message.
    silent = action.startswith("kms:") and any("aws:Source" in key for keys in conditions.values() for key in keys)
    return (
        statement["Effect"] == "Allow"
        and statement["Principal"] == {"Service": "events.amazonaws.com"}
        and action in listed(statement["Action"])
        and not silent
    )


def _alarming(plan: Plan) -> list[tuple[str, Document]]:
    """What an attacker does, as CloudTrail tells EventBridge of it."""
    return [
        *_attacks(plan.outputs["keys"], plan.outputs["buckets"]),
        *(
            (f"{trail.name}: {call}", _event("cloudtrail", call, {"name": trail.inputs["name"]}))
            for trail in plan.all(":Trail")
            for call in ("StopLogging", "DeleteTrail")
        ),
    ]


def _alarming_there(plan: Plan) -> list[tuple[str, Document]]:
    """The same on the copies, whose names the published settings tell."""
    replica = plan.settings()["replica"]
    return _attacks(replica["keys"], replica["buckets"]) if replica["region"] else []


def _attacks(keys: Mapping[str, str], buckets: Mapping[str, str]) -> list[tuple[str, Document]]:
    found: list[tuple[str, Document]] = []
    for use, arn in keys.items():
        found += [(f"{call} of {use}", _kms(call, arn)) for call in _KEY_CALLS]
        found.append((f"denied decryption by {use}", _kms("Decrypt", arn, errorCode="AccessDenied")))
    for use, name in buckets.items():
        found += [(f"{call} of {use}", _s3(call, name)) for call in _BUCKET_CALLS]
        found.append((f"a shorter lock in {use}", _s3("PutObjectRetention", name, key="records/x")))
        found.append((f"a version deleted in {use}", _s3("DeleteObject", name, key="x", versionId="v1")))
        found.append((f"denied access to {use}", _s3("GetObject", name, key="x", errorCode="AccessDenied")))
    return found


def _ordinary(plan: Plan) -> list[tuple[str, Document]]:
    """A day's work, and others' business in the same account."""
    bucket, key = plan.outputs["buckets"]["minio"], plan.outputs["keys"]["minio"]
    return [
        ("an object put", _s3("PutObject", bucket, key="minio-data/x")),
        ("an object deleted", _s3("DeleteObject", bucket, key="minio-data/x")),
        ("an object read", _s3("GetObject", bucket, key="minio-data/x")),
        ("a key used", _kms("GenerateDataKey", key)),
        ("somebody else's bucket", _s3("PutBucketPolicy", "somebody-elses")),
        ("somebody else's key", _kms("DisableKey", key[:-1] + "_")),
    ]


def _kms(call: str, arn: str, **more: str) -> Document:
    event = _event("kms", call, {"keyId": arn}, **more)
    event["detail"]["resources"] = [{"accountId": "1", "type": "AWS::KMS::Key", "ARN": arn}]
    return event


def _s3(call: str, bucket: str, errorCode: str = "", **parameters: str) -> Document:  # noqa: N803 - CloudTrail's word
    more = {"errorCode": errorCode} if errorCode else {}
    return _event("s3", call, {"bucketName": bucket, **parameters}, **more)


def _event(service: str, call: str, parameters: Mapping[str, str], **more: str) -> Document:
    detail = {"eventSource": f"{service}.amazonaws.com", "eventName": call, "requestParameters": dict(parameters)}
    return {"source": f"aws.{service}", "detail-type": "AWS API Call via CloudTrail", "detail": {**detail, **more}}


def _matches(pattern: Mapping[str, Any], event: Any) -> bool:
    """EventBridge's rule for what is used here: equality and ``exists``; a list in an event matches by any."""
    if isinstance(event, list):
        return any(_matches(pattern, entry) for entry in cast("list[Document]", event))
    for name, wanted in pattern.items():
        if isinstance(wanted, dict):
            good = name in event and _matches(cast("Document", wanted), event[name])
        else:
            good = any(_one(choice, event, name) for choice in wanted)
        if not good:
            return False
    return True


def _one(choice: object, event: Mapping[str, Any], name: str) -> bool:
    if isinstance(choice, dict):
        return choice == {"exists": name in event}
    return name in event and event[name] == choice
