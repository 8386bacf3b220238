"""AWS Signature Version 4 for S3: the headers that sign one request."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of a body's digest, for a body that another checksum guards."""
_ALGORITHM = "AWS4-HMAC-SHA256"
_SCOPE_END = "aws4_request"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who signs. ``token`` is empty for long-lived keys."""

    access_key: str
    secret_key: str
    token: str
    region: str


def encoded(text: str, *, keep: str = "") -> str:
    """Percent-encoded the way the signature wants it: everything but letters, digits, ``-_.~`` and ``keep``."""
    return quote(text, safe="-_.~" + keep)


def encoded_query(query: Mapping[str, str]) -> str:
    """The query string, encoded and in the signature's order."""
    return "&".join(f"{name}={value}" for name, value in sorted((encoded(n), encoded(v)) for n, v in query.items()))


def signed_headers(
    identity: Identity,
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body_sha256: str,
    now: datetime,
) -> dict[str, str]:
    """``headers`` and those that sign the request.

    Args:
        path, query: encoded as they are sent.
        headers: names in lower case, ``host`` among them; all of them are signed.
        body_sha256: hexadecimal digest of the body, or :data:`UNSIGNED`.
        now: UTC; servers accept it within 15 minutes of theirs.
    """
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
    if identity.token:
        signed["x-amz-security-token"] = identity.token
    names = sorted(signed)
    lines = [f"{name}:{' '.join(signed[name].split())}\n" for name in names]
    canonical = "\n".join((method, path, query, "".join(lines), ";".join(names), body_sha256))
    scope = f"{stamp[:8]}/{identity.region}/s3/{_SCOPE_END}"
    # Headers travel as Latin-1, which gives back the very bytes of metadata that was read in another encoding.
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    text = "\n".join((_ALGORITHM, stamp, scope, digest))
    key = _signing_key(identity.secret_key, stamp[:8], identity.region)
    signature = hmac.new(key, text.encode("ascii"), hashlib.sha256).hexdigest()
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={identity.access_key}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


@lru_cache(maxsize=16)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for step in (day, region, "s3", _SCOPE_END):
        key = hmac.new(key, step.encode("ascii"), hashlib.sha256).digest()
    return key
