"""The adapter of :mod:`.s3` with its busiest operations done without boto3.

boto3 spends several milliseconds of processor time on each request, most of it on building and parsing what is always
the same; with many small objects that, not the network, is how long a run takes. Here listing, looking, reading and
writing are signed HTTP requests over one connection pool. Everything rare stays with boto3, in the class beneath.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import boto3
import urllib3
from botocore.exceptions import ClientError, NoCredentialsError
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, parse_url

from aivo_backup.errors import BackupError, ConfigurationError, UnreachableError
from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.minio.objects import (
    Attributes,
    Condition,
    ListedObject,
    ListedVersion,
    ObjectInfo,
    Reading,
    Stored,
)
from aivo_backup.stores.minio.reading import Patience
from aivo_backup.stores.minio.s3 import PAGE, S3ObjectStore, in_key_order, without_framing
from aivo_backup.stores.minio.s3_upload import S3Upload, s3_errors
from aivo_backup.stores.minio.signature import EMPTY_SHA256, UNSIGNED, Identity, encoded, encoded_query, signed_headers

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from urllib3.response import BaseHTTPResponse

_CONNECTIONS = 64
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_FIRST_FAILURE = 300
_KEPT_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language")
_METADATA = "x-amz-meta-"


class SignedHttp:
    """Signed requests to one S3 endpoint, path-style, over connections that are kept.

    Args:
        session: gives the credentials, which may renew themselves.
        ca_file: authorities (PEM) to trust; empty means the system's.

    Raises:
        ConfigurationError: the session has no credentials.
    """

    def __init__(self, session: boto3.Session, *, endpoint: str, region: str, ca_file: str = "") -> None:
        url = parse_url(endpoint)
        self._session = session
        self._region = region
        self._host = url.netloc or ""
        self._base = (url.path or "").rstrip("/")
        options: dict[str, Any] = {"ca_certs": ca_file} if ca_file else {}
        self._pool = urllib3.connection_from_url(
            endpoint,
            maxsize=_CONNECTIONS,
            timeout=Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            retries=False,
            **options,
        )

    def ask(
        self,
        method: str,
        what: str,
        *,
        bucket: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        body_sha256: str = EMPTY_SHA256,
        streamed: bool = False,
    ) -> "BaseHTTPResponse":
        """Sends one request; the answer is a success.

        Raises:
            AbsentError, ChangedError, AccessDeniedError, UnreachableError, BackupError: ``what`` says what was done.
        """
        path = f"{self._base}/{bucket}" + (f"/{encoded(key, keep='/')}" if key else "")
        text = encoded_query(query or {})
        with s3_errors(what):
            signed = signed_headers(
                self._identity(),
                method=method,
                path=path,
                query=text,
                headers={"host": self._host, **(headers or {})},
                body_sha256=body_sha256,
                now=datetime.now(UTC),
            )
            try:
                answer = self._pool.request(
                    method,
                    f"{path}?{text}" if text else path,
                    headers=signed,
                    body=body or None,
                    preload_content=not streamed,
                    decode_content=False,
                )
                if answer.status >= _FIRST_FAILURE:
                    raise _refusal(answer, method)
            except HTTPError as error:
                raise _unreachable(what, error) from error
        return answer

    def _identity(self) -> Identity:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        frozen = credentials.get_frozen_credentials()
        return Identity(
            access_key=frozen.access_key or "",
            secret_key=frozen.secret_key or "",
            token=frozen.token or "",
            region=self._region,
        )


class LeanS3ObjectStore(S3ObjectStore):
    """Object storage that speaks S3, with little processor time per object.

    Args:
        client: for what is rare; its endpoint and region are used throughout.
        session: that the client was made from.
        ca_file: authorities (PEM) to trust; empty means the system's.
        encryption_key, patience, page: see :class:`.S3ObjectStore`.
    """

    def __init__(
        self,
        client: "S3Client",
        *,
        session: boto3.Session,
        ca_file: str = "",
        encryption_key: str = "",
        patience: Patience | None = None,
        page: int = PAGE,
    ) -> None:
        super().__init__(client, encryption_key=encryption_key, patience=patience, page=page)
        self._http = SignedHttp(
            session, endpoint=client.meta.endpoint_url, region=client.meta.region_name, ca_file=ca_file
        )
        self._encryption_headers = (
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": encryption_key,
                "x-amz-server-side-encryption-bucket-key-enabled": "true",
            }
            if encryption_key
            else {}
        )

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """See the port."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(self.page), "encoding-type": "url"}
        while True:
            page = self._page(bucket, f"list {bucket}/{prefix}", query)
            ends = _fields(page)
            decoded = _decoder(ends)
            for item in page:
                if item.tag.endswith("}Contents"):
                    fields = _fields(item)
                    yield ListedObject(
                        key=decoded(fields["Key"]),
                        size=int(fields["Size"]),
                        etag=fields["ETag"].strip('"'),
                        last_modified=datetime.fromisoformat(fields["LastModified"]),
                    )
            if ends.get("IsTruncated") != "true":
                return
            query["continuation-token"] = ends["NextContinuationToken"]

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        """See the port."""
        query = {"versions": "", "prefix": prefix, "max-keys": str(self.page), "encoding-type": "url"}
        markers: dict[str, str] = {}
        while True:
            page = self._page(bucket, f"list the versions of {bucket}/{prefix}", query | markers)
            ends = _fields(page)
            decoded = _decoder(ends)
            found = {
                is_marker: [
                    _version(_fields(item), decoded, is_marker=is_marker) for item in page if item.tag.endswith(tag)
                ]
                for is_marker, tag in ((False, "}Version"), (True, "}DeleteMarker"))
            }
            yield from in_key_order(found[False], found[True])
            if ends.get("IsTruncated") != "true":
                return
            markers = {"key-marker": decoded(ends["NextKeyMarker"])}
            if ends.get("NextVersionIdMarker"):
                markers["version-id-marker"] = ends["NextVersionIdMarker"]

    def info(self, bucket: str, key: str, *, version_id: str = "") -> ObjectInfo:
        """See the port."""
        query = {"versionId": version_id} if version_id else {}
        what = f"look at {bucket}/{key} at {self.name}"
        answer = self._http.ask("HEAD", what, bucket=bucket, key=key, query=query)
        return _info(answer.headers, int(answer.headers.get("content-length", "0")))

    def open(self, bucket: str, key: str, *, version_id: str = "", if_match: str = "", start: int = 0) -> Reading:
        """See the port."""
        headers: dict[str, str] = {}
        if if_match:
            headers["if-match"] = f'"{if_match}"'
        if start:
            headers["range"] = f"bytes={start}-"
        query = {"versionId": version_id} if version_id else {}
        what = f"read {bucket}/{key} at {self.name}"
        answer = self._http.ask("GET", what, bucket=bucket, key=key, query=query, headers=headers, streamed=True)
        size = int(answer.headers.get("content-length", "0"))
        if start:
            size = int(answer.headers.get("content-range", "").rpartition("/")[2] or start + size)
        return LeanReading(answer, _info(answer.headers, size), what)

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        sha256: str,
        condition: Condition | None = None,
    ) -> Stored:
        """See the port. The digest is part of the signature, so that a body that suffered on the way is refused."""
        headers = {
            "content-length": str(len(body)),
            **attributes.headers,
            **{_METADATA + name: value for name, value in attributes.metadata.items()},
            **self._encryption_headers,
        }
        if attributes.content_type:
            headers["content-type"] = attributes.content_type
        if condition is not None:
            headers |= {"if-match": f'"{condition.etag}"'} if condition.etag else {"if-none-match": "*"}
        what = f"write {bucket}/{key} at {self.name}"
        answer = self._http.ask("PUT", what, bucket=bucket, key=key, headers=headers, body=body, body_sha256=sha256)
        return Stored(
            version_id=answer.headers.get("x-amz-version-id", ""), etag=answer.headers.get("etag", "").strip('"')
        )

    def begin_upload(self, bucket: str, key: str, attributes: Attributes) -> "LeanUpload":
        """See the port."""
        upload_id = self.new_upload_id(bucket, key, attributes)
        return LeanUpload(self.client, bucket, key, upload_id, self._http)

    def _page(self, bucket: str, what: str, query: Mapping[str, str]) -> ElementTree.Element:
        where = f"{what} at {self.name}"
        answer = self.patiently(lambda: self._http.ask("GET", where, bucket=bucket, query=query))
        try:
            return ElementTree.fromstring(answer.data)  # noqa: S314 (expat bounds entities, and the store is ours)
        except ElementTree.ParseError as error:
            raise BackupError(f"{where}: the answer is no listing", mend="check that the endpoint speaks S3") from error


