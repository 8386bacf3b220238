"""The doctor and a cluster that cannot be looked at: asked for, that is an answer; else a line."""

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from aivo_backup.cli.doctor_cluster import look_at_cluster
from aivo_backup.cli.kubectl import configured
from aivo_backup.composition import App
from aivo_backup.errors import ConfigurationError
from tests.unit.evidence.generated import environment


class Home:
    """An environment's app as far as reading a cluster needs one."""

    published = environment()

    @staticmethod
    def clock() -> datetime:
        """The time does not matter here."""
        return datetime(2026, 11, 25, tzinfo=UTC)


APP = cast("App", Home())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on PATH but what a test puts there, and no kubeconfig."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def kubectl(machine: Path, script: str) -> None:
    """A kubectl, and a kubeconfig for it."""
    program = machine / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (machine / ".kube").mkdir()
    (machine / ".kube" / "config").touch()


def test_a_machine_without_kubectl_or_kubeconfig_says_so(machine: Path) -> None:
    assert not configured()
    looked = look_at_cluster(APP, asked=False)
    assert (looked.findings, looked.left_out) == ([], "no kubectl, or no kubeconfig for it, is on this machine")
    with pytest.raises(ConfigurationError, match="cannot be looked at: install kubectl, and set KUBECONFIG"):
        look_at_cluster(APP, asked=True)
    kubectl(machine, "true")
    assert configured()
    assert not configured({"KUBECONFIG": str(machine / "nowhere"), "HOME": str(machine)})
    assert configured({"KUBECONFIG": f"{machine / 'nowhere'}:{machine / '.kube' / 'config'}"})
    (machine / "kubectl").unlink()
    assert not configured()


@pytest.mark.parametrize(
    ("says", "evidence", "mend"),
    [
        ("The connection to the server was refused", "the cluster does not answer", "check the kubeconfig"),
        ('jobs.batch is forbidden: User "x" cannot list', 'User "x" cannot list', "look at it with kubectl"),
    ],
)
def test_a_cluster_that_is_away_or_refuses_is_one_finding(machine: Path, says: str, evidence: str, mend: str) -> None:
    kubectl(machine, f"echo '{says}' >&2; exit 1")
    for asked in (True, False):
        (finding,) = look_at_cluster(APP, asked=asked).findings
        assert (finding.check, finding.component, finding.passed) == ("API", "cluster", False)
        assert evidence in finding.evidence
        assert finding.mend == mend


def test_a_cluster_that_nobody_asked_about_and_that_is_not_ours_is_a_line(machine: Path) -> None:
    kubectl(machine, """case "$1" in config) echo elsewhere;; *) echo '{"kind": "List", "items": []}';; esac""")
    looked = look_at_cluster(APP, asked=False)
    assert looked.findings == []
    assert looked.left_out == "elsewhere has no ConfigMap aivo-system/aivo-backup-settings"
    (finding,) = look_at_cluster(APP, asked=True).findings
    assert finding.evidence == looked.left_out
    assert "kubectl config use-context" in finding.mend
