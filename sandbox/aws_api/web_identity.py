"""Web identities (IRSA): service account tokens of the sandbox, and the trust that a role puts in them.

moto gives any role to anyone who asks for it with a web identity, and under enforcement fails on the request, which
carries no signature. So the request is judged here as STS does: the token must be genuine and current, and the role's
trust policy must name its issuer, subject and audience.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "sts.amazonaws.com"
_ACTION = "sts:AssumeRoleWithWebIdentity"
_HEADER = {"alg": "HS256", "typ": "JWT"}


class UntrustedError(Exception):
    """The token is not genuine, or the role does not trust its bearer."""


def make_token(
    *, issuer: str, subject: str, secret: str, now: datetime, life: timedelta, audience: str = AUDIENCE
) -> str:
    """A JSON Web Token as the cluster would project it into a pod.

    Args:
        issuer: the OIDC provider without ``https://``.
        subject: ``system:serviceaccount:<namespace>:<name>``.
        secret: signs it (HMAC); only this sandbox knows it.
        now: timezone-aware UTC.
    """
    claims = {
        "iss": f"https://{issuer}",
        "sub": subject,
        "aud": [audience],
        "iat": int(now.timestamp()),
        "exp": int((now + life).timestamp()),
    }
    signed = f"{_encoded(json.dumps(_HEADER).encode())}.{_encoded(json.dumps(claims).encode())}"
    return f"{signed}.{_signature(signed, secret)}"


def check(token: str, trust: Mapping[str, Any], *, secret: str, now: datetime, public_key: bytes | None = None) -> None:
    """Judges whether the bearer of a token may assume a role with this trust policy.

    Args:
        secret: signs the sandbox's own tokens.
        public_key: signs those of the cluster beside it, as PEM; None while there is none.

    Raises:
        UntrustedError: says why not.
    """
    claims = _claims(token, secret, public_key, now)
    issuer = str(claims["iss"]).removeprefix("https://")
    values = {f"{issuer}:sub": [str(claims["sub"])], f"{issuer}:aud": [str(name) for name in claims["aud"]]}
    if not any(_trusts(statement, issuer, values) for statement in _listed(trust.get("Statement"))):
        raise UntrustedError(f"the role's trust policy does not name {claims['sub']} of {issuer}")


def _claims(token: str, secret: str, public_key: bytes | None, now: datetime) -> dict[str, Any]:
    signed, _, signature = token.strip().rpartition(".")
    genuine = hmac.compare_digest(signature.encode(), _signature(signed, secret).encode())
    if not genuine and not (public_key and _signed_by(public_key, signed, signature)):
        raise UntrustedError("the web identity token is not this sandbox's (Sandbox.web_identity_token makes them)")
    payload = signed.partition(".")[2]
    claims: dict[str, Any] = json.loads(_decoded(payload))
    if now.timestamp() >= claims["exp"]:
        raise UntrustedError("the web identity token has expired")
    return claims


def _trusts(statement: Mapping[str, Any], issuer: str, values: Mapping[str, list[str]]) -> bool:
    principal: object = statement.get("Principal")
    named: Mapping[str, Any] = cast("Mapping[str, Any]", principal) if isinstance(principal, Mapping) else {}
    federated = _listed(named.get("Federated"))
    providers = [str(arn).partition(":oidc-provider/")[2] for arn in federated]
    if statement.get("Effect") != "Allow" or issuer not in providers:
        return False
    if not any(fnmatchcase(_ACTION, str(action)) for action in _listed(statement.get("Action"))):
        return False
    conditions: Mapping[str, Mapping[str, Any]] = statement.get("Condition") or {}
    return all(
        operator in ("StringEquals", "StringLike") and _met(values.get(key, []), _listed(wanted), operator)
        for operator, pairs in conditions.items()
        for key, wanted in pairs.items()
    )


def _met(found: list[str], wanted: list[Any], operator: str) -> bool:
    if operator == "StringEquals":
        return any(value in wanted for value in found)
    return any(fnmatchcase(value, str(pattern)) for value in found for pattern in wanted)


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _signature(signed: str, secret: str) -> str:
    return _encoded(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))


def _signed_by(public_key: bytes, signed: str, signature: str) -> bool:
    """Whether a cluster's key signed it (RS256, as kube-apiserver does)."""
    key = serialization.load_pem_public_key(public_key)
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
