"""Every policy document of every stack: no finding of an IAM linter, no wildcard without a written reason.

The linter is cfn-lint, which knows every action of AWS's service reference, the resources that an action takes, and
what an identity, trust, bucket, key or topic policy may say. It reads CloudFormation, so the documents go into a
template, unchanged.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from infra.documents import Statement
from sandbox.plan import register
from tests.infra.plans import STACKS, Document, Plan, Resource, listed, statements

# Rule: an action is allowed on resources that it knows.
_RESOURCES_MATCH = "I3510"

CLEAN: Document = {"Version": "2012-10-17", "Statement": []}


class Policy(NamedTuple):
    """A document, whose it is, and how CloudFormation would take it."""

    where: str
    kind: str
    document: Document


def policies(plan: Plan) -> Iterator[Policy]:
    """Every policy document of a plan. A resource with a policy that is not known here fails the test."""
    for resource in plan.resources:
        where = f"{plan.stack} {resource.name}"
        for name in ("policy", "assumeRolePolicy", "accessPolicy", "inlinePolicies"):
            if name in resource.inputs and not resource.type.endswith(":LifecyclePolicy"):
                yield Policy(where, _kind(resource, name), resource.document(name))


def _kind(resource: Resource, name: str) -> str:
    kinds = {
        ("aws:iam/role:Role", "assumeRolePolicy"): "trust",
        ("aws:iam/rolePolicy:RolePolicy", "policy"): "identity",
        ("aws:s3/bucketPolicy:BucketPolicy", "policy"): "AWS::S3::BucketPolicy",
        ("aws:kms/key:Key", "policy"): "AWS::KMS::Key",
        ("aws:sns/topicPolicy:TopicPolicy", "policy"): "AWS::SNS::TopicPolicy",
        ("aws:sqs/queuePolicy:QueuePolicy", "policy"): "AWS::SQS::QueuePolicy",
    }
    return kinds[resource.type, name]


def _resource(policy: Policy, number: int) -> dict[str, Any]:
    trust = {
        **CLEAN,
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "s3.amazonaws.com"}}],
    }
    document = policy.document
    match policy.kind:
        case "trust":
            return {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": document}}
        case "identity":
            inline = [{"PolicyName": "access", "PolicyDocument": document}]
            return {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust, "Policies": inline}}
        case "AWS::KMS::Key":
            return {"Type": policy.kind, "Properties": {"KeyPolicy": document}}
        case "AWS::S3::BucketPolicy":
            return {"Type": policy.kind, "Properties": {"Bucket": f"bucket-{number}", "PolicyDocument": document}}
        case _:
            target = {"AWS::SNS::TopicPolicy": "Topics", "AWS::SQS::QueuePolicy": "Queues"}[policy.kind]
            return {"Type": policy.kind, "Properties": {target: [f"target-{number}"], "PolicyDocument": document}}


def findings(found: list[Policy], folder: Path) -> list[str]:
    """What cfn-lint says of the documents, and whether actions fit their resources, which it takes for information."""
    template = {"Resources": {f"P{number}": _resource(policy, number) for number, policy in enumerate(found)}}
    file = folder / "template.json"
    file.write_text(json.dumps(template), encoding="utf-8")
    # Beside the interpreter: the tests' own cfn-lint, whatever PATH says.
    linter = Path(sys.executable).with_name("cfn-lint")
    argv = [str(linter), "--include-checks", _RESOURCES_MATCH, "--format", "json", "--", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    answers: list[str] = []
    for finding in json.loads(done.stdout or "[]"):
        path = finding["Location"]["Path"]
        whose = found[int(path[1][1:])].where if path and len(path) > 1 else "template"
        # The message may list every action of a service.
        answers.append(f"{finding['Rule']['Id']} {whose}: {finding['Message'][:150]}")
    return answers


def _without_names(plan: Plan, policy: Policy) -> str:
    settings = plan.settings()
    text = json.dumps([policy.kind, policy.document])
    for name in (*plan.outputs["buckets"].values(), *plan.outputs["keys"].values(), settings["account_id"]):
        text = text.replace(name, "")
    return text.replace(f"aivo-backup-{plan.stack}-", "").replace(f"aivo-backup/{plan.stack}/", "")


def test_the_linter_finds_nothing(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    # Most documents differ between stacks by names alone, and reading one takes the linter a tenth of a second.
    different = {
        _without_names(plan_of(stack), policy): policy for stack in STACKS for policy in policies(plan_of(stack))
    }
    found = list(different.values())
    assert {policy.kind for policy in found} >= {"trust", "identity", "AWS::S3::BucketPolicy", "AWS::KMS::Key"}
    assert findings(found, tmp_path) == []


def test_the_linter_sees_what_is_wrong(tmp_path: Path) -> None:
    allow = {"Sid": "S", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    wrong = {
        "unknown action": ("identity", {**allow, "Action": "s3:GetObjec"}),
        "action that does not take it": ("identity", {**allow, "Action": ["s3:GetObject", "kms:Decrypt"]}),
        "unknown operator": ("identity", {**allow, "Condition": {"StringEqual": {"aws:SourceAccount": "1"}}}),
        "principal in an identity": ("identity", {**allow, "Principal": {"AWS": "*"}}),
        "nobody is trusted": ("trust", {"Sid": "S", "Effect": "Allow", "Action": "sts:AssumeRole"}),
        "no principal": ("AWS::S3::BucketPolicy", allow),
        "unknown key action": ("AWS::KMS::Key", {**allow, "Action": "kms:Decode", "Principal": "*", "Resource": "*"}),
    }
    found = [Policy(what, kind, {**CLEAN, "Statement": [entry]}) for what, (kind, entry) in wrong.items()]
    said = findings(found, tmp_path)
    assert [what for what in wrong if not any(f" {what}:" in line for line in said)] == []


@pytest.mark.parametrize("stack", STACKS)
def test_every_wildcard_has_a_written_reason(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are made of statements, which cannot be built with a bare wildcard and no reason: none slips past."""
    reasons: dict[str, str] = {}
    as_json = Statement.as_json

    def noted(self: Statement) -> dict[str, object]:
        body = as_json(self)
        reasons[json.dumps(body, sort_keys=True)] = self.wildcard_reason
        return body

    monkeypatch.setattr(Statement, "as_json", noted)
    plan = Plan.of(stack, register(stack))
    without = [
        f"{policy.where}: {statement['Sid']}"
        for policy in policies(plan)
        for statement in statements(policy.document)
        if wide(statement) and len(reasons.get(json.dumps(statement, sort_keys=True), "").split()) < 3
    ]
    assert without == []


def wide(statement: Document) -> bool:
    """Whether it allows any action, or some by pattern, or acts on whatever there is."""
    patterns = [action for action in listed(statement.get("Action")) if "*" in action]
    everything = "*" in listed(statement.get("Resource")) or "NotResource" in statement or "NotAction" in statement
    return statement["Effect"] == "Allow" and (bool(patterns) or everything)


@pytest.mark.parametrize(
    ("actions", "resources"),
    [(("s3:*",), ("arn:aws:s3:::b",)), (("s3:Get*Acl",), ("arn:aws:s3:::b",)), (("kms:Decrypt",), ("*",))],
)
def test_a_bare_wildcard_without_a_reason_cannot_be_written(
    actions: tuple[str, ...], resources: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="wildcard_reason"):
        Statement(sid="Wide", actions=actions, resources=resources)
    statement = Statement(sid="Wide", actions=actions, resources=resources, wildcard_reason="nothing narrower exists")
    assert wide(cast("Document", statement.as_json()))
