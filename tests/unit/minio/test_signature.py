"""Our signature is botocore's, for every kind of request that is made."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from aivo_backup.stores.minio.signature import (
    EMPTY_SHA256,
    UNSIGNED,
    Identity,
    encoded,
    encoded_query,
    signed_headers,
)
from tests.unit.minio.contract import ODD_KEYS

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)
_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    key=st.sampled_from(ODD_KEYS),
    query=st.dictionaries(st.sampled_from(["versionId", "list-type", "prefix", "versions", "max-keys"]), _TEXT),
    metadata=st.dictionaries(st.sampled_from(["x-amz-meta-a", "x-amz-meta-b", "if-match", "range"]), _TEXT),
    digest=st.sampled_from([EMPTY_SHA256, UNSIGNED, "0" * 64]),
    token=st.sampled_from(["", "session/token+with=signs"]),
)
def test_it_is_botocores(
    method: str, key: str, query: dict[str, str], metadata: dict[str, str], digest: str, token: str
) -> None:
    path = "/bucket/" + encoded(key, keep="/")
    ours = signed_headers(
        Identity(access_key="AKID", secret_key="secret", token=token, region="eu-central-1"),
        method=method,
        path=path,
        query=encoded_query(query),
        headers={"host": "localhost:9000", **metadata},
        body_sha256=digest,
        now=NOW,
    )
    names = ours["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    auth = S3SigV4Auth(Credentials("AKID", "secret", token or None), "s3", "eu-central-1")
    request = AWSRequest(method, f"https://localhost:9000{path}?{urlencode(query)}", params=query)
    request.url = f"https://localhost:9000{path}"
    for name, value in ours.items():
        if name != "authorization":
            request.headers[name] = value
    request.context["timestamp"] = "20261123T040506Z"
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    assert names == ";".join(sorted(name for name in ours if name != "authorization"))
    assert ours["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-central-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
