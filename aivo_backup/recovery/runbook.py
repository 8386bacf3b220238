"""Runbooks written from the plans, for a person who has a shell and nothing of this tool. Pure."""

from collections.abc import Mapping, Sequence

from aivo_backup.policy.environment import Environment
from aivo_backup.recovery.plan import Plan, PlannedStep, Scenario

_INTRODUCTION: Mapping[Scenario, str] = {
    Scenario.DATABASE_CORRUPTION: "PostgreSQL returns wrong data, refuses to start, or reports damaged pages.",
    Scenario.STORAGE_FAILURE: "The storage of the stores is lost: volumes, MinIO's drives, OpenSearch's data path.",
    Scenario.PARTIAL_LOSS: "Some rows, objects or documents are gone, and the stores work.",
}
_HEAD = "<!-- Written from the recovery plans by `make runbook`; changes belong into aivo_backup/recovery. -->\n"


def pages(environment: Environment, plans: Sequence[Plan]) -> dict[str, str]:
    """The text of every page by its file name: one per scenario, and the index with escalation and contacts."""
    files = {f"{plan.scenario.value}.md": _page(environment, plan) for plan in plans}
    return {"README.md": _index(environment, plans), **files}


def _index(environment: Environment, plans: Sequence[Plan]) -> str:
    objectives = environment.objectives
    lines = [
        _HEAD,
        f"# Recovery runbook: {environment.name}",
        "",
        f"Objectives: at most {objectives.rpo_seconds // 60} minutes of data lost, "
        f"at most {objectives.rto_seconds // 60} minutes to recover.",
        "",
        "## Which page",
        "",
        *(f"- [{plan.scenario}]({plan.scenario}.md): {_INTRODUCTION[plan.scenario]}" for plan in plans),
        "",
        "Each page gives the one command of the tool, and under every step the commands to run without it.",
        "",
        *_people(environment),
    ]
    return "\n".join(lines)


def _people(environment: Environment) -> list[str]:
    recovery = environment.recovery
    return [
        "## Escalation path",
        "",
        *(f"{number}. **{each.who}** ({each.how})" for number, each in enumerate(recovery.escalation, start=1)),
        "",
        "## Contacts",
        "",
        *(f"- **{each.who}**: {each.how}" for each in recovery.contacts),
        "",
    ]


def _page(environment: Environment, plan: Plan) -> str:
    command = f"aivo-backup --environment {environment.name}"
    lines = [
        _HEAD,
        f"# {plan.scenario.value.replace('-', ' ').capitalize()}",
        "",
        _INTRODUCTION[plan.scenario],
        "",
        "## With the tool",
        "",
        "```bash",
        *_by_plan(command, plan.scenario),
        "```",
        "",
        "## Without the tool",
        "",
    ]
    for number, step in enumerate(plan.steps, start=1):
        lines += _step(number, step)
    return "\n".join([*lines, *_people(environment)])


def _by_plan(command: str, scenario: Scenario) -> tuple[str, ...]:
    recover = f"{command} recover {scenario}"
    moment = " --target-time 2026-01-31T12:00:00Z" if scenario is Scenario.PARTIAL_LOSS else ""
    return (
        f"{recover}{moment} --plan      # what would happen, how long, what is lost",
        f"{recover}{moment} --execute   # asks before each destructive step",
        f"{recover} --resume    # after a failure or a kill",
        f"{recover} --abandon   # gives it up: applications start, nothing else happens",
    )


def _step(number: int, step: PlannedStep) -> list[str]:
    lines = [f"### {number}. {step.title[0].upper()}{step.title[1:]}", "", f"- Needs: {step.precondition}."]
    if step.changes:
        lines.append(
            f"- Changes: {step.changes}.{' **Destructive: two people agree first.**' if step.destructive else ''}"
        )
        lines.append(f"- Undo: {step.undo}.")
    lines.append("")
    if step.commands:
        lines += ["```bash", *step.commands, "```", ""]
    return lines
