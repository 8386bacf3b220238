"""One HTTP question to a server on loopback."""

import base64
import http.client
import ssl
from pathlib import Path


def ask(port: int, path: str, *, ca_file: Path | None = None, login: tuple[str, str] | None = None) -> str:
    """Asks ``GET path``; empty when the answer is a success, else what is wrong in a few words. Never raises.

    Args:
        ca_file: speak TLS, and trust this authority.
        login: user name and password of basic authentication.
    """
    headers: dict[str, str] = {}
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    try:
        connection: http.client.HTTPConnection
        if ca_file is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        else:
            context = ssl.create_default_context(cafile=str(ca_file))
            connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {port} ({error})"
    return "" if answer.status < 300 else f"status {answer.status} on port {port}"
