"""Asks before a restore changes anything."""

import sys

import click

from aivo_backup.composition import App
from aivo_backup.errors import RefusedError


def confirm(app: App, *, yes: bool, what: str = "") -> None:
    """Goes on only when a person, or ``--yes``, agreed to the plan that was just shown.

    In production a name has to be typed: a habit of pressing y must not restore over live data.

    Args:
        what: the name to type, of what is changed; the environment's own by default.

    Raises:
        RefusedError: nobody agreed; nothing was changed.
    """
    if yes:
        return
    name = app.environment.name
    if not sys.stdin.isatty():
        raise RefusedError("nobody is here to agree to the plan", mend="give --yes after reading it")
    if app.environment.production:
        changed, typed = (f"{what} of {name}", what) if what else (name, name)
        if click.prompt(f"This changes {changed}. Type its name to go on", default="", show_default=False) != typed:
            raise RefusedError("the name was not typed", mend="nothing was changed")
    elif not click.confirm(f"Go on with {name}?"):
        raise RefusedError("the plan was not agreed to", mend="nothing was changed")
