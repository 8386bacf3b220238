"""Refusals with the key, the value and the bound, in one wording for every setting."""

import re

from aivo_backup.errors import ConfigurationError


def within(key: str, value: float, *, low: float, high: float, why: str) -> None:
    """Refuses a number outside ``[low, high]``.

    Raises:
        ConfigurationError: naming the key, the value, both bounds and why they are there.
    """
    if not low <= value <= high:
        raise ConfigurationError(f"{key} is {value:g}, allowed are {low:g} to {high:g}", mend=why)


def matching(key: str, value: str, *, pattern: str, example: str) -> None:
    """Refuses a text that does not match ``pattern`` as a whole.

    Raises:
        ConfigurationError: naming the key, the value and an example of the form.
    """
    if not re.fullmatch(pattern, value):
        raise ConfigurationError(f"{key} is {value!r}", mend=f"write it like {example}")


def holds(key: str, value: object, condition: bool, *, bound: str) -> None:
    """Refuses ``value`` unless ``condition`` holds.

    Raises:
        ConfigurationError: naming the key, the value and the bound.
    """
    if not condition:
        raise ConfigurationError(f"{key} is {value!r}", mend=bound)
