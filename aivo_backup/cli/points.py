"""`aivo-backup points`: what can be restored."""

import click

from aivo_backup.catalog.standing import Standing, standings
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, component_argument, json_option, print_json, print_table
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import Component


@click.command()
@component_argument(required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that retention has removed.")
@json_option
@click.pass_obj
def points(context: Context, component: Component | None, everything: bool, as_json: bool) -> None:
    """List the recovery points of COMPONENT, or of all three, oldest first.

    A point is valid; obsolete, when retention has removed it; or lost, when it is gone and should be there.
    """
    catalog = context.app.catalog
    recorded = catalog.points(component)
    states = standings(recorded, catalog.expiries(component), catalog.registrations(component))
    known = [
        (point, state)
        for point in recorded
        if (state := states[point.component, point.id]) is not Standing.OBSOLETE or everything
    ]
    if as_json:
        print_json([{**to_json(point), "state": state.value} for point, state in known])
        return
    print_table(
        "Recovery points",
        ["component", "recovery point", "kind", "recoverable at (UTC)", "size", "state", "run"],
        [
            [
                point.component.value,
                point.id,
                point.kind.value,
                f"{point.recoverable_at:%Y-%m-%d %H:%M:%S}",
                bytes_text(point.size_bytes),
                state.value,
                point.run_id or "found by registration",
            ]
            for point, state in known
        ],
    )
