"""Controls of what the Security team is told, judged by events as CloudTrail writes them."""

import json
from collections.abc import Mapping
from typing import Any, cast

from tests.infra.plans import Document, Plan, listed, statements

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
    their key lets them encrypt, and in production somebody listens.
    """
    if plan.stack == "local":
        return []
    team = [topic.inputs["name"] for topic in plan.all(":Topic") if topic.inputs["name"].endswith("-security")]
    if len(team) != 1:
        return ["the Security team has no topic"]
    reaching = [target.inputs["rule"] for target in plan.all(":EventTarget") if _topic(target.inputs["arn"]) == team[0]]
    rules = [
        json.loads(rule.inputs["eventPattern"])
        for rule in plan.all(":EventRule")
        if rule.inputs["name"] in reaching and rule.inputs.get("state") != "DISABLED"
    ]
    told = {what for what, event in _alarming(plan) if any(_matches(rule, event) for rule in rules)}
    findings = [f"not told: {what}" for what, _ in _alarming(plan) if what not in told]
    findings += [
        f"told every day: {what}" for what, event in _ordinary(plan) if any(_matches(rule, event) for rule in rules)
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
    found: list[tuple[str, Document]] = []
    for use, arn in plan.outputs["keys"].items():
        found += [(f"{call} of {use}", _kms(call, arn)) for call in _KEY_CALLS]
        found.append((f"denied decryption by {use}", _kms("Decrypt", arn, errorCode="AccessDenied")))
    for use, name in plan.outputs["buckets"].items():
        found += [(f"{call} of {use}", _s3(call, name)) for call in _BUCKET_CALLS]
        found.append((f"a shorter lock in {use}", _s3("PutObjectRetention", name, key="records/x")))
        found.append((f"a version deleted in {use}", _s3("DeleteObject", name, key="x", versionId="v1")))
        found.append((f"denied access to {use}", _s3("GetObject", name, key="x", errorCode="AccessDenied")))
    found += [
        (f"{trail.name}: {call}", _event("cloudtrail", call, {"name": trail.inputs["name"]}))
        for trail in plan.all(":Trail")
        for call in ("StopLogging", "DeleteTrail")
    ]
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
