"""What the three restore commands have in common."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from aivo_backup.catalog.records import Restore
from aivo_backup.cli.output import json_option, print_json, seconds_text
from aivo_backup.cli.verify import failures
from aivo_backup.composition import App
from aivo_backup.errors import ExitCode

F = TypeVar("F", bound=Callable[..., Any])


def restore_options(command: F) -> F:
    """Adds ``--plan``, ``--yes``, ``--json`` and ``--from-replica`` (see :func:`source`)."""
    command = json_option(command)
    command = click.option(
        "--from-replica", is_flag=True, help="Read the second region's buckets, with that region's keys alone."
    )(command)
    command = click.option("--yes", is_flag=True, help="Go on without asking.")(command)
    return click.option("--plan", "plan_only", is_flag=True, help="Show what would happen, and stop.")(command)


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
