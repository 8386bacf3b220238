"""Every control holds for every stack, and every control is shown to fail: each has plans that break it."""

import re

import pytest

from tests.infra.controls import access, security, storage, workloads
from tests.infra.controls.mutants import MUTANTS, Control
from tests.infra.plans import Mutation, Plan

CONTROLS = list(dict.fromkeys(control for control, _, _ in MUTANTS))


def _name(control: Control) -> str:
    return control.__name__


@pytest.mark.parametrize("control", CONTROLS, ids=_name)
def test_control_holds(control: Control, plan: Plan) -> None:
    assert control(plan) == []


@pytest.mark.parametrize(
    ("control", "mutation"),
    [pytest.param(control, mutation, id=f"{_name(control)}-{what}") for control, what, mutation in MUTANTS],
)
def test_control_sees_the_mutant(control: Control, mutation: Mutation, prod: Plan) -> None:
    mutant = prod.copy()
    mutation(mutant)
    assert control(mutant), "the control does not see what was broken"


# What is demanded: AWS's Foundational Security Best Practices, checkov, and three that neither counts.
DEMANDED = {
    *(f"S3.{number}" for number in (1, 5, 6, 8, 9, 12, 13, 14, 15, 17)),
    *(f"KMS.{number}" for number in (1, 2, 3, 4, 5)),
    *(f"Lambda.{number}" for number in (1, 2, 3, 5)),
    *(f"CloudTrail.{number}" for number in (1, 2, 4)),
    "SNS.1",
    "EventBridge.3",
    *(f"CKV_AWS_{number}" for number in (19, 21, 53, 54, 55, 56, 70, 143, 144, 145, 300, 379)),
    *(f"CKV_AWS_{number}" for number in (7, 33, 115, 116, 117, 173, 272, 158, 338)),
    "SSE-C",
    "Confused deputy",
    "COPPA",
}


_CITATION = re.compile(r"CKV_AWS_\d+|(?:S3|KMS|Lambda|CloudTrail|SNS|EventBridge)\.\d+|SSE-C|Confused deputy|COPPA")


def test_every_control_that_is_demanded_is_written() -> None:
    """Controls cite what they hold in their docstrings, each number in full, so that it can be searched for."""
    cited = {citation for control in CONTROLS for citation in _CITATION.findall(control.__doc__ or "")}
    assert sorted(DEMANDED - cited) == []


def test_every_control_has_a_mutant() -> None:
    written = {
        name
        for module in (storage, access, workloads, security)
        for name in vars(module)
        if not name.startswith("_") and getattr(vars(module)[name], "__module__", "") == module.__name__
    }
    assert written == {_name(control) for control in CONTROLS}
