"""Where a recovery finds the database: beside its server's own files, or on the volume of its StatefulSet."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from aivo_backup.cli.output import progress
from aivo_backup.cli.restore.postgres import IN_CLUSTER
from aivo_backup.cli.restore.services import ADAPTERS, STATEFUL_SET
from aivo_backup.errors import RefusedError, UsageError
from aivo_backup.stores.postgres.restore import InCluster

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the options say.

    Attributes:
        in_cluster: on the volume of its StatefulSet, by a Job.
        adapter_named: though an operator owns it, or it is replicated.
        service, unit: how the server is run, where it is not in the cluster.
    """

    in_cluster: bool = False
    adapter_named: bool = False
    service: str | None = None
    unit: str = ""


def place_options(command: F) -> F:
    """Adds ``--to``, ``--service`` and ``--unit``; hands them on as ``place``.

    Raises:
        UsageError: they contradict each other.
    """

    @wraps(command)
    def collected(*arguments: Any, where: str | None, service: str | None, unit: str, **rest: Any) -> Any:
        if service == STATEFUL_SET and where is None:
            raise UsageError("--service statefulset belongs to --to cluster", mend="give --to cluster")
        if where is None:
            place = Place(service=service, unit=unit)
        else:
            place = Place(in_cluster=True, adapter_named=service is not None)
        return command(*arguments, place=place, **rest)

    decorated: Any = click.option("--unit", default="", help="With --service systemd: the server's unit.")(collected)
    decorated = click.option(
        "--service",
        type=click.Choice([*ADAPTERS, STATEFUL_SET]),
        help="How the server is run, where that is not known; with --to cluster: statefulset, though an operator "
        "owns it.",
    )(decorated)
    return click.option(
        "--to", "where", type=click.Choice([IN_CLUSTER]), help="On the volume of its StatefulSet, by a Job."
    )(decorated)


def start_again(place: InCluster) -> None:
    """Starts the database when a recovery is given up.

    Raises:
        RefusedError: a Job still works on its volume.
    """
    if working := place.database.working():
        raise RefusedError(
            f"Job {working[0]} still restores on the volume", mend="wait for it, or delete it with kubectl"
        )
    place.database.start(progress)
