"""What a change does to the registered resources, for a reviewer.

``python -m sandbox.plan_diff prod main`` (``make plan-diff STACK=prod BASE=main``) registers the stack twice, as the
working tree says and as the given git ref said, each with its own program, and prints what is added, removed and
changed, down to the single input. Without a cloud, so it runs in a pull request.
"""

import difflib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from aivo_backup.errors import BackupError, ConfigurationError, ExitCode
from sandbox.plan import ROOT, register, write


def plan_of_base(stack: str, ref: str, folder: Path) -> dict[str, Any]:
    """The plan of a stack at a git ref, made by that ref's own program in a process of its own.

    Args:
        folder: an empty folder for the checkout.

    Raises:
        ConfigurationError: there is no such ref, or its program cannot be registered.
    """
    checkout = folder / "base"
    _git("worktree", "add", "--detach", str(checkout), ref, where=f"git ref {ref!r}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox.plan", stack], cwd=checkout, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ConfigurationError(
                f"{ref} cannot be planned: {(done.stderr or done.stdout).strip().splitlines()[-1]}",
                mend="choose a base that holds this stack",
            )
        return cast("dict[str, Any]", json.loads((checkout / "build" / "plan" / f"{stack}.json").read_text()))
    finally:
        _git("worktree", "remove", "--force", str(checkout), where="the base's checkout")


def _git(*arguments: str, where: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode != 0:
        raise ConfigurationError(f"{where}: {done.stderr.strip().splitlines()[-1]}", mend="name a commit or branch")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Lines that say what changes between two plans; ``+`` added, ``-`` removed, ``~`` changed with its inputs."""
    old, new = _by_urn(before), _by_urn(after)
    for urn in sorted(old.keys() | new.keys()):
        if urn not in old:
            yield f"+ {_label(new[urn])}"
        elif urn not in new:
            protected = " (protected: Pulumi will refuse)" if old[urn]["options"].get("protect") else ""
            yield f"- {_label(old[urn])}{protected}"
        elif _compared(old[urn]) != _compared(new[urn]):
            yield f"~ {_label(new[urn])}"
            yield from (f"    {line}" for line in _changed_lines(old[urn], new[urn]))


def _by_urn(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {resource["urn"]: resource for resource in plan["resources"]}


def _label(resource: Mapping[str, Any]) -> str:
    return f"{resource['type']} {resource['name']}"


def _changed_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for line in difflib.unified_diff(_lines(old), _lines(new), n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield line


def _lines(resource: Mapping[str, Any]) -> list[str]:
    return json.dumps(_compared(resource), indent=1, sort_keys=True).splitlines()


def _compared(resource: Mapping[str, Any]) -> dict[str, object]:
    """Inputs, and the options that decide what becomes of the resource; what it depends on shows in its inputs."""
    options = {name: value for name, value in resource["options"].items() if name not in ("dependencies", "provider")}
    return {"inputs": _readable(resource["inputs"]), "options": options}


def _readable(value: object) -> object:
    """Policies and settings are JSON in a string: opened, so that one statement shows as one change."""
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_readable(item) for item in cast("list[object]", value)]
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def main(arguments: list[str]) -> int:
    """The command behind ``make plan-diff``; returns the exit code."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m sandbox.plan_diff STACK BASE (make plan-diff STACK=prod BASE=main)\n")
        return ExitCode.USAGE
    stack, ref = arguments
    try:
        with tempfile.TemporaryDirectory(prefix="plan-diff-") as folder:
            before = plan_of_base(stack, ref, Path(folder))
            file, _ = write(register(stack), Path(folder), stack)
            after = cast("dict[str, Any]", json.loads(file.read_text()))
    except BackupError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    lines = list(differences(before, after))
    sys.stdout.write("".join(f"{line}\n" for line in lines) or f"{stack}: nothing changes since {ref}\n")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
