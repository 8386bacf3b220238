"""A TCP proxy before a real server that breaks the connection as it is told; TLS goes through it untouched."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum

_CHUNK = 16 * 1024


class Way(Enum):
    """Whose bytes a fault looks at."""

    TO_CLIENT = "downloads"
    TO_SERVER = "uploads"


@dataclass(kw_only=True)
class Fault:
    """What happens once ``after`` more bytes have gone one way, counted over all connections.

    Attributes:
        hole: from then on nothing passes, either way, and no connection ends; otherwise that one connection is reset,
            once.
        drip_seconds: a pause after every chunk of 16 KiB that goes this way.
    """

    way: Way
    after: int
    hole: bool = False
    drip_seconds: float = 0.0
    passed: int = field(default=0, init=False)
    struck: threading.Event = field(default_factory=threading.Event, init=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)


@dataclass(kw_only=True)
class FaultyProxy:
    """Listens on ``port`` of loopback. One fault at a time is under way; without one, everything passes."""

    server_port: int
    port: int = 0
    _fault: Fault | None = None
    _open: list[socket.socket] = field(default_factory=list[socket.socket])

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def break_with(self, fault: Fault | None) -> None:
        """Takes the place of the former fault; what a hole had swallowed stays lost with its connections."""
        if self._fault is not None and self._fault.hole:
            self.drop_all()
        self._fault = fault

    def drop_all(self) -> None:
        for each in self._open:
            _reset(each)
        self._open.clear()

    def pump(self, come: socket.socket, go: socket.socket, way: Way) -> None:
        try:
            while chunk := come.recv(_CHUNK):
                fault = self._fault
                if fault is not None and not self._lets_pass(fault, way, len(chunk)):
                    if fault.hole:
                        continue  # swallowed
                    _reset(come)
                    _reset(go)
                    return
                go.sendall(chunk)
            with contextlib.suppress(OSError):
                go.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(come)
            _reset(go)

    def _lets_pass(self, fault: Fault, way: Way, amount: int) -> bool:
        if fault.hole and fault.struck.is_set():
            return False
        if way is not fault.way:
            return True
        if fault.drip_seconds:
            time.sleep(fault.drip_seconds)
        with fault.lock:
            before, fault.passed = fault.passed, fault.passed + amount
            strikes = before < fault.after <= fault.passed
            if strikes:
                fault.struck.set()
        return not strikes

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server_port))
            self._open += [client, server]
            for come, go, way in ((client, server, Way.TO_SERVER), (server, client, Way.TO_CLIENT)):
                threading.Thread(target=self.pump, args=(come, go, way), daemon=True).start()


def _reset(end: socket.socket) -> None:
    """Ends a connection with a RST instead of a goodbye."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)
    end.close()


@contextlib.contextmanager
def faulty_proxy(server_port: int) -> Generator[FaultyProxy]:
    """A proxy before the server on that port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultyProxy(server_port=server_port, port=listener.getsockname()[1])
        accepting = threading.Thread(target=proxy.accept, args=(listener,), daemon=True)
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            proxy.drop_all()
            accepting.join(timeout=10)
