"""The policy evaluator, on the cases that AWS's documentation publishes with their outcome.

The pages are cited by their titles in the IAM, S3 and KMS guides; policies are shortened to what decides.
"""

import pytest

from tests.infra.evaluator import Request, allowed
from tests.infra.plans import Document, statements


def _policy(*entries: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **entry} for entry in entries]}


_CARLOS = "arn:aws:iam::111122223333:user/carlossalazar"
_OWN = "arn:aws:s3:::amzn-s3-demo-bucket-carlossalazar"
_CARLOS_HAS = _policy(
    {"Sid": "ListRead", "Action": ["s3:GetBucketLocation", "s3:ListAllMyBuckets"], "Resource": "arn:aws:s3:::*"},
    {"Sid": "Self", "Action": "s3:*", "Resource": [f"{_OWN}/*", _OWN]},
    {"Sid": "NoLogs", "Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::*log*"},
)
_BUCKET_OF_CARLOS = _policy({"Principal": {"AWS": _CARLOS}, "Action": "s3:*", "Resource": [f"{_OWN}/*", _OWN]})


@pytest.mark.parametrize(
    ("action", "resource", "verdict"),
    [
        ("s3:PutObject", f"{_OWN}/file", True),
        ("s3:ListAllMyBuckets", "arn:aws:s3:::*", True),
        # The page's own question: the bucket's name holds "log", so the denial overrides both permissions.
        ("s3:PutObject", f"{_OWN}-logs/file", False),
        ("s3:PutObject", f"{_OWN}/log", False),
        ("s3:PutObject", "arn:aws:s3:::somebody-elses/file", False),
    ],
)
def test_policy_evaluation_for_requests_within_a_single_account(action: str, resource: str, verdict: bool) -> None:
    """IAM guide, "Policy evaluation for requests within a single account": Carlos saves a file."""
    request = Request(principal=_CARLOS, action=action, resource=resource)
    assert allowed(request, identity=[_CARLOS_HAS], resource_policy=_BUCKET_OF_CARLOS) is verdict


def test_either_policy_is_enough_within_an_account() -> None:
    """The same page: one of the two allows, the other says nothing."""
    request = Request(principal=_CARLOS, action="s3:GetObject", resource=f"{_OWN}/file")
    assert allowed(request, identity=[_CARLOS_HAS])
    assert allowed(request, identity=[], resource_policy=_BUCKET_OF_CARLOS)
    assert not allowed(request, identity=[])


def test_the_difference_between_explicit_and_implicit_denies() -> None:
    """IAM guide, "The difference between explicit and implicit denies"."""
    request = Request(principal=_CARLOS, action="s3:DeleteObject", resource=f"{_OWN}/file")
    silent = _policy({"Action": "s3:GetObject", "Resource": f"{_OWN}/*"})
    denying = _policy({"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"})
    # An implicit deny gives way to an allow elsewhere, an explicit one to nothing.
    assert allowed(request, identity=[silent, _CARLOS_HAS])
    assert not allowed(request, identity=[denying, _CARLOS_HAS])


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "verdict"),
    [
        # Names of keys know no case, values do unless the operator says otherwise.
        ("StringEquals", "john", "john", True),
        ("StringEquals", "john", "John", False),
        ("StringEqualsIgnoreCase", "john", "John", True),
        ("StringLike", "home/*", "home/john/x", True),
        ("StringLike", "h?me", "home", True),
        ("StringNotLike", "home/*", "home/john", False),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericLessThan", "10", "10", False),
        ("Bool", "true", "TRUE", True),
        ("ArnEquals", "arn:aws:sns:REGION:123456789012:TOPIC-ID", "arn:aws:sns:REGION:123456789012:TOPIC-ID", True),
        ("ArnLike", "arn:aws:sns:*:123456789012:*", "arn:aws:sns:us-east-1:123456789012:topic", True),
        # Each part of an ARN is compared by itself.
        ("ArnLike", "arn:aws:sns:*:topic", "arn:aws:sns:us-east-1:123456789012:topic", False),
        ("ArnNotEquals", "arn:aws:sns:*:123456789012:*", "arn:aws:sns:us-east-1:123456789012:topic", False),
        # The key is absent: no match, which a negated operator and IfExists take for true.
        ("StringEquals", "john", None, False),
        ("StringNotEquals", "john", None, True),
        ("ArnNotLike", "arn:aws:sns:*:1:*", None, True),
        ("StringEqualsIfExists", "john", None, True),
        ("StringEqualsIfExists", "john", "jane", False),
        ("Null", "true", None, True),
        ("Null", "false", None, False),
        ("Null", "false", "anything", True),
    ],
)
def test_condition_operators(operator: str, wanted: str, value: str | None, verdict: bool) -> None:
    """IAM guide, "IAM JSON policy elements: Condition operators"."""
    document = _policy({"Action": "s3:GetObject", "Resource": "*", "Condition": {operator: {"AWS:UserName": wanted}}})
    context = {} if value is None else {"aws:username": value}
    request = Request(principal=_CARLOS, action="s3:GetObject", resource=f"{_OWN}/file", context=context)
    assert allowed(request, identity=[document]) is verdict