def connect(endpoint: str, *, key: str, secret: str, region: str, ca_file: str) -> LeanS3ObjectStore:
    """A store by its URL and login.

    Raises:
        ConfigurationError: ``endpoint`` is no URL.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigurationError(f"the endpoint is {endpoint!r}", mend="write it as https://host:port")
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=region)
    client = s3_client(session, endpoint_url=endpoint, ca_file=ca_file)
    return LeanS3ObjectStore(client, session=session, ca_file=ca_file)


class LeanReading:
    """See :class:`.objects.Reading`."""

    def __init__(self, answer: "BaseHTTPResponse", info: ObjectInfo, what: str) -> None:
        self._answer = answer
        self._what = what
        self.info = info

    def read(self, amount: int) -> bytes:
        """See the port."""
        try:
            return self._answer.read(amount)
        except (HTTPError, OSError) as error:
            raise _unreachable(self._what, error) from error

    def close(self) -> None:
        """See the port. A connection with a rest of the body on it is of no use to the next request."""
        self._answer.close()
        self._answer.release_conn()


class LeanUpload(S3Upload):
    """A multipart upload whose parts go the lean way."""

    def __init__(self, client: "S3Client", bucket: str, key: str, upload_id: str, http: SignedHttp) -> None:
        super().__init__(client, bucket, key, upload_id)
        self._http = http

    def send(self, number: int, body: bytes, checksum: str) -> str:
        """Sends one part and answers its ETag."""
        answer = self._http.ask(
            "PUT",
            f"write part {number} of {self.bucket}/{self.key}",
            bucket=self.bucket,
            key=self.key,
            query={"partNumber": str(number), "uploadId": self.upload_id},
            headers={"content-length": str(len(body)), "x-amz-checksum-crc32": checksum},
            body=body,
            body_sha256=UNSIGNED,
        )
        return answer.headers.get("etag", "")


def _fields(element: ElementTree.Element) -> dict[str, str]:
    """The texts of an element's children by their names without the namespace."""
    return {child.tag.rpartition("}")[2]: child.text or "" for child in element}


