"""Each stack is registered once; tests look at it, and mutants spoil copies."""

from collections.abc import Callable
from functools import cache

import pytest

from sandbox.plan import register
from tests.infra.plans import STACKS, Plan


def pytest_configure(config: pytest.Config) -> None:
    # The SDK's old names warn when their module is imported, whether one uses them or not.
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:pulumi_aws")


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