@pytest.mark.parametrize(
    ("context", "verdict"),
    [
        ({"aws:PrincipalTag/department": "finance", "aws:PrincipalTag/role": "audit"}, True),
        ({"aws:PrincipalTag/department": "hr", "aws:PrincipalTag/role": "audit"}, True),
        ({"aws:PrincipalTag/department": "legal", "aws:PrincipalTag/role": "audit"}, False),
        ({"aws:PrincipalTag/department": "finance", "aws:PrincipalTag/role": "guest"}, False),
        ({"aws:PrincipalTag/department": "finance"}, False),
    ],
)
def test_conditions_with_multiple_context_keys_or_values(context: dict[str, str], verdict: bool) -> None:
    """IAM guide, "Conditions with multiple context keys or values": values are alternatives, keys must all hold."""
    condition = {
        "StringEquals": {"aws:PrincipalTag/department": ["finance", "hr"]},
        "StringLike": {"aws:PrincipalTag/role": "aud*"},
    }
    document = _policy({"Action": "ec2:RunInstances", "Resource": "*", "Condition": condition})
    request = Request(principal=_CARLOS, action="ec2:RunInstances", resource="*", context=context)
    assert allowed(request, identity=[document]) is verdict


def test_several_values_of_a_negated_operator_are_all_refused() -> None:
    """The same page: with a negated operator, none of the values may match."""
    condition = {"StringNotEquals": {"aws:PrincipalTag/role": ["guest", "intern"]}}
    document = _policy({"Action": "s3:GetObject", "Resource": "*", "Condition": condition})

    def asks(role: str) -> Request:
        context = {"aws:PrincipalTag/role": role}
        return Request(principal=_CARLOS, action="s3:GetObject", resource="*", context=context)

    assert [allowed(asks(role), identity=[document]) for role in ("guest", "intern", "owner")] == [False, False, True]


@pytest.mark.parametrize(("key", "verdict"), [("ours", True), ("theirs", False), (None, True)])
def test_a_header_that_is_there_must_name_our_key(key: str | None, verdict: bool) -> None:
    """The same page again: Null lets a negated operator speak of requests alone that carry the key."""
    condition = {"Null": {"s3:x": "false"}, "StringNotEquals": {"s3:x": "ours"}}
    denying = _policy({"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*", "Condition": condition})
    context = {} if key is None else {"s3:x": key}
    request = Request(principal=_CARLOS, action="s3:PutObject", resource=f"{_OWN}/x", context=context)
    assert allowed(request, identity=[_CARLOS_HAS, denying]) is verdict


