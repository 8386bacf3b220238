"""Brings the sandbox's servers up and down."""

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aivo_backup.errors import BackupError
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.names import AGENT
from sandbox.servers.aws_api import AwsApi
from sandbox.servers.base import Server
from sandbox.servers.credentials import generate
from sandbox.servers.minio import Minio
from sandbox.servers.opensearch import OpenSearch, OpenSearchProxy
from sandbox.servers.postgres import Postgres
from sandbox.state import SIDECAR, Sandbox

POSTGRES = Postgres.name
# Ended after everything else that is registered, in this order: jobs still write to the servers, and PostgreSQL's last
# segment still goes through the sidecar.
_ENDED_LAST = (("postgres",), (SIDECAR,), ("opensearch", "minio", "opensearch-proxy", "aws"))


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """One row of `sandbox status`.

    Attributes:
        state: ``started``, ``running``, ``stopped``, or what ails it.
        seconds: how long its start took; 0 when it was not started now.
    """

    name: str
    address: str
    state: str
    pid: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Risen:
    """What `up` did.

    Attributes:
        aws_instance: the id of the AWS API's life.
        aws_state_lost: an earlier life had state (keys, buckets, backups), and it is gone.
    """

    servers: tuple[ServerState, ...]
    aws_instance: str
    aws_state_lost: bool


def servers(sandbox: Sandbox) -> list[Server]:
    """The servers, in the order in which they are shown."""
    return [kind(sandbox) for kind in (AwsApi, Postgres, Minio, OpenSearch, OpenSearchProxy)]


def up(
    sandbox: Sandbox,
    *,
    report: Callable[[ServerState], None] = lambda _: None,
    without: Sequence[str] = (),
    database_at: str = "",
    begun: Callable[[], object] = lambda: None,
) -> Risen:
    """Starts what does not run, all at once, and waits until everything works.

    Safe to repeat: after a crash it removes stale files, ends half-dead servers and starts them anew.

    Args:
        report: called for each server when it works, from several threads.
        without: servers by name that run elsewhere; their ports stay theirs.
        database_at: ``host:port`` of the database where it is elsewhere.
        begun: called when ports are chosen and certificates made, before the servers are waited for.

    Raises:
        ConfigurationError: the set-up is missing or incomplete.
        BackupError: a server does not come up; the others stay for a look.
    """
    _ = sandbox.tools  # first: without it nothing is begun
    with _lock(sandbox):
        generate(sandbox, now=datetime.now(UTC))
        everything = [server for server in servers(sandbox) if server.name not in without]
        running = frozenset(port for server in everything if server.running() for port in server.ports)
        if POSTGRES in without:
            running |= {"postgres", "pgbackrest"} & sandbox.remembered().get("ports", {}).keys()
        if sandbox.processes.find(SIDECAR) is not None:
            running |= {"pgbackrest"}
        if sandbox.processes.find(AGENT) is not None:
            running |= {"agent"}
        sandbox.choose_ports(keep=running)
        write_endpoints(sandbox, endpoints(sandbox, postgres=database_at))
        begun()
        with ThreadPoolExecutor(len(everything)) as pool:
            started = [pool.submit(_bring_up, server, report) for server in everything]
        failures = [str(task.exception()) for task in started if task.exception() is not None]
        if failures:
            raise BackupError("; ".join(failures))
        states = tuple(task.result() for task in started)
        before = sandbox.remembered().get("aws_instance")
        instance = sandbox.aws_control.instance()
        sandbox.remember(aws_instance=instance)
        return Risen(servers=states, aws_instance=instance, aws_state_lost=before not in (None, instance))


def status(sandbox: Sandbox) -> list[ServerState]:
    """How each server, and every other registered process, is doing.

    Raises:
        ConfigurationError: the sandbox was never brought up.
    """
    rows: list[ServerState] = []
    names: set[str] = set()
    for server in servers(sandbox):
        names.add(server.name)
        process = sandbox.processes.find(server.name)
        state = "stopped" if process is None else server.ailment() or "running"
        pid = process.pid if process else 0
        rows.append(ServerState(name=server.name, address=server.address, state=state, pid=pid))
    others = (process for process in sandbox.processes.running() if process.name not in names)
    return rows + [ServerState(name=other.name, address="", state="running", pid=other.pid) for other in others]


def down(sandbox: Sandbox) -> list[str]:
    """Ends every registered process, the servers last. Returns the names of those that ran; safe to repeat."""
    if not sandbox.home.is_dir():
        return []
    with _lock(sandbox):
        ended: list[str] = []
        if sandbox.processes.find(SIDECAR) is None and sandbox.processes.stop("postgres", timeout_seconds=3.0):
            # Nothing takes its last segments: it would try for long to archive them, which the next life does anyway.
            ended.append("postgres")
        return ended + sandbox.processes.stop_all(last=_ENDED_LAST)


def reset(sandbox: Sandbox) -> list[str]:
    """`down`, then removes ``.sandbox`` with all data, credentials and logs."""
    ended = down(sandbox)
    shutil.rmtree(sandbox.home, ignore_errors=True)
    if sandbox.home.exists():
        raise BackupError(f"{sandbox.home} cannot be removed whole", mend="remove it by hand")
    return ended


def _bring_up(server: Server, report: Callable[[ServerState], None]) -> ServerState:
    begun = time.monotonic()
    state = "started" if server.up() else "running"
    process = server.sandbox.processes.find(server.name)
    seconds = time.monotonic() - begun if state == "started" else 0.0
    row = ServerState(
        name=server.name, address=server.address, state=state, pid=process.pid if process else 0, seconds=seconds
    )
    report(row)
    return row


def endpoints(sandbox: Sandbox, *, postgres: str = "") -> Endpoints:
    """Where the servers answer by their present ports; ``postgres`` is ``host:port`` where it does not run here."""
    return Endpoints(
        aws=sandbox.aws_url,
        postgres=postgres or f"localhost:{sandbox.ports.postgres}",
        pgbackrest=f"localhost:{sandbox.ports.pgbackrest}",
        minio=sandbox.minio_url,
        opensearch=sandbox.opensearch_url,
        agent=f"localhost:{sandbox.ports.agent}",
        ca_file=str(sandbox.ca_file),
    )


def write_endpoints(sandbox: Sandbox, where: Endpoints) -> None:
    """Publishes where the stores answer: every program that works on the sandbox reads this file when it starts."""
    unfinished = sandbox.endpoints_file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(to_json(where), indent=2), encoding="utf-8")
    unfinished.replace(sandbox.endpoints_file)


@contextmanager
def _lock(sandbox: Sandbox) -> Generator[None]:
    """One `up` or `down` at a time; a second one waits."""
    sandbox.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (sandbox.home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


__all__: Sequence[str] = (
    "Risen",
    "ServerState",
    "down",
    "endpoints",
    "reset",
    "servers",
    "status",
    "up",
    "write_endpoints",
)
