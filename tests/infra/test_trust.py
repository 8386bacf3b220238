"""Who may take on a role, and which AWS service may use a key, a topic or a bucket: whom we meant, and nobody else."""

from typing import Any

import pytest

from aivo_backup.policy import names
from aivo_backup.policy.names import Role
from infra.identity import FUNCTION_ROLES
from tests.infra.conftest import PlanOf
from tests.infra.evaluator import Request, allowed
from tests.infra.plans import Plan, listed, statements

_OTHER = "999999999999"
_WEB = "sts:AssumeRoleWithWebIdentity"
_OPERATORS = (Role.RESTORER, Role.INITIALISER)


def _account(plan: Plan) -> str:
    return str(plan.settings()["account_id"])


def _takes_on(plan: Plan, role: Role, principal: str, action: str = "sts:AssumeRole", **context: str) -> bool:
    trust = plan.one("iam/role:Role", role.value).document("assumeRolePolicy")
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    request = Request(principal=principal, action=action, resource="*", context=keys)
    return allowed(request, identity=[], resource_policy=trust)


def _federated(plan: Plan) -> list[Role]:
    trusts = {role: plan.one("iam/role:Role", role.value).document("assumeRolePolicy") for role in Role}
    return [role for role in Role if "Federated" in statements(trusts[role])[0]["Principal"]]


def test_a_pods_role_is_for_its_own_service_account(prod: Plan) -> None:
    pods = _federated(prod)
    accounts = {
        account.inputs["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].rpartition("/")[2]: account.inputs[
            "metadata"
        ]
        for account in prod.all(":ServiceAccount")
    }
    assert len(pods) > len(FUNCTION_ROLES)
    for role in pods:
        trust = statements(prod.one("iam/role:Role", role.value).document("assumeRolePolicy"))[0]
        (provider,) = listed(trust["Principal"]["Federated"])
        issuer = provider.partition("oidc-provider/")[2]
        (subject,) = (value for key, value in trust["Condition"]["StringEquals"].items() if key.endswith(":sub"))
        metadata = accounts.get(names.role_name(prod.stack, role))
        if metadata:
            assert subject == f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}"

        mine = {f"{issuer}:sub": subject, f"{issuer}:aud": "sts.amazonaws.com"}
        assert _takes_on(prod, role, provider, _WEB, **mine)
        for wrong in (
            {f"{issuer}:sub": f"{subject}-2"},
            {f"{issuer}:sub": "system:serviceaccount:default:default"},
            {f"{issuer}:aud": "somebody-else"},
        ):
            assert not _takes_on(prod, role, provider, _WEB, **{**mine, **wrong})
        assert not _takes_on(prod, role, provider.replace(_account(prod), _OTHER), _WEB, **mine)
        assert not _takes_on(prod, role, f"arn:aws:iam::{_account(prod)}:role/anybody")


@pytest.mark.parametrize("role", _OPERATORS)
def test_operators_are_named(prod: Plan, role: Role) -> None:
    account = _account(prod)
    assert _takes_on(prod, role, f"arn:aws:iam::{account}:role/data-reliability-engineer")
    for stranger in (
        f"arn:aws:iam::{account}:role/developer",
        f"arn:aws:iam::{account}:role/{names.role_name(prod.stack, Role.MINIO_WRITER)}",
        f"arn:aws:iam::{_OTHER}:role/data-reliability-engineer",
    ):
        assert not _takes_on(prod, role, stranger)


