"""What benchmarks have in common: a MinIO of their own, the interval of a median, and where figures are written."""

import base64
import json
import os
import random
import secrets
import socket
import statistics
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import urllib3
from urllib3.util.retry import Retry

from sandbox.state import CHECKOUT

if TYPE_CHECKING:
    from sandbox.certificates import Authority

REGION = "us-east-1"
_START_SECONDS = 30.0
_RESAMPLES = 10_000
_OUTSIDE = 0.025


@dataclass(frozen=True, kw_only=True)
class Server:
    """A MinIO of a benchmark alone; with a CA file it speaks TLS, with a key it encrypts at rest as S3 does."""

    endpoint: str
    access_key: str
    secret_key: str
    ca_file: str = ""
    kms_key: str = ""

    @property
    def session(self) -> boto3.Session:
        """The session of its root user."""
        return boto3.Session(self.access_key, self.secret_key, region_name=REGION)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@contextmanager
def minio(program: Path, folder: Path, *, authority: "Authority | None" = None, kms_key: str = "") -> Generator[Server]:
    """Runs a MinIO over ``folder`` for the block.

    Args:
        authority: issues its certificate; without one it speaks plain HTTP.
        kms_key: the name of a key for encryption at rest.
    """
    port, options, variables = free_port(), list[str](), dict[str, str]()
    if authority is not None:
        # Only here: a side that is timed imports this module, and the command that it stands for imports no such thing.
        from sandbox.certificates import Identity

        certificates = folder.with_name(f"{folder.name}-certificates")
        identity = Identity(certificate=certificates / "public.crt", key=certificates / "private.key")
        authority.issue(identity, name="localhost", hosts=("localhost", "127.0.0.1"))
        options = [f"--certs-dir={certificates}"]
    if kms_key:
        variables = {"MINIO_KMS_SECRET_KEY": f"{kms_key}:{base64.b64encode(os.urandom(32)).decode()}"}
    server = Server(
        endpoint=f"https://localhost:{port}" if authority else f"http://127.0.0.1:{port}",
        access_key="benchmark",
        secret_key=secrets.token_urlsafe(24),
        ca_file=str(authority.certificate) if authority else "",
        kms_key=kms_key,
    )
    process = subprocess.Popen(
        [str(program), "server", "--quiet", f"--address=127.0.0.1:{port}", *options, str(folder)],
        env={
            **os.environ,
            **variables,
            "MINIO_ROOT_USER": server.access_key,
            "MINIO_ROOT_PASSWORD": server.secret_key,
            "MINIO_BROWSER": "off",
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        tries = Retry(total=None, connect=int(_START_SECONDS * 5), backoff_factor=0.2, backoff_max=0.2)
        pool = urllib3.PoolManager(ca_certs=server.ca_file or None)
        pool.request("GET", f"{server.endpoint}/minio/health/live", retries=tries)
        yield server
    finally:
        process.terminate()
        process.wait()


def authority(folder: Path) -> "Authority":
    """A certificate authority of the benchmark's own."""
    from sandbox.certificates import Authority

    return Authority(folder, now=datetime.now(UTC))


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by resampling."""
    chance = random.Random(len(ratios))  # noqa: S311 - a resampling, no secret
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    return medians[int(_OUTSIDE * _RESAMPLES)], medians[int((1 - _OUTSIDE) * _RESAMPLES)]


def write(name: str, document: Mapping[str, object]) -> None:
    """Writes ``build/bench/<name>.json``."""
    file = CHECKOUT / "build" / "bench" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
