"""IAM policy documents: built from statements, and the rule that a wildcard needs a written reason."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Conditions = Mapping[str, Mapping[str, str | tuple[str, ...]]]

ANYONE: Mapping[str, str] = {"AWS": "*"}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a policy.

    Attributes:
        sid: letters and digits, unique in its document.
        actions: service actions; at least one.
        resources: ARNs. Empty only in a trust policy.
        principals: who; None in an identity policy.
        conditions: operator to key to value.
        wildcard_reason: why an action or the resource must be ``*``. Not part of the document: it is for the reader,
            and a statement with a bare ``*`` and no reason cannot be built.
    """

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    effect: str = "Allow"
    principals: Mapping[str, str | tuple[str, ...]] | None = None
    conditions: Conditions = field(default_factory=dict[str, Mapping[str, str | tuple[str, ...]]])
    wildcard_reason: str = ""

    def __post_init__(self) -> None:
        wide = [entry for entry in self.actions if "*" in entry]
        wide += [entry for entry in self.resources if entry == "*"]
        if self.effect == "Allow" and wide and not self.wildcard_reason:
            raise ValueError(f"statement {self.sid} allows {wide[0]!r} without a reason: write wildcard_reason")

    def as_json(self) -> dict[str, object]:
        """The statement as AWS reads it."""
        body: dict[str, object] = {"Sid": self.sid, "Effect": self.effect, "Action": _listed(self.actions)}
        if self.principals is not None:
            body["Principal"] = {
                kind: who if isinstance(who, str) else _listed(who) for kind, who in self.principals.items()
            }
        if self.resources:
            body["Resource"] = _listed(self.resources)
        if self.conditions:
            body["Condition"] = {
                operator: {key: value if isinstance(value, str) else _listed(value) for key, value in keys.items()}
                for operator, keys in self.conditions.items()
            }
        return body


def document(statements: Iterable[Statement]) -> str:
    """The policy document as compact JSON; the order of statements and keys is stable, so diffs are quiet."""
    return json.dumps({"Version": "2012-10-17", "Statement": [statement.as_json() for statement in statements]})


def _listed(values: tuple[str, ...]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)
