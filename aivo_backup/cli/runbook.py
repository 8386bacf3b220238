"""`aivo-backup runbook`: the recovery runbook of this environment, printed, written down, or filed for five years."""

from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import json_option, print_json
from aivo_backup.cli.recover.parts import provisioner
from aivo_backup.errors import ConfigurationError
from aivo_backup.recovery.documents import publish
from aivo_backup.recovery.on_paper import plans
from aivo_backup.recovery.runbook import pages


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write the pages into this folder.")
@click.option("--publish", "published", is_flag=True, help="File them in the bucket that keeps them five years.")
@json_option
@click.pass_obj
def runbook(context: Context, output: Path | None, published: bool, as_json: bool) -> None:
    """Write the recovery runbook of this environment: every step, and the commands to run it without this tool."""
    app = context.app
    written = pages(app.environment, plans(app.environment, provisioner(app)))
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
            for name, text in written.items():
                (output / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{output}: {error.strerror}", mend="name a folder that can be written") from error
    places: tuple[str, ...] = ()
    if published:
        places = publish(app.s3, app.environment, written, kind="runbook", now=app.clock())
    if as_json:
        print_json({"pages": written, "published": places})
    elif places:
        click.echo("\n".join(places))
    elif output is None:
        click.echo("\n".join(written.values()))
