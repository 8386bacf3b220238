"""What a recovery would do: ordered steps that say what they need, what they change and how to take it back.

A plan is data. It is shown by ``--plan``, written down as a runbook, and carried out by :mod:`.executor`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Scenario(StrEnum):
    """The runbook's recovery scenarios."""

    DATABASE_CORRUPTION = "database-corruption"
    STORAGE_FAILURE = "storage-failure"
    PARTIAL_LOSS = "partial-loss"


class Basis(StrEnum):
    """What an expected duration rests on."""

    MEASURED = "measured"
    """Earlier recoveries and drills that are on record."""
    RATE = "size over rate"
    """Bytes divided by the configured restore rate."""
    ASSUMED = "assumed"
    """Neither: a step that does not grow with the data, never run yet."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long something is expected to take, in seconds, and how that is known."""

    seconds: float
    basis: Basis
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step.

    Attributes:
        name: a slug; the same in every plan, journal and record of the scenario, so that times can be compared.
        title: what it does, for people.
        precondition: what must hold before it begins.
        changes: what it changes; empty when it changes nothing.
        destructive: it replaces or stops something that works, so a person agrees first.
        undo: how what it changed is taken back.
        commands: what a person without this tool would run, one shell line each; ``#`` begins a remark.
    """

    name: str
    title: str
    precondition: str
    changes: str = ""
    destructive: bool = False
    expected: Estimate
    undo: str = "nothing to undo"
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of one recovery in their order.

    Attributes:
        summary: what is restored from where and what is lost by it, one line each.
    """

    scenario: Scenario
    environment: str
    from_replica: bool = False
    isolated: bool = False
    summary: tuple[str, ...] = ()
    steps: tuple[PlannedStep, ...]

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if len(set(names)) != len(names):
            raise ValueError(f"two steps of {self.scenario} share a name: {', '.join(names)}")

    @property
    def expected_seconds(self) -> float:
        """How long all of it is expected to take."""
        return sum(step.expected.seconds for step in self.steps)
