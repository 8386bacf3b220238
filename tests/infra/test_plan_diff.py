"""A reviewer sees what a change adds, removes and changes."""

import json
import subprocess
from typing import Any

import pytest

from sandbox.plan import ROOT
from sandbox.plan_diff import differences, main


def _plan(**resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "resources": [
            {"urn": name, "type": "aws:s3/bucket:Bucket", "name": name, "inputs": inputs, "options": {"protect": True}}
            for name, inputs in resources.items()
        ]
    }


def test_added_removed_and_changed_are_told_apart() -> None:
    before = _plan(kept={"bucket": "a"}, gone={"bucket": "b"}, changed={"policy": json.dumps({"Sid": "One", "x": 1})})
    after = _plan(kept={"bucket": "a"}, new={"bucket": "c"}, changed={"policy": json.dumps({"Sid": "One", "x": 2})})
    lines = list(differences(before, after))
    assert lines[0] == "~ aws:s3/bucket:Bucket changed"
    assert [line.split() for line in lines[1:3]] == [["-", '"x":', "1"], ["+", '"x":', "2"]]
    assert lines[3:] == [
        "- aws:s3/bucket:Bucket gone (protected: Pulumi will refuse)",
        "+ aws:s3/bucket:Bucket new",
    ]


def test_the_same_plan_has_no_difference() -> None:
    assert list(differences(_plan(a={"x": 1}), _plan(a={"x": 1}))) == []


def test_an_unknown_base_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prod", "no-such-ref"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_base_is_planned_by_its_own_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the working tree holds at the moment: the last commit can be planned, and nothing of it is left."""
    assert main(["local", "HEAD"]) == 0
    assert capsys.readouterr().out
    trees = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607 - git is where PATH says
    assert "plan-diff-" not in trees.stdout