def test_a_service_takes_on_its_role_for_this_account_only(prod: Plan) -> None:
    account = _account(prod)
    group = names.schedule_group(prod.stack)

    def arn(owner: str, name: str) -> str:
        return f"arn:aws:scheduler:us-east-1:{owner}:schedule-group/{name}"

    for role in FUNCTION_ROLES.values():
        assert _takes_on(prod, role, "lambda.amazonaws.com", aws__SourceAccount=account)
        assert not _takes_on(prod, role, "lambda.amazonaws.com", aws__SourceAccount=_OTHER)
        assert not _takes_on(prod, role, "ec2.amazonaws.com", aws__SourceAccount=account)

    def scheduler(owner: str, source: str) -> bool:
        context = {"aws__SourceAccount": owner, "aws__SourceArn": source}
        return _takes_on(prod, Role.SCHEDULER, "scheduler.amazonaws.com", **context)

    assert scheduler(account, arn(account, group))
    assert not scheduler(account, arn(account, "default"))
    assert not scheduler(_OTHER, arn(_OTHER, group))

    def forwarder(owner: str, source: str) -> bool:
        context = {"aws__SourceAccount": owner, "aws__SourceArn": source}
        return _takes_on(prod, Role.SECURITY_FORWARDER, "events.amazonaws.com", **context)

    there = prod.settings()["replica"]["region"]
    assert forwarder(account, f"arn:aws:events:{there}:{account}:rule/aivo-backup-{prod.stack}-key-at-risk")
    assert not forwarder(account, f"arn:aws:events:{there}:{account}:rule/somebody-elses")
    assert not forwarder(account, f"arn:aws:events:us-east-1:{account}:rule/aivo-backup-{prod.stack}-key-at-risk")
    assert not forwarder(_OTHER, f"arn:aws:events:{there}:{_OTHER}:rule/aivo-backup-{prod.stack}-key-at-risk")

    assert _takes_on(prod, Role.REPLICATOR, "s3.amazonaws.com", aws__SourceAccount=account)
    assert not _takes_on(prod, Role.REPLICATOR, "s3.amazonaws.com", aws__SourceAccount=_OTHER)


def _service(document: dict[str, Any], service: str, action: str, resource: str, **context: str) -> bool:
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    request = Request(principal=service, action=action, resource=resource, context=keys)
    return allowed(request, identity=[], resource_policy=document)


def test_only_our_trail_delivers_into_the_audit_bucket(prod: Plan) -> None:
    account = _account(prod)
    policy = prod.one(":BucketPolicy", "audit-policy").document()
    place = f"arn:aws:s3:::{prod.outputs['buckets']['audit']}/AWSLogs/{account}/CloudTrail/x.json.gz"
    ours = f"arn:aws:cloudtrail:us-east-1:{account}:trail/{names.trail_name(prod.stack)}"

    def delivers(source: str, owner: str, where: str = place, **more: str) -> bool:
        context = {"aws__SourceArn": source, "aws__SourceAccount": owner, **more}
        return _service(policy, "cloudtrail.amazonaws.com", "s3:PutObject", where, **context)

    assert delivers(ours, account)
    assert not delivers(ours.replace(account, _OTHER), _OTHER)
    assert not delivers(f"{ours}-2", account)
    assert not delivers(ours, account, place.replace(account, _OTHER))
    assert not delivers(ours, account, aws__SecureTransport="false")


def test_only_our_buckets_logs_are_delivered(prod: Plan) -> None:
    policy = prod.one(":BucketPolicy", "logs-policy").document()
    place = f"arn:aws:s3:::{prod.outputs['buckets']['logs']}/access-logs/minio/x"

    def delivers(bucket: str, owner: str, where: str = place) -> bool:
        context = {"aws__SourceArn": f"arn:aws:s3:::{bucket}", "aws__SourceAccount": owner}
        return _service(policy, "logging.s3.amazonaws.com", "s3:PutObject", where, **context)

    assert delivers(prod.outputs["buckets"]["minio"], _account(prod))
    assert not delivers("somebody-elses", _account(prod))
    assert not delivers(prod.outputs["buckets"]["minio"], _OTHER)
    assert not delivers(prod.outputs["buckets"]["minio"], _account(prod), place.replace("access-logs", "records"))


