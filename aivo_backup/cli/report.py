"""`aivo-backup report`: the compliance report of a period, now."""

from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import json_option, print_json
from aivo_backup.evidence.periods import Period


@click.command()
@click.option(
    "--period",
    type=click.Choice([period.value for period in Period]),
    default=Period.DAILY.value,
    show_default=True,
    help="daily: the 24 hours up to now; the others: the last whole month, quarter or year.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also put the files into this folder.",
)
@json_option
@click.pass_obj
def report(context: Context, period: str, output: Path | None, as_json: bool) -> None:
    """Write the compliance report (HTML and JSON) into the locked bucket, and file it."""
    # Plots need matplotlib, whose import takes longer than most commands; only this one draws.
    from aivo_backup.jobs.report import make_report

    app = context.app
    made = make_report(
        catalog=app.catalog,
        s3=app.s3,
        environment=app.environment,
        period=Period(period),
        scheduled_for=app.clock(),
        clock=app.clock,
        folder=output,
    )
    if as_json:
        print_json(made.record)
        return
    for file in made.record.files:
        click.echo(f"s3://{file.location}/{file.key}")
    for path in made.on_disk:
        click.echo(str(path))
    click.echo("objectives met" if made.record.objectives_met else "objectives NOT met: see the report")
