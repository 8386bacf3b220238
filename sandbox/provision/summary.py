"""What provisioning came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sandbox.provision.resources import Change


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One resource: its Pulumi type, its physical name, and what was done."""

    kind: str
    name: str
    change: Change


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that the program registered, in the order in which it was realised.

    Attributes:
        at: when provisioning was started (UTC).
    """

    at: datetime
    entries: tuple[Entry, ...]

    def count(self, change: Change) -> int:
        """How many resources were created, corrected or found unchanged."""
        return sum(entry.change is change for entry in self.entries)

    def names(self, change: Change) -> list[str]:
        """The physical names of those resources."""
        return [entry.name for entry in self.entries if entry.change is change]

    def by_kind(self) -> Mapping[str, int]:
        """How many resources there are of each type."""
        kinds = [entry.kind for entry in self.entries]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def __str__(self) -> str:
        return ", ".join(f"{self.count(change)} {change.value}" for change in Change)
