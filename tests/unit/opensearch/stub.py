"""An HTTP server that answers as OpenSearch would, for what the real one cannot be made to do on demand."""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, object]


class Stub:
    """Answers by method and path; each path gives its answers in turn, the last one again and again."""

    def __init__(self, answers: Mapping[str, list[Answer]]) -> None:
        self.answers = {key: list(value) for key, value in answers.items()}
        self.asked: list[tuple[str, Any]] = []
        self.url = ""

    def answer(self, asked: str, body: Any) -> Answer:
        """The next answer to ``METHOD /path``; 404 for a path that is not prepared."""
        self.asked.append((asked, body))
        prepared = self.answers.get(asked)
        if not prepared:
            return 404, {"error": {"type": "not_prepared", "reason": asked}}
        return prepared.pop(0) if len(prepared) > 1 else prepared[0]

    def sent(self, asked: str) -> list[Any]:
        """The bodies that came with ``METHOD /path``."""
        return [body for what, body in self.asked if what == asked]


@contextmanager
def serving(answers: Mapping[str, list[Answer]]) -> Generator[Stub]:
    """Serves on a free loopback port for the length of the block."""
    stub = Stub(answers)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = stub.answer(f"{self.command} {self.path.partition('?')[0]}", body)
            payload = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - names that the library asks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
