"""Names of records: sortable by time, unique, and telling what they are."""

import secrets
from datetime import UTC, datetime

from aivo_backup.policy.environment import Component


def record_id(component: Component, what: str, moment: datetime) -> str:
    """For example ``postgres-full-20261123T040000Z-3f9a1c``; the tail keeps two in one second apart."""
    return f"{component.value}-{what}-{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
