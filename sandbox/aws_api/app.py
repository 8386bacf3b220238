"""The WSGI application that gunicorn serves: moto, and ``/_sandbox/…`` for what moto lacks.

gunicorn must run it in one process: the state is in memory and dies with it. The environment variable
``SANDBOX_SECRETS`` names the folder with the administrator's access key and the token of ``/_sandbox/``.
"""

import json
import os
import resource
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY, environ_key_for_header
from moto.iam.models import iam_backends
from moto.server import (
    DomainDispatcherApplication,  # pyright: ignore[reportPrivateImportUsage] - public, but moto lists no exports
    create_backend_app,  # pyright: ignore[reportPrivateImportUsage] - public, but moto lists no exports
)

from sandbox.aws_api import enforcement, gunicorn_settings, lifecycle, locks, objects, replication, web_identity
from sandbox.aws_api.web_identity import UntrustedError

StartResponse = Callable[..., Any]
_ADMINISTRATOR = "sandbox-administrator"
_EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
_STRIPES = 64
_UNDERSCORED = "HTTP_" + gunicorn_settings.NOTE.replace("-", "_")


class _Dispatcher(DomainDispatcherApplication):
    """moto's dispatcher, which for every request lists the folder of its own package to tell which service is meant,
    under a lock: most of the time of a small request. There are few hosts, so each is looked up once."""

    def __init__(self, create_app: Callable[..., Any]) -> None:
        super().__init__(create_app)
        self._known: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._known:
            self._known[host] = super().get_backend_for_host(host)
        return self._known[host]


