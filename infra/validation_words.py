"""How the checks of settings name a key, and the forms that several of them ask for."""

from aivo_backup.policy.names import PROJECT

DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
URL = r"https?://[^\s/]+"
GIBIBYTE = 1024**3


def key(*path: str) -> str:
    """A key as a stack spells it, for example ``aivo-backup.postgres.host``."""
    return ".".join((PROJECT, *path))
