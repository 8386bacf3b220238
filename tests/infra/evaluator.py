"""AWS's policy evaluation for requests within one account, as far as our documents use it.

An explicit deny wins over everything. Otherwise an identity policy or a resource policy must allow; for KMS the
resource policy must allow too (a key policy that names the account hands the decision on to identity policies, which
must then allow as well). An AWS service and a web identity have no identity policy of ours: there, and for who may
take on a role, the resource policy decides alone.

An element or operator that is not known here fails the test that meets it: no verdict is guessed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import cast

from tests.infra.plans import Document, listed, statements


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        principal: ARN of the role or user behind the session; of an identity provider for a web identity; or a service
            such as ``cloudtrail.amazonaws.com``.
        context: condition keys that the request carries; what is not in it is absent.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def keys(self) -> dict[str, str]:
        """The request's context, with what AWS itself adds. Names of keys know no case."""
        always = {"aws:PrincipalArn": self.principal, "aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
        return {name.lower(): value for name, value in {**always, **self.context}.items()}


def allowed(request: Request, *, identity: Sequence[Document], resource_policy: Document | None = None) -> bool:
    """The verdict."""
    own = [statement for document in identity for statement in statements(document) if _applies(statement, request)]
    others = [
        statement
        for statement in (statements(resource_policy) if resource_policy else [])
        if _applies(statement, request) and _names(statement["Principal"], request.principal)
    ]
    if any(statement["Effect"] == "Deny" for statement in [*own, *others]):
        return False
    by_identity = any(statement["Effect"] == "Allow" for statement in own)
    by_resource = any(statement["Effect"] == "Allow" for statement in others)
    if not _has_identity_policies(request):
        return by_resource
    if request.action.startswith("kms:"):
        return by_identity and by_resource
    return by_identity or by_resource


def _has_identity_policies(request: Request) -> bool:
    service = not request.principal.startswith("arn:")
    return not service and ":oidc-provider/" not in request.principal and not request.action.startswith("sts:Assume")


def _applies(statement: Document, request: Request) -> bool:
    unknown = statement.keys() - {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
    if unknown:
        raise NotImplementedError(f"the evaluator does not know {sorted(unknown)}")
    actions = listed(statement["Action"])
    resources = listed(statement.get("Resource", "*"))
    return (
        any(fnmatchcase(request.action.lower(), action.lower()) for action in actions)
        and any(_like(request.resource, resource) for resource in resources)
        and all(
            _holds(operator, request.keys.get(key.lower()), listed(wanted))
            for operator, keys in cast("Mapping[str, Mapping[str, object]]", statement.get("Condition", {})).items()
            for key, wanted in keys.items()
        )
    )


def _names(principal: object, arn: str) -> bool:
    # The two spellings mean the same: everybody, AWS's services among them.
    if principal in ("*", {"AWS": "*"}):
        return True
    kinds = cast("Mapping[str, object]", principal)
    if not arn.startswith("arn:"):
        return arn in listed(kinds.get("Service"))
    if ":oidc-provider/" in arn:
        return arn in listed(kinds.get("Federated"))
    account = arn.split(":")[4]
    aws = listed(kinds.get("AWS"))
    return any(entry in ("*", arn, account, f"arn:aws:iam::{account}:root") for entry in aws)


def _holds(operator: str, value: str | None, wanted: list[str]) -> bool:
    if operator == "Null":
        return (value is None) == (wanted == ["true"])
    if operator.endswith("IfExists"):
        return value is None or _holds(operator.removesuffix("IfExists"), value, wanted)
    negated = "Not" in operator
    if value is None:
        # A key that is absent matches nothing, so only a negated operator holds.
        return negated
    if operator.replace("Not", "") not in _OPERATORS:
        raise NotImplementedError(f"the evaluator does not know {operator}")
    compare = _OPERATORS[operator.replace("Not", "")]
    return negated != any(compare(value, entry) for entry in wanted)


def _like(value: str, pattern: str) -> bool:
    parts = (re.escape(char) if char not in "*?" else {"*": ".*", "?": "."}[char] for char in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


def _arn_like(value: str, pattern: str) -> bool:
    """Each of an ARN's six parts is compared by itself: a wildcard does not reach across a colon."""
    parts, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(map(_like, parts, patterns))


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "NumericEquals": lambda value, wanted: float(value) == float(wanted),
    "NumericLessThan": lambda value, wanted: float(value) < float(wanted),
    "NumericLessThanEquals": lambda value, wanted: float(value) <= float(wanted),
    "NumericGreaterThan": lambda value, wanted: float(value) > float(wanted),
}
