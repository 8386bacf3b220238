"""What the three restore commands have in common."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from aivo_backup.catalog.records import RecoveryPoint, Restore
from aivo_backup.cli.output import json_option, print_json, seconds_text
from aivo_backup.cli.restore.expected import Expected, warn_if_unproven
from aivo_backup.cli.verify import failures
from aivo_backup.composition import App
from aivo_backup.errors import ExitCode, UsageError
from aivo_backup.policy.codec import parse_time
from aivo_backup.policy.environment import Component

F = TypeVar("F", bound=Callable[..., Any])


def restore_options(command: F) -> F:
    """Adds ``--plan``, ``--yes``, ``--json``, ``--unproven`` and ``--from-replica`` (see :func:`source`)."""
    command = json_option(command)
    command = click.option("--unproven", is_flag=True, help="A point that has passed no restore test will do.")(command)
    command = click.option(
        "--from-replica", is_flag=True, help="Read the second region's buckets, with that region's keys alone."
    )(command)
    command = click.option("--yes", is_flag=True, help="Go on without asking.")(command)
    return click.option("--plan", "plan_only", is_flag=True, help="Show what would happen, and stop.")(command)


def moment(_context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Reads an option's moment, as a callback of click.

    Raises:
        UsageError: it is none, or has no zone.
    """
    if value is None:
        return None
    try:
        return parse_time(value.replace(" ", "T", 1))
    except ValueError as error:
        raise UsageError(f"{parameter.opts[0]}: {error}", mend="write it as 2026-01-31T12:00:00Z") from error


def point_options(command: F) -> F:
    """Adds ``--point`` and ``--at`` (see :func:`chosen_point`)."""
    command = click.option(
        "--at", "at", callback=moment, help="The newest recovery point at or before a moment: 2026-01-31T12:00:00Z."
    )(command)
    return click.option("--point", "point_id", help="The recovery point (BACKUP_DATE, snapshot); default: the newest.")(
        command
    )


def rescue_options(command: F) -> F:
    """Adds ``--rescue``, ``--import`` and ``--overwrite``."""
    command = click.option("--overwrite", is_flag=True, help="With --import: also what is there and differs.")(command)
    command = click.option(
        "--import", "bundle", type=click.Path(path_type=Path), help="Put back what was rescued: the folder of --rescue."
    )(command)
    return click.option(
        "--rescue",
        "rescue_folder",
        type=click.Path(path_type=Path),
        help="First export to this new folder what was written after the point and would be lost.",
    )(command)


def chosen_point(
    app: App, component: Component, point_id: str | None, at: datetime | None, *, unproven: bool
) -> RecoveryPoint:
    """The point that a restore takes; says on standard error if it has not passed a restore test yet.

    Raises:
        UsageError: there is no such point.
        RefusedError: it is unproven, and the environment's settings refuse such a point.
    """
    if point_id and at:
        raise UsageError("--point and --at exclude each other", mend="give one of them")
    catalog = app.catalog
    if point_id:
        point = catalog.point(component, point_id)
    elif at:
        point = catalog.point_at(component, at)
    else:
        point = catalog.newest_point(component)
    expected = Expected(app=app, catalog=catalog, component=component)
    warn_if_unproven(expected, point.id, since=point.recoverable_at, accepted=unproven)
    return point


def source(app: App, *, from_replica: bool) -> App:
    """The app that a restore reads from.

    Raises:
        ConfigurationError: the second region is asked for and there is none.
    """
    return app.from_replica if from_replica else app


def print_plan(plan: object, lines: list[str], *, as_json: bool) -> None:
    """Shows a plan: as JSON on standard output, or as lines on standard error, where prompts are too."""
    if as_json:
        print_json(plan)
        return
    for line in lines:
        click.echo(line, err=True)


def print_result(record: Restore, detail: object, lines: list[str], *, as_json: bool) -> int:
    """Shows what a restore did.

    Returns:
        the exit code: 5 when a check on the restored data failed.
    """
    if as_json:
        print_json({"restore": record, "passed": record.passed, "detail": detail})
    else:
        for line in lines:
            click.echo(line)
        click.echo(
            f"restored {record.component} from {record.recovery_point} in {seconds_text(record.seconds)}"
            + (f", loss {seconds_text(record.loss_seconds)}" if record.loss_seconds is not None else "")
        )
        for line in failures(record):
            click.echo(f"  FAILED {line}")
    return ExitCode.DONE if record.passed else ExitCode.VERIFICATION_FAILED
