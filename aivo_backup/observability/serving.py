"""The agent's HTTP side: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for the kubelet."""

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import ThreadingWSGIServer

from aivo_backup.errors import ConfigurationError
from aivo_backup.observability.metrics import Board

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_TEXT = "text/plain; charset=utf-8"


class _Quiet(WSGIRequestHandler):
    """A handler that does not log every scrape."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        pass


def application(board: Board, *, alive: Callable[[], bool], ready: Callable[[], bool]) -> "WSGIApplication":
    """The WSGI application."""

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        status, kind, body = "200 OK", _TEXT, b"ok\n"
        match environ.get("PATH_INFO"):
            case "/metrics":
                kind, body = CONTENT_TYPE_PLAIN_0_0_4, board.exposition()
            case "/healthz":
                if not alive():
                    status, body = "503 Service Unavailable", b"a loop has stopped\n"
            case "/readyz":
                if not ready():
                    status, body = "503 Service Unavailable", b"not every source has been asked yet\n"
            case _:
                status, body = "404 Not Found", b"/metrics, /healthz and /readyz are here\n"
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    return answer


def serve(app: "WSGIApplication", *, host: str, port: int) -> Callable[[], None]:
    """Serves in threads of its own.

    Returns:
        what stops it.

    Raises:
        ConfigurationError: the address is taken, or not ours.
    """
    try:
        server = make_server(host, port, app, server_class=ThreadingWSGIServer, handler_class=_Quiet)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}", mend="choose another address with --listen"
        ) from error
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
