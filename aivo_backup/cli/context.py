"""Finds the environment that a command works on."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.names import JOB_VARIABLE, SETTINGS_VARIABLE

if TYPE_CHECKING:
    from aivo_backup.composition import App

ENVIRONMENTS_GROUP = "aivo_backup.environments"
"""Entry points of this group are named like an environment and answer the variables that lead to it."""

MANUAL = "manual"
"""The job of a run that no schedule started."""


def job_name() -> str:
    """The schedule that started this process, for the record."""
    return scheduled_job() or MANUAL


def scheduled_job() -> str:
    """The same; empty when a person did."""
    return os.environ.get(JOB_VARIABLE, "")


class Context:
    """What every command gets: the environment, opened when it is first needed."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    @cached_property
    def app(self) -> "App":
        """The opened environment.

        Raises:
            ConfigurationError: none is named, or its settings cannot be read.
            UnreachableError: AWS does not answer.
        """
        from aivo_backup import composition

        return composition.open_environment({**os.environ, **self._variables()})

    def _variables(self) -> Mapping[str, str]:
        if os.environ.get(SETTINGS_VARIABLE) and self._name is None:
            return {}
        local = {entry.name: entry for entry in entry_points(group=ENVIRONMENTS_GROUP)}
        name = self._name or ("local" if "local" in local else "")
        if not name:
            raise ConfigurationError("no environment is named", mend="give --environment NAME, for example prod")
        if name in local:
            provider: Callable[[], Mapping[str, str]] = local[name].load()
            return provider()
        return {SETTINGS_VARIABLE: f"ssm:/aivo-backup/{name}/settings"}
