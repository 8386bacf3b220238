"""`aivo-backup verify`: a restore test now, with its checks."""

import click

from aivo_backup.catalog.records import Restore
from aivo_backup.cli.context import Context, scheduled_job
from aivo_backup.cli.output import component_argument, json_option, print_json, print_table, progress, seconds_text
from aivo_backup.errors import ExitCode, UsageError
from aivo_backup.jobs.verify import verify as verify_point
from aivo_backup.policy.environment import Component


@click.command()
@component_argument(required=False)
@click.option("--point", "point_id", help="The recovery point to restore; the newest one by default.")
@json_option
@click.pass_obj
def verify(context: Context, component: Component | None, point_id: str | None, as_json: bool) -> int:
    """Restore a recovery point of COMPONENT (or the newest of all three) into isolation and check the data.

    Exits 5 when any check fails.
    """
    app = context.app
    if point_id and component is None:
        raise UsageError("--point needs a COMPONENT", mend="write `aivo-backup verify COMPONENT --point ID`")
    results: list[Restore] = []
    for each in [component] if component else list(Component):
        point = app.catalog.point(each, point_id) if point_id else app.catalog.newest_point(each)
        results.append(
            verify_point(
                app.store(each),
                point,
                catalog=app.catalog,
                clock=app.clock,
                progress=progress,
                max_loss_seconds=app.environment.objectives.rpo_seconds,
                job=scheduled_job(),
            )
        )
    if as_json:
        print_json(results)
    else:
        print_restores(results)
    return ExitCode.DONE if all(result.passed for result in results) else ExitCode.VERIFICATION_FAILED


def print_restores(results: list[Restore]) -> None:
    """One row per restore, and every failed check by name."""
    print_table(
        "Restore tests",
        ["component", "recovery point", "loss measured", "time to restore", "checks", "result"],
        [restore_row(result) for result in results],
    )
    for result in results:
        for line in failures(result):
            click.echo(f"  {result.component} {result.recovery_point}: {line}")


def restore_row(result: Restore) -> list[str]:
    """The cells of one restore."""
    good = sum(check.passed for check in result.checks)
    return [
        result.component.value,
        result.recovery_point,
        # A restore of some keys or indices brings no heartbeat back; its loss is not guessed.
        seconds_text(result.loss_seconds) if result.loss_seconds is not None else "not measured",
        seconds_text(result.seconds),
        f"{good} of {len(result.checks)}",
        "passed" if result.passed else "FAILED",
    ]


def failures(result: Restore) -> list[str]:
    """What failed, by name."""
    lines = [f"{check.name}: {check.detail}" for check in result.checks if not check.passed]
    return [*lines, result.error] if result.error else lines
