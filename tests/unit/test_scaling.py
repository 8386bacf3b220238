"""Stopping a workload whose pods take long: whoever waits is told for what, and how to end it."""

import json
from pathlib import Path

import pytest

from aivo_backup.cli import kubectl
from aivo_backup.errors import BackupError

WORKLOAD = {"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "shop"}}}}
POD = {"metadata": {"name": "shop-0"}, "spec": {"terminationGracePeriodSeconds": 1800}}
SOONER = "kubectl delete pod shop-0 -n aivo --grace-period=1"


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A kubectl that answers with one pod as often as the file says, and then with none."""
    left = tmp_path / "left"
    left.write_text("x" * 3)
    answer = json.dumps({"items": [POD]})
    program = tmp_path / "kubectl"
    program.write_text(f"""#!/bin/sh
left=$(cat {left})
[ -n "$left" ] || exit 0
printf %s "${{left#x}}" > {left}
printf %s '{answer}'
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(kubectl, "_POLL_SECONDS", 0.0)
    return left


def test_who_waits_long_is_told_once_for_what_and_how_to_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "_PATIENCE_SECONDS", 0.0)
    said: list[str] = []
    kubectl.scale_down("aivo", "statefulset/shop", WORKLOAD, said.append)
    (line,) = said
    assert "waiting for shop-0 to end, 1800 s of grace" in line
    assert SOONER in line


def test_of_pods_that_end_soon_nothing_is_said(program: Path) -> None:
    said: list[str] = []
    kubectl.scale_down("aivo", "statefulset/shop", WORKLOAD, said.append)
    assert said == []
    assert program.read_text() == ""


def test_pods_that_do_not_end_are_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "SCALE_SECONDS", 0)
    with pytest.raises(BackupError, match="statefulset/shop: not within 0 s did shop-0 end") as refused:
        kubectl.scale_down("aivo", "statefulset/shop", WORKLOAD, lambda _: None)
    assert SOONER in str(refused.value)
