"""The sandbox's IAM policies differ from the program's exactly where moto is narrower than AWS."""

import copy
from typing import Any

import pytest

from sandbox.provision.weakening import weakened_bucket_policy, weakened_permissions, weakened_trust

ADMINISTRATOR = "arn:aws:iam::123456789012:user/administrator"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
OBJECTS = "arn:aws:s3:::bucket/records/*"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: object, resource: object, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: object, resource: object, **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    "statement",
    [
        allow("s3:PutObject", OBJECTS),
        allow(["s3:PutObject", "s3:GetObject"], [OBJECTS], Sid="Objects"),
        allow("s3:ListBucket", "arn:aws:s3:::bucket", Condition={"StringLike": {"s3:prefix": "records/*"}}),
        allow("sts:AssumeRole", "arn:aws:iam::123456789012:role/restorer"),
        allow("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:letters"),
        allow("logs:PutLogEvents", "*"),
        allow("kms:Decrypt", ["*"]),
        deny("s3:DeleteObjectVersion", "arn:aws:s3:::bucket/*"),
        deny("kms:ScheduleKeyDeletion", "*"),
    ],
)
def test_what_moto_judges_as_aws_does_stays_as_written(statement: dict[str, Any]) -> None:
    assert weakened_permissions(policy(statement)) == policy(statement)


def test_an_arn_that_moto_cannot_match_is_widened() -> None:
    written = policy(allow("kms:Encrypt", KEY, Sid="Key"))
    assert weakened_permissions(written) == policy(allow(["kms:Encrypt"], "*", Sid="Key"))


def test_mixed_services_keep_the_arns_of_s3() -> None:
    written = policy(allow(["s3:GetObject", "kms:Decrypt"], [OBJECTS, KEY], Sid="Read", Condition={"Bool": {"a": "b"}}))
    assert weakened_permissions(written)["Statement"] == [
        allow(["s3:GetObject"], [OBJECTS, KEY], Sid="Read", Condition={"Bool": {"a": "b"}}),
        allow(["kms:Decrypt"], "*", Sid="ReadWidened", Condition={"Bool": {"a": "b"}}),
    ]


def test_everything_but_some_actions_also_reaches_what_has_no_arn() -> None:
    written = policy({"Effect": "Allow", "NotAction": "iam:*", "Resource": KEY})
    assert weakened_permissions(written)["Statement"] == [
        {"Effect": "Allow", "NotAction": "iam:*", "Resource": [KEY, "*"]}
    ]


@pytest.mark.parametrize(
    "statement",
    [
        deny("s3:*", "*", Condition={"Bool": {"aws:SecureTransport": "false"}}),
        {"Effect": "Deny", "Action": "s3:*", "NotResource": OBJECTS},
    ],
)
def test_a_deny_that_moto_misreads_is_dropped(statement: dict[str, Any]) -> None:
    kept = allow("s3:GetObject", OBJECTS)
    assert weakened_permissions(policy(statement, kept)) == policy(kept)


def test_cloudwatch_is_also_named_as_its_requests_are_signed() -> None:
    written = policy(allow("cloudwatch:PutMetricData", "*"), deny("cloudwatch:DeleteAlarms", "*"))
    assert [statement["Action"] for statement in weakened_permissions(written)["Statement"]] == [
        ["cloudwatch:PutMetricData", "monitoring:PutMetricData"],
        ["cloudwatch:DeleteAlarms", "monitoring:DeleteAlarms"],
    ]


def test_a_single_statement_without_a_list_is_a_policy_too() -> None:
    single = {"Version": "2012-10-17", "Statement": allow("kms:Sign", KEY)}
    assert weakened_permissions(single) == policy(allow(["kms:Sign"], "*"))


def trust(principal: object, action: str = "sts:AssumeRole") -> dict[str, Any]:
    return policy(
        {"Effect": "Allow", "Principal": principal, "Action": action, "Condition": {"StringEquals": {"a": "b"}}}
    )


def test_a_web_identity_is_trusted_as_written() -> None:
    written = trust({"Federated": "arn:aws:iam::123456789012:oidc-provider/issuer"}, "sts:AssumeRoleWithWebIdentity")
    assert weakened_trust(written, administrator=ADMINISTRATOR) == written


def test_the_administrator_stands_in_for_a_trusted_service() -> None:
    written = trust({"Service": "lambda.amazonaws.com"})
    assert weakened_trust(written, administrator=ADMINISTRATOR) == trust(
        {"Service": "lambda.amazonaws.com", "AWS": [ADMINISTRATOR]}
    )


def test_a_trusted_account_is_everybody_in_it() -> None:
    written = trust({"AWS": ["arn:aws:iam::123456789012:root"]})
    assert weakened_trust(written, administrator=ADMINISTRATOR) == trust({"AWS": "*"})


def test_a_trusted_role_stays_the_only_one() -> None:
    written = trust({"AWS": "arn:aws:iam::123456789012:role/operator"})
    assert weakened_trust(written, administrator=ADMINISTRATOR) == written


def test_a_bucket_keeps_what_it_denies_to_all_and_not_what_moto_cannot_judge() -> None:
    always = {"Principal": {"AWS": "*"}, **deny("s3:DeleteObject", OBJECTS)}
    without_tls = {"Principal": {"AWS": "*"}, **deny("s3:*", "*", Condition={"Bool": {"aws:SecureTransport": "false"}})}
    assert weakened_bucket_policy(policy(without_tls, always)) == policy(always)


def test_log_delivery_may_write_to_the_whole_bucket() -> None:
    logs = {"Principal": {"Service": "logging.s3.amazonaws.com"}, **allow("s3:PutObject", "arn:aws:s3:::logs/a/*")}
    assert weakened_bucket_policy(policy(logs)) == policy({**logs, "Resource": "arn:aws:s3:::logs/*"})


def test_what_was_written_is_not_touched() -> None:
    written = policy(
        allow(["s3:GetObject", "kms:Decrypt", "cloudwatch:PutMetricData"], [OBJECTS, KEY]),
        deny("s3:*", "*", Condition={}),
    )
    before = copy.deepcopy(written)
    weakened_permissions(written)
    assert written == before


def test_a_delete_of_several_objects_is_judged_by_the_bucket() -> None:
    written = policy(allow("s3:DeleteObject", [OBJECTS]))
    assert weakened_permissions(written) == policy(allow("s3:DeleteObject", [OBJECTS, "arn:aws:s3:::bucket"]))
