"""Registered programs as tests look at them, and ways to spoil one."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sandbox.plan import Registered, Registration

Document = dict[str, Any]
STACKS = ("local", "dev", "staging", "prod")


@dataclass(kw_only=True)
class Resource:
    """One registered resource, free to be changed by a mutant."""

    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    options: dict[str, Any]

    def document(self, key: str = "policy") -> Document:
        """A policy document among the inputs."""
        return cast("Document", json.loads(self.inputs[key]))


class Plan:
    """Everything that one stack registers."""

    def __init__(self, stack: str, resources: list[Resource], outputs: Mapping[str, Any]) -> None:
        self.stack = stack
        self.resources = resources
        self.outputs = outputs

    @staticmethod
    def of(stack: str, registration: Registration) -> "Plan":
        return Plan(stack, [_resource(entry) for entry in registration.resources], registration.outputs)

    def copy(self) -> "Plan":
        return Plan(self.stack, copy.deepcopy(self.resources), self.outputs)

    def all(self, suffix: str) -> list[Resource]:
        """Resources whose type ends so, for example ``:Bucket``."""
        return [resource for resource in self.resources if resource.type.endswith(suffix)]

    def one(self, suffix: str, name: str) -> Resource:
        found = [resource for resource in self.all(suffix) if resource.name == name]
        assert len(found) == 1, f"{len(found)} resources {suffix} called {name}"
        return found[0]

    def remove(self, suffix: str, name: str) -> None:
        self.resources.remove(self.one(suffix, name))

    def settings(self) -> Mapping[str, Any]:
        """The published settings."""
        return cast("Mapping[str, Any]", json.loads(self.outputs["settings"]))


def _resource(entry: Registered) -> Resource:
    return Resource(
        type=entry.type,
        name=entry.name,
        parent=entry.parent,
        inputs=copy.deepcopy(dict(entry.inputs)) if _plain(entry.inputs) else dict(entry.inputs),
        options=dict(entry.options),
    )


def _plain(inputs: Mapping[str, Any]) -> bool:
    return "code" not in inputs


def statements(document: Document) -> list[Document]:
    return cast("list[Document]", document["Statement"])


def listed(value: object) -> list[str]:
    """A policy's string or list of strings, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else cast("list[str]", value)


Mutation = Callable[[Plan], None]


def edit_policy(suffix: str, name: str, change: Callable[[list[Document]], None], *, key: str = "policy") -> Mutation:
    """A mutation that edits the statements of one policy."""

    def mutate(plan: Plan) -> None:
        resource = plan.one(suffix, name)
        document = resource.document(key)
        change(statements(document))
        resource.inputs[key] = json.dumps(document)

    return mutate


def drop_statement(suffix: str, name: str, sid: str) -> Mutation:
    """A mutation that takes one statement out of a policy."""

    def change(entries: list[Document]) -> None:
        kept = [entry for entry in entries if entry["Sid"] != sid]
        assert len(kept) < len(entries), f"no statement {sid}"
        entries[:] = kept

    return edit_policy(suffix, name, change)


def add_statement(suffix: str, name: str, statement: Document) -> Mutation:
    """A mutation that adds a statement to a policy."""
    return edit_policy(suffix, name, lambda entries: entries.append(statement))


def set_input(suffix: str, name: str, path: tuple[str | int, ...], value: object) -> Mutation:
    """A mutation that sets one input; ``None`` removes it."""

    def mutate(plan: Plan) -> None:
        node: Any = plan.one(suffix, name).inputs
        for step in path[:-1]:
            node = node[step]
        if value is None:
            del node[path[-1]]
        else:
            node[path[-1]] = value

    return mutate


def remove(suffix: str, name: str) -> Mutation:
    """A mutation that leaves one resource out."""
    return lambda plan: plan.remove(suffix, name)


def set_option(suffix: str, name: str, option: str, value: object) -> Mutation:
    """A mutation that sets a resource option."""

    def mutate(plan: Plan) -> None:
        plan.one(suffix, name).options[option] = value

    return mutate


def widened(sid: str, operator: str, key: str, value: str) -> Callable[[list[Document]], None]:
    """A change for :func:`edit_policy`: a statement's condition compares with another value."""

    def change(entries: list[Document]) -> None:
        for entry in entries:
            if entry["Sid"] == sid:
                entry["Condition"][operator][key] = value

    return change