def _decoder(ends: Mapping[str, str]) -> Callable[[str], str]:
    """How the keys of a page are read: percent-encoded, as was asked for, unless the server did not do so."""
    return unquote_plus if ends.get("EncodingType") == "url" else str


def _version(fields: Mapping[str, str], decoded: Callable[[str], str], *, is_marker: bool) -> ListedVersion:
    # Some servers give a delete marker an ETag and a size too.
    return ListedVersion(
        key=decoded(fields["Key"]),
        version_id=fields["VersionId"],
        size=0 if is_marker else int(fields["Size"]),
        etag="" if is_marker else fields["ETag"].strip('"'),
        is_latest=fields["IsLatest"] == "true",
        is_marker=is_marker,
    )


def _info(headers: Mapping[str, str], size: int) -> ObjectInfo:
    lower = {name.lower(): value for name, value in headers.items()}
    return ObjectInfo(
        size=size,
        etag=lower.get("etag", "").strip('"'),
        version_id=lower.get("x-amz-version-id", ""),
        last_modified=parsedate_to_datetime(lower["last-modified"]).astimezone(UTC),
        attributes=Attributes(
            content_type=lower.get("content-type", ""),
            metadata={
                name.removeprefix(_METADATA): value for name, value in lower.items() if name.startswith(_METADATA)
            },
            headers=without_framing({name: lower[name] for name in _KEPT_HEADERS if lower.get(name)}),
        ),
    )


def _refusal(answer: "BaseHTTPResponse", method: str) -> ClientError:
    """The failure in botocore's form, so that one place alone knows what the codes mean."""
    code, message = str(answer.status), ""
    body = answer.data if answer.data else answer.read()
    try:
        fields = _fields(ElementTree.fromstring(body))  # noqa: S314 (as above)
        code, message = fields.get("Code") or code, fields.get("Message", "")
    except ElementTree.ParseError:
        pass  # an answer without a body, or a proxy's own page: the status must do
    answer.release_conn()
    return ClientError({"Error": {"Code": code, "Message": message}}, method)


def _unreachable(what: str, error: Exception) -> UnreachableError:
    return UnreachableError(f"{what}: {error}", mend="check the endpoint and the network")
