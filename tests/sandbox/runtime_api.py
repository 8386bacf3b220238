"""Lambda's side of its Runtime API, and a function's process on the other: four HTTP calls on loopback.

The process is an interpreter without site, user or environment packages. It gets the function's package, and Lambda's
own runtime client (``awslambdaric``) as the managed runtime has it, and nothing of this checkout.
"""

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from time import time
from typing import Any, cast

_PREFIX = "/2018-06-01/runtime/"
_RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")
_START = (
    "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; "
    "from awslambdaric.__main__ import main; main(sys.argv)"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a function posted: ``what`` is ``response``, ``error`` or ``init/error``."""

    what: str
    body: Any


class RuntimeApi:
    """Hands events to one function and takes what comes of them."""

    def __init__(self, process: "subprocess.Popen[str]", server: "_Server") -> None:
        self._process = process
        self._server = server
        self._count = 0

    def call(self, event: object, *, seconds: float = 60) -> Outcome:
        """Sends one event and waits for what comes of it."""
        self._count += 1
        request = f"00000000-0000-4000-8000-{self._count:012d}"
        self._server.events.put((request, json.dumps(event)))
        while True:
            try:
                answered, outcome = self._server.outcomes.get(timeout=0.2)
            except queue.Empty:
                seconds -= 0.2
                assert self._process.poll() is None, "the function's process ended"
                assert seconds > 0, "the function did not answer"
                continue
            assert answered in (request, ""), "an answer to another call"
            return outcome


@contextmanager
def function_process(
    package: Path, scratch: Path, handler: str, variables: Mapping[str, str], *, arn: str = "arn:x"
) -> Generator[RuntimeApi]:
    """A function's process that waits for events; its output is in ``scratch/log``.

    Args:
        package: the unpacked zip.
        scratch: an empty folder: the runtime client, and the function's working folder.
        variables: all of the process's environment, besides what the Runtime API needs.
    """
    runtime = scratch / "runtime"
    for name in _RUNTIME:
        _copy(name, runtime)
    server = _Server(arn)
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        **variables,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "LAMBDA_TASK_ROOT": str(package),
    }
    argv = [str(interpreter), "-I", "-S", "-c", _START, str(package), str(runtime), handler]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with (scratch / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(argv, env=environment, cwd=scratch, stdout=log, stderr=log, text=True)
        try:
            yield RuntimeApi(process, server)
        finally:
            process.kill()
            process.wait()
            server.shutdown()
            server.server_close()


def _copy(distribution: str, target: Path) -> None:
    for file in metadata.files(distribution) or ():
        if file.parts[0] != ".." and "__pycache__" not in file.parts:
            place = target.joinpath(*file.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), place)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, arn: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arn = arn
        self.events: queue.Queue[tuple[str, str]] = queue.Queue()
        self.outcomes: queue.Queue[tuple[str, Outcome]] = queue.Queue()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        assert self.path == f"{_PREFIX}invocation/next"
        request, event = server.events.get()
        self.send_response(200)
        body = event.encode()
        self.send_header("Lambda-Runtime-Aws-Request-Id", request)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time() + 900) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", server.arn)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = self.path.removeprefix(_PREFIX).split("/")
        request, what = (parts[1], parts[2]) if parts[0] == "invocation" else ("", "/".join(parts))
        cast("_Server", self.server).outcomes.put((request, Outcome(what=what, body=body)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
        """Says nothing: the tests' output is the tests'."""
