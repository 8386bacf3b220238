"""`aivo-backup points`: what can be restored."""

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, component_argument, json_option, print_json, print_table
from aivo_backup.policy.environment import Component


@click.command()
@component_argument(required=False)
@json_option
@click.pass_obj
def points(context: Context, component: Component | None, as_json: bool) -> None:
    """List the recovery points of COMPONENT, or of all three, oldest first."""
    known = context.app.catalog.points(component)
    if as_json:
        print_json(known)
        return
    print_table(
        "Recovery points",
        ["component", "recovery point", "kind", "recoverable at (UTC)", "size", "run"],
        [
            [
                point.component.value,
                point.id,
                point.kind.value,
                f"{point.recoverable_at:%Y-%m-%d %H:%M:%S}",
                bytes_text(point.size_bytes),
                point.run_id or "found by registration",
            ]
            for point in known
        ],
    )
