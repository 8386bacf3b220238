"""`aivo-backup backup`: what the CronJobs run."""

import os
import time
from typing import IO

import click

from aivo_backup.cli.context import Context, job_name
from aivo_backup.cli.output import bytes_text, component_argument, json_option, print_json, progress, seconds_text
from aivo_backup.cli.runbook_variables import honoured, require_pass
from aivo_backup.errors import UsageError
from aivo_backup.jobs.backup import run_backup
from aivo_backup.policy.environment import BackupKind, Component


@click.command()
@component_argument(required=True)
@click.option(
    "--type",
    "kind",
    type=click.Choice([kind.value for kind in BackupKind]),
    default=BackupKind.INCREMENTAL.value,
    show_default=True,
    help="full: everything (and, for MinIO, an audit of the target); incr: what changed.",
)
@click.option(
    "--runbook-variables",
    "with_variables",
    is_flag=True,
    help="Honour the variables of the runbook's scripts, which pass this: logins are used, and whatever contradicts "
    "the environment's settings is refused.",
)
@click.option(
    "--expected-pass",
    type=click.File("rb"),
    metavar="FILE",
    help="PostgreSQL: refuse unless this file (a pipe, better) holds the repository's cipher pass.",
)
@json_option
@click.pass_obj
def backup(
    context: Context,
    component: Component,
    kind: str,
    with_variables: bool,
    expected_pass: IO[bytes] | None,
    as_json: bool,
) -> None:
    """Take one backup of COMPONENT (postgres, minio or opensearch) and record it.

    A run that finds another one of the same component at work is recorded as superseded and exits 0. One that finds
    what a killed run left waits for it to run out, two minutes at most.
    """
    if expected_pass is not None and component is not Component.POSTGRES:
        raise UsageError(f"{component} has no cipher pass", mend="--expected-pass belongs to postgres")
    app = honoured(context.app, component, os.environ) if with_variables else context.app
    if expected_pass is not None:
        require_pass(app, expected_pass)
    result = run_backup(
        app.store(component),
        BackupKind(kind),
        catalog=app.catalog,
        lease=app.lease(component),
        job=job_name(),
        clock=app.clock,
        progress=progress,
        sleep=time.sleep,
    )
    if as_json:
        print_json(result)
    elif result.point is None:
        click.echo(f"superseded: {result.run.error}")
    else:
        took = (result.run.finished - result.run.started).total_seconds()
        click.echo(
            f"{component}: recovery point {result.point.id}, {bytes_text(result.point.size_bytes)} "
            f"({bytes_text(result.run.bytes_transferred)} moved) in {seconds_text(took)}"
        )
