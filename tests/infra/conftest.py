"""Each stack is registered once; tests look at it, and mutants spoil copies."""

from collections.abc import Callable
from functools import cache

import pytest

from sandbox.plan import register
from tests.infra.plans import STACKS, Plan

PlanOf = Callable[[str], Plan]


@cache
def registered(stack: str) -> Plan:
    return Plan.of(stack, register(stack))


@pytest.fixture(scope="session")
def plan_of() -> PlanOf:
    return registered


@pytest.fixture(scope="session", params=STACKS)
def plan(request: pytest.FixtureRequest) -> Plan:
    return registered(request.param)


@pytest.fixture(scope="session")
def prod() -> Plan:
    return registered("prod")
