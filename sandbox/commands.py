"""`aivo-backup sandbox …`: the real stores and a stand-in for AWS's API on this machine."""

import json
from dataclasses import asdict
from threading import Lock

import click

from sandbox import servers
from sandbox.servers import ServerState
from sandbox.state import Sandbox


@click.group()
def sandbox() -> None:
    """Real PostgreSQL, MinIO and OpenSearch and a stand-in for AWS's API, on loopback ports of this machine.

    State lives under .sandbox/ in the checkout. `make setup` installs what the servers need.
    """


@sandbox.command()
def up() -> None:
    """Start the servers that do not run, and wait until all of them work."""
    lock = Lock()

    def show(row: ServerState) -> None:
        with lock:
            click.echo(_line(row))

    risen = servers.up(Sandbox(), report=show)
    if risen.aws_state_lost:
        click.echo(
            "The AWS API started empty: its state (keys, buckets, backups) died with its process. "
            "Provision again; backups start anew."
        )


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def status(as_json: bool) -> None:
    """Show each server's address, process and health."""
    rows = servers.status(Sandbox.load())
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        click.echo(_line(row))


@sandbox.command()
def down() -> None:
    """Stop everything that the sandbox runs; data and credentials stay."""
    ended = servers.down(Sandbox())
    click.echo(f"stopped {', '.join(ended)}" if ended else "nothing was running")


@sandbox.command()
def reset() -> None:
    """Stop everything and remove .sandbox/ with all its data."""
    home = Sandbox().home
    servers.reset(Sandbox())
    click.echo(f"removed {home}")


def _line(row: ServerState) -> str:
    took = f" in {row.seconds:.1f} s" if row.seconds else ""
    return f"{row.name:<17} {row.address:<28} {row.state}{took}{f' (process {row.pid})' if row.pid else ''}"


if __name__ == "__main__":
    sandbox()
