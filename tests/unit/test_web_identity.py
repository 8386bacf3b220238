"""Service account tokens that a cluster has signed, judged as STS judges them."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox.aws_api.web_identity import UntrustedError, check

_HEADER = b'{"alg":"RS256"}'
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ISSUER = "oidc.sandbox.invalid/id/LOCAL"
SUBJECT = "system:serviceaccount:aivo-system:aivo-backup-minio-writer"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TRUST = {
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{ISSUER}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{ISSUER}:sub": SUBJECT, f"{ISSUER}:aud": "sts.amazonaws.com"}},
        }
    ]
}


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _public(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _token(key: rsa.RSAPrivateKey = KEY, *, subject: str = SUBJECT, life: timedelta = timedelta(hours=1)) -> str:
    claims = {"iss": f"https://{ISSUER}", "sub": subject, "aud": ["sts.amazonaws.com"]}
    claims |= {"exp": int((NOW + life).timestamp())}
    signed = f"{_encoded(_HEADER)}.{_encoded(json.dumps(claims).encode())}"
    return f"{signed}.{_encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def test_a_token_of_the_clusters_key_is_trusted() -> None:
    check(_token(), TRUST, secret="s", now=NOW, public_key=_public(KEY))


@pytest.mark.parametrize(
    ("token", "public_key"),
    [
        (_token(), None),
        (_token(), _public(rsa.generate_private_key(public_exponent=65537, key_size=2048))),
        (_token().rpartition(".")[0] + ".AAAA", _public(KEY)),
        (_token(subject="system:serviceaccount:aivo-system:default"), _public(KEY)),
        (_token(life=timedelta(seconds=-1)), _public(KEY)),
    ],
    ids=["no cluster", "another key", "a broken signature", "another account", "expired"],
)
def test_any_other_is_refused(token: str, public_key: bytes | None) -> None:
    with pytest.raises(UntrustedError):
        check(token, TRUST, secret="s", now=NOW, public_key=public_key)