def test_a_bucket_only_over_tls() -> None:
    """S3 guide, "Examples of Amazon S3 bucket policies": the one that requires HTTPS."""
    bucket = _policy(
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [_OWN, f"{_OWN}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )
    for secure, verdict in (("true", True), ("false", False)):
        context = {"aws:SecureTransport": secure}
        request = Request(principal=_CARLOS, action="s3:GetObject", resource=f"{_OWN}/x", context=context)
        assert allowed(request, identity=[_CARLOS_HAS], resource_policy=bucket) is verdict


_KEY = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_DEFAULT_KEY_POLICY = _policy(
    {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}
)


def test_the_default_key_policy_hands_the_decision_to_iam() -> None:
    """KMS guide, "Default key policy": it allows nobody by itself, and without it no IAM policy counts."""
    request = Request(principal=_CARLOS, action="kms:Decrypt", resource=_KEY)
    own = _policy({"Action": "kms:Decrypt", "Resource": _KEY})
    assert allowed(request, identity=[own], resource_policy=_DEFAULT_KEY_POLICY)
    assert not allowed(request, identity=[], resource_policy=_DEFAULT_KEY_POLICY)
    assert not allowed(request, identity=[own], resource_policy=_policy())
    stranger = Request(principal="arn:aws:iam::999999999999:role/x", action="kms:Decrypt", resource=_KEY)
    assert not allowed(stranger, identity=[own], resource_policy=_DEFAULT_KEY_POLICY)


def test_a_key_through_one_service_and_with_one_context() -> None:
    """KMS guide, "AWS KMS condition keys": kms:ViaService and kms:EncryptionContext."""
    via = _policy(
        {
            "Action": "kms:Decrypt",
            "Resource": _KEY,
            "Condition": {"StringEquals": {"kms:ViaService": ["ec2.us-west-2.amazonaws.com"]}},
        }
    )
    purpose = _policy(
        {
            "Action": "kms:Decrypt",
            "Resource": _KEY,
            "Condition": {"StringEquals": {"kms:EncryptionContext:AppName": "ExampleApp"}},
        }
    )

    def asks(own: Document, **context: str) -> bool:
        named = {"via": "kms:ViaService", "app": "kms:EncryptionContext:AppName"}
        keys = {named[name]: value for name, value in context.items()}
        request = Request(principal=_CARLOS, action="kms:Decrypt", resource=_KEY, context=keys)
        return allowed(request, identity=[own], resource_policy=_DEFAULT_KEY_POLICY)

    assert asks(via, via="ec2.us-west-2.amazonaws.com")
    assert not asks(via, via="s3.us-west-2.amazonaws.com")
    assert not asks(via)
    assert asks(purpose, app="ExampleApp")
    assert not asks(purpose, app="exampleapp")


def test_the_confused_deputy_problem() -> None:
    """IAM guide, "The confused deputy problem": a service acts for the source that the policy names, no other."""
    topic = _policy(
        {
            "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": "*",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": "111122223333"},
                "ArnLike": {"aws:SourceArn": "arn:aws:cloudtrail:*:111122223333:trail/*"},
            },
        }
    )

    def asks(service: str, account: str, arn: str) -> bool:
        context = {"aws:SourceAccount": account, "aws:SourceArn": arn}
        request = Request(principal=service, action="sns:Publish", resource="arn:aws:sns:x", context=context)
        return allowed(request, identity=[], resource_policy=topic)

    trail = "arn:aws:cloudtrail:us-east-1:111122223333:trail/t"
    assert asks("cloudtrail.amazonaws.com", "111122223333", trail)
    assert not asks("cloudtrail.amazonaws.com", "999999999999", trail.replace("111122223333", "999999999999"))
    assert not asks("s3.amazonaws.com", "111122223333", trail)


def test_a_web_identity_is_who_its_token_says() -> None:
    """IAM guide, "Create a role for OpenID Connect federation": provider, audience and subject must match."""
    provider = "arn:aws:iam::111122223333:oidc-provider/oidc.example"
    trust = _policy(
        {
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {"oidc.example:aud": "sts.amazonaws.com", "oidc.example:sub": "account"}},
        }
    )

    def asks(principal: str = provider, audience: str = "sts.amazonaws.com", subject: str = "account") -> bool:
        context = {"oidc.example:aud": audience, "oidc.example:sub": subject}
        action = "sts:AssumeRoleWithWebIdentity"
        request = Request(principal=principal, action=action, resource="*", context=context)
        return allowed(request, identity=[], resource_policy=trust)

    assert asks()
    assert not asks(principal=f"{provider}.other")
    assert not asks(audience="other")
    assert not asks(subject="other")


@pytest.mark.parametrize(
    "unknown",
    [{"NotAction": "s3:*"}, {"NotResource": "*"}, {"NotPrincipal": "*"}, {"Condition": {"IpAddress": {"aws:x": "a"}}}],
)
def test_what_it_does_not_know_it_does_not_judge(unknown: Document) -> None:
    document = _policy({"Action": "s3:GetObject", "Resource": "*"})
    statements(document)[0].update(unknown)
    context = {"aws:x": "a"}
    request = Request(principal=_CARLOS, action="s3:GetObject", resource="*", context=context)
    with pytest.raises(NotImplementedError, match="does not know"):
        allowed(request, identity=[document])
