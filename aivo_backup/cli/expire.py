"""`aivo-backup expire` and `aivo-backup prune`: what the CronJobs run to remove what retention no longer keeps."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from aivo_backup.cli.context import Context, job_name
from aivo_backup.cli.output import component_argument, json_option, print_json, print_table, progress
from aivo_backup.errors import UsageError
from aivo_backup.jobs.expire import plan_expiry, run_expiry
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import PlannedExpiry

F = TypeVar("F", bound=Callable[..., Any])

_PRUNED = (Component.MINIO, Component.OPENSEARCH)


def _options(command: F) -> F:
    dry_run = click.option("--dry-run", is_flag=True, help="Say what would go and what stays, and change nothing.")
    wait = click.option(
        "--wait",
        "wait_seconds",
        type=click.IntRange(min=0),
        default=600,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a backup of the same component to end.",
    )
    return component_argument(required=True)(dry_run(wait(json_option(command))))


@click.command()
@_options
@click.pass_obj
def expire(context: Context, component: Component, dry_run: bool, wait_seconds: int, as_json: bool) -> None:
    """Expire PostgreSQL's backup sets and WAL (COMPONENT is postgres) that retention no longer keeps.

    The last full backups of the set number stay, every moment of the recovery window stays recoverable, and the newest
    verified sets stay however old they are. pgBackRest simulates first: when its list is not the planned one, it is
    refused and nothing is expired (exit 6).
    """
    if component is not Component.POSTGRES:
        raise UsageError(f"{component} is not expired by pgBackRest", mend=f"write `aivo-backup prune {component}`")
    _run(context, component, dry_run=dry_run, wait_seconds=wait_seconds, as_json=as_json)


@click.command()
@_options
@click.pass_obj
def prune(context: Context, component: Component, dry_run: bool, wait_seconds: int, as_json: bool) -> None:
    """Remove the manifests of MinIO, or the snapshots of OpenSearch (COMPONENT), that retention no longer keeps.

    The newest point, what another point needs, and the newest verified points stay, however old they are.
    """
    if component not in _PRUNED:
        raise UsageError(f"{component} is not pruned", mend=f"write `aivo-backup expire {component}`")
    _run(context, component, dry_run=dry_run, wait_seconds=wait_seconds, as_json=as_json)


def _run(context: Context, component: Component, *, dry_run: bool, wait_seconds: int, as_json: bool) -> None:
    app = context.app
    store = app.expirable(component)
    if dry_run:
        plan = plan_expiry(store, catalog=app.catalog, clock=app.clock)
        if as_json:
            print_json({"component": component, "goes": plan.goes, "kept": plan.kept, "facts": plan.facts})
        else:
            _print_plan(component, plan)
        return
    result = run_expiry(
        store,
        catalog=app.catalog,
        lease=app.lease(component),
        job=job_name(),
        clock=app.clock,
        progress=progress,
        patience=timedelta(seconds=wait_seconds),
        sleep=time.sleep,
    )
    if as_json:
        print_json(result.expiry)
    elif result.plan is None:
        click.echo(f"superseded: {result.expiry.error}")
    else:
        click.echo(f"{component}: {len(result.expiry.removed)} gone, {result.expiry.kept} stay ({_why(result.plan)})")


def _print_plan(component: Component, plan: PlannedExpiry) -> None:
    rows = [[name, "goes", "its retention is over"] for name in plan.goes]
    rows += [[name, "stays", reason.value] for name, reason in plan.kept.items()]
    print_table(f"What retention keeps of {component}", ["recovery point", "what", "why"], sorted(rows))
    for name, value in plan.facts.items():
        click.echo(f"  {name.replace('_', ' ')}: {value or 'none'}")
    click.echo(f"{len(plan.goes)} would go, {len(plan.kept)} would stay; nothing was changed")


def _why(plan: PlannedExpiry) -> str:
    counted = Counter(reason.value for reason in plan.kept.values())
    return ", ".join(f"{number} {reason}" for reason, number in counted.items()) or "there are none"
