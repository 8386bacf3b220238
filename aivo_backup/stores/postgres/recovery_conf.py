"""The recovery settings that pgBackRest leaves in ``postgresql.auto.conf``."""

import re
from collections.abc import Mapping
from pathlib import Path

_TARGET = re.compile(r"^\s*recovery_target_(?:time|inclusive|action)\s*=")

TARGET_NOT_REACHED = "recovery ended before configured recovery target was reached"
"""What PostgreSQL says, and stops, when the target lies behind the last commit in the archive."""


def drop_target(data: Path) -> None:
    """Lets recovery go to the end of WAL instead of to its target."""
    file = data / "postgresql.auto.conf"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not _TARGET.match(line)), encoding="utf-8")


def append_settings(data: Path, settings: Mapping[str, str]) -> None:
    """Adds settings that win over ``postgresql.conf`` and over earlier ``ALTER SYSTEM``."""
    quoted = {name: value.replace("'", "''") for name, value in settings.items()}
    with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in quoted.items())