class AwsApi:
    """moto with a control interface, and with writes of one S3 key one after the other."""

    def __init__(self, *, account: str, access_key: str, secret_key: str, token: str, cluster_key: Path) -> None:
        self.instance = uuid.uuid4().hex
        self._moto: Any = _Dispatcher(create_backend_app)
        self._token = token
        self._cluster_key = cluster_key
        self._account = account
        self._administrator = Credentials(access_key, secret_key)
        self._stripes = [Lock() for _ in range(_STRIPES)]
        self._handlers: dict[tuple[str, str], Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            ("GET", "instance"): lambda _: {"instance": self.instance},
            ("POST", "flip"): _flip,
            ("POST", "replicate"): lambda _: asdict(replication.replicate()),
            ("POST", "lifecycle"): _lifecycle,
            ("GET", "enforcement"): lambda _: {"enforced": enforcement.is_on()},
            ("POST", "enforcement"): _switch_enforcement,
        }
        enforcement.install()
        locks.install()
        _make_administrator(account, access_key, secret_key)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request (WSGI)."""
        path, method = str(environ.get("PATH_INFO", "")), str(environ.get("REQUEST_METHOD", ""))
        underscored = str(environ.pop(_UNDERSCORED, ""))
        if underscored:
            environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {
                environ_key_for_header(name): name.lower() for name in underscored.split(",")
            }
        if path.startswith("/_sandbox/"):
            return self._control(method, path.removeprefix("/_sandbox/"), environ, start_response)
        if method == "POST" and "HTTP_AUTHORIZATION" not in environ:
            try:
                self._admit_web_identity(environ)
            except UntrustedError as error:
                return _refuse(start_response, str(error))
        if path.startswith("/moto-api"):  # it can wipe everything, without credentials
            return _answer(start_response, "404 Not Found", {"error": "not served here"})
        if method in ("PUT", "POST", "DELETE") and path.count("/") > 1:
            # moto checks a write's condition (If-None-Match, If-Match) and stores in two steps; S3 does it in one.
            with self._stripes[hash(path) % _STRIPES]:
                answer = self._moto(environ, start_response)
            if method == "POST" and "uploads" in str(environ.get("QUERY_STRING", "")):
                lifecycle.note_uploads(datetime.now(UTC))
            return answer
        return self._moto(environ, start_response)

    def _admit_web_identity(self, environ: dict[str, Any]) -> None:
        """Judges a request for a role by web identity, and signs it as the administrator so that moto lets it pass."""
        body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        asked = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if asked.get("Action") != "AssumeRoleWithWebIdentity" or not enforcement.is_on():
            return
        trust = enforcement.trust_policy(self._account, asked.get("RoleArn", ""))
        web_identity.check(
            asked.get("WebIdentityToken", ""),
            trust,
            secret=self._token,
            public_key=self._cluster_key.read_bytes() if self._cluster_key.is_file() else None,
            now=datetime.now(UTC),
        )
        url = f"https://{environ['HTTP_HOST']}{environ['PATH_INFO']}"
        request = AWSRequest("POST", url, {"Content-Type": environ.get("CONTENT_TYPE", "")}, body)
        SigV4Auth(self._administrator, "sts", "us-east-1").add_auth(request)
        for name in ("Authorization", "X-Amz-Date"):
            environ["HTTP_" + name.upper().replace("-", "_")] = request.headers[name]

    def _control(
        self, method: str, what: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        if not secrets.compare_digest(str(environ.get("HTTP_X_SANDBOX_TOKEN", "")), self._token):
            return _answer(start_response, "403 Forbidden", {"error": "the token is missing or wrong"})
        handler = self._handlers.get((method, what))
        if handler is None:
            return _answer(start_response, "404 Not Found", {"error": f"there is no {method} {what}"})
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body: Mapping[str, Any] = json.loads(environ["wsgi.input"].read(length) or b"{}")
            return _answer(start_response, "200 OK", handler(body))
        except objects.NotFoundError as error:
            return _answer(start_response, "404 Not Found", {"error": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            return _answer(start_response, "400 Bad Request", {"error": f"malformed request: {error!r}"})


def _flip(body: Mapping[str, Any]) -> dict[str, Any]:
    version = objects.find_version(objects.bucket(body["bucket"]), body["key"], body.get("version_id") or "")
    offset, before, after = objects.flip_byte(version, body.get("offset"))
    return {
        "bucket": body["bucket"],
        "key": body["key"],
        "version_id": version.version_id,
        "offset": offset,
        "before": before,
        "after": after,
    }


def _lifecycle(body: Mapping[str, Any]) -> dict[str, Any]:
    as_of = datetime.fromisoformat(body["as_of"])
    if as_of.tzinfo is None:
        raise ValueError("as_of has no time zone")
    return {"actions": [asdict(action) for action in lifecycle.apply(as_of, body.get("bucket", ""))]}


def _switch_enforcement(body: Mapping[str, Any]) -> dict[str, Any]:
    enforcement.switch(on=bool(body["enforced"]))
    return {"enforced": enforcement.is_on()}


def _make_administrator(account: str, access_key: str, secret_key: str) -> None:
    """Gives the administrator the access key that the sandbox generated, so that it survives restarts."""
    backend = iam_backends[account]["aws"]
    backend.create_user("us-east-1", _ADMINISTRATOR)
    backend.put_user_policy(_ADMINISTRATOR, "everything", json.dumps(_EVERYTHING))
    key = backend.create_access_key(_ADMINISTRATOR)
    key.access_key_id = access_key
    key.secret_access_key = secret_key


def _answer(start_response: StartResponse, status: str, content: Mapping[str, Any]) -> Iterable[bytes]:
    body = json.dumps(content).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _refuse(start_response: StartResponse, why: str) -> Iterable[bytes]:
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{escape(why)}</Message></Error>"
        "<RequestId>sandbox</RequestId></ErrorResponse>"
    ).encode()
    start_response("403 Forbidden", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]


def create_app() -> AwsApi:
    """What gunicorn calls."""
    folder = Path(os.environ["SANDBOX_SECRETS"])
    # Each larger object is an open file.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8").strip()

    return AwsApi(
        account=os.environ["SANDBOX_ACCOUNT"],
        access_key=read("aws-admin/access-key-id"),
        secret_key=read("aws-admin/secret-access-key"),
        token=read("aws-control/token"),
        # Made when a cluster comes up beside the sandbox, anew each time.
        cluster_key=folder.parent / "cluster" / "pki" / "service-accounts.pub",
    )
