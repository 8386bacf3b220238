"""Names of wrong objects for a person: the first few, and how many there are."""

from dataclasses import dataclass, field

_NAMED = 20


@dataclass(kw_only=True)
class Wrong:
    """Collects what is wrong; memory is bounded however much that is."""

    count: int = 0
    _named: list[str] = field(default_factory=list[str])

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self._named) < _NAMED:
            self._named.append(name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self._named)
        return ", ".join(self._named) + (f" and {more} more" if more else "")
