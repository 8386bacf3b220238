"""`aivo-backup sandbox cluster …`: the stack `local` on a real Kubernetes of one node, beside the sandbox's stores."""

import json
from dataclasses import asdict

import click

from sandbox.state import Sandbox


@click.group()
def cluster() -> None:
    """A real single-node Kubernetes, with PostgreSQL in it; MinIO, OpenSearch and AWS's API are the sandbox's own.

    It needs root, what `make setup-cluster` installs, and the image of `make image`. Everything is in a network
    namespace of its own. Network policies are registered and not enforced: the node's network is a plain bridge.
    """


@cluster.command()
def up() -> None:
    """Bring up the stores and the cluster, with the stack `local` in it. Safe to repeat; heals a crash."""
    from sandbox.cluster import lifecycle

    kubectl = lifecycle.up(Sandbox(), progress=click.echo)
    click.echo(f"kubectl: {kubectl.tools.program('kubectl')} --kubeconfig={kubectl.place.kubeconfig}")


@cluster.command()
def down() -> None:
    """Take the cluster away; the database goes back to the sandbox, whose servers stay up."""
    from sandbox.cluster import lifecycle

    ended = lifecycle.down(Sandbox())
    click.echo(f"stopped {', '.join(ended)}" if ended else "nothing was running")


@cluster.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def status(as_json: bool) -> None:
    """Show the cluster's processes and pods."""
    from sandbox.cluster import lifecycle

    rows = lifecycle.status(Sandbox())
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        click.echo(f"{row.name:<44} {row.state}")
