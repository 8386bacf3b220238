"""`aivo-backup sandbox …`: the real stores and a stand-in for AWS's API on this machine."""

import json
from dataclasses import asdict
from threading import Lock
from typing import TYPE_CHECKING

import click

from aivo_backup.cli.lazy import Lazy, LazyGroup
from aivo_backup.errors import RefusedError
from sandbox.state import Sandbox

if TYPE_CHECKING:
    from sandbox.servers import ServerState

COMMANDS = {"cluster": Lazy(at="sandbox.cluster.commands:cluster", summary="A real Kubernetes beside the stores.")}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def sandbox() -> None:
    """Real PostgreSQL, MinIO and OpenSearch on this machine.

    Beside them a stand-in for AWS's API, all on loopback ports. State lives under .sandbox/ in the checkout. `make
    setup` installs what the servers need.
    """


@sandbox.command()
@click.option("--servers-only", is_flag=True, help="Start the servers, and provision nothing into them.")
def up(servers_only: bool) -> None:
    """Start what does not run, provision the stack `local`, and make the stores ready for backups.

    Safe to repeat, also after a crash. The AWS API keeps its state in memory: when its process has died, this says
    so, provisions again, and backups start anew.
    """
    lock = Lock()

    def show(line: str) -> None:
        with lock:
            click.echo(line)

    if (Sandbox().home / "cluster").is_dir():
        from sandbox.cluster import handover, lifecycle

        if lifecycle.is_up(Sandbox()):
            raise RefusedError(
                "the sandbox's database is in its cluster", mend="first `aivo-backup sandbox cluster down`"
            )
        handover.take_back(Sandbox())  # a cluster that was killed could not
    if servers_only:
        from sandbox import servers

        servers.up(Sandbox(), report=lambda row: show(_line(row)))
        return
    # The Pulumi SDK takes seconds to import, and only this command needs it.
    from sandbox import lifecycle

    lifecycle.bring_up(Sandbox(), progress=show)


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def status(as_json: bool) -> None:
    """Show each server's address, process and health."""
    from sandbox import servers

    rows = servers.status(Sandbox.load())
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        click.echo(_line(row))


@sandbox.command()
def down() -> None:
    """Stop everything that the sandbox runs, its cluster too; data and credentials stay."""
    from sandbox import servers

    ended = _cluster_down() + servers.down(Sandbox())
    click.echo(f"stopped {', '.join(ended)}" if ended else "nothing was running")


@sandbox.command()
def reset() -> None:
    """Stop everything and remove .sandbox/ with all its data."""
    from sandbox import servers

    home = Sandbox().home
    _cluster_down()
    servers.reset(Sandbox())
    click.echo(f"removed {home}")


def _cluster_down() -> list[str]:
    if not (Sandbox().home / "cluster").is_dir():
        return []
    from sandbox.cluster import lifecycle

    return lifecycle.down(Sandbox())


def _line(row: "ServerState") -> str:
    took = f" in {row.seconds:.1f} s" if row.seconds else ""
    return f"{row.name:<17} {row.address:<28} {row.state}{took}{f' (process {row.pid})' if row.pid else ''}"


if __name__ == "__main__":
    sandbox()