def test_only_our_alarms_reach_the_topics_and_their_key(prod: Plan) -> None:
    account = _account(prod)
    topics = [policy for policy in prod.all(":TopicPolicy") if policy.name != "aivo-backup-prod-security-policy"]
    key = prod.one("kms/key:Key", "operations-key").document()
    assert len(topics) == 3

    def alarm(owner: str, name: str = "aivo-backup-prod-x") -> dict[str, str]:
        arn = f"arn:aws:cloudwatch:us-east-1:{owner}:alarm:{name}"
        return {"aws__SourceArn": arn, "aws__SourceAccount": owner}

    for policy in topics:
        topic = statements(policy.document())[0]["Resource"]
        for action, document, resource in (
            ("sns:Publish", policy.document(), topic),
            ("kms:GenerateDataKey", key, "*"),
        ):
            assert _service(document, "cloudwatch.amazonaws.com", action, resource, **alarm(account))
            assert not _service(document, "cloudwatch.amazonaws.com", action, resource, **alarm(_OTHER))
            assert not _service(document, "cloudwatch.amazonaws.com", action, resource, **alarm(account, "other"))


def test_only_our_rules_reach_the_security_team_and_only_for_its_topic_is_there_a_key(prod: Plan) -> None:
    account = _account(prod)
    policy = prod.one(":TopicPolicy", "aivo-backup-prod-security-policy").document()
    key = prod.one("kms/key:Key", "operations-key").document()
    topic = statements(policy)[0]["Resource"]

    def publishes(owner: str, rule: str = "aivo-backup-prod-key-at-risk") -> bool:
        context = {"aws__SourceArn": f"arn:aws:events:us-east-1:{owner}:rule/{rule}", "aws__SourceAccount": owner}
        return _service(policy, "events.amazonaws.com", "sns:Publish", topic, **context)

    def encrypts(arn: str) -> bool:
        context = {"kms__EncryptionContext__aws__sns__topicArn": arn}
        return _service(key, "events.amazonaws.com", "kms:GenerateDataKey", "*", **context)

    assert publishes(account)
    assert not publishes(_OTHER)
    assert not publishes(account, "somebody-elses")
    assert encrypts(topic)
    assert not encrypts(topic.replace("security", "other"))


def test_a_log_group_of_somebody_else_is_not_encrypted_with_our_key(prod: Plan) -> None:
    key = prod.one("kms/key:Key", "operations-key").document()
    group = f"arn:aws:logs:us-east-1:{_account(prod)}:log-group:/aws/lambda/aivo-backup-prod-verify-restore"

    def encrypts(arn: str) -> bool:
        context = {"kms__EncryptionContext__aws__logs__arn": arn}
        return _service(key, "logs.us-east-1.amazonaws.com", "kms:Encrypt", "*", **context)

    assert encrypts(group)
    assert not encrypts(group.replace(_account(prod), _OTHER))
    assert not encrypts("arn:aws:logs:us-east-1:333333333333:log-group:other")


def _may(plan: Plan, key: str, principal: str, action: str) -> bool:
    """Whether somebody whose own policies allow everything may do this with a key."""
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    request = Request(principal=principal, action=action, resource="*")
    return allowed(request, identity=[everything], resource_policy=plan.one("kms/key:Key", key).document())


def test_an_administrator_never_reads_and_nobody_else_administers(prod: Plan) -> None:
    administrator = f"arn:aws:iam::{_account(prod)}:role/backup-key-administrator"
    developer = f"arn:aws:iam::{_account(prod)}:role/developer"
    for key in prod.all("kms/key:Key"):
        assert _may(prod, key.name, administrator, "kms:EnableKey")
        for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:Sign"):
            assert not _may(prod, key.name, administrator, action)
        for action in ("kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"):
            assert not _may(prod, key.name, developer, action)


def test_where_operators_are_not_named_the_account_decides(plan_of: PlanOf) -> None:
    dev = plan_of("dev")
    assert _takes_on(dev, Role.RESTORER, f"arn:aws:iam::{_account(dev)}:role/anybody")
    assert not _takes_on(dev, Role.RESTORER, f"arn:aws:iam::{_OTHER}:role/anybody")
