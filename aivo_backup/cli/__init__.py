"""The `aivo-backup` command: parse, call one use case, print, answer with the documented exit code."""

from aivo_backup.cli.root import main

__all__ = ["main"]
