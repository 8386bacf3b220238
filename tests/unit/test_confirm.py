"""Who restores over a production environment has to type its name; a habit of pressing y is not enough."""

from dataclasses import replace
from pathlib import Path

import boto3
import click
import pytest
from click.testing import CliRunner

from aivo_backup.cli import confirm as confirming
from aivo_backup.composition import App
from aivo_backup.errors import RefusedError
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.secrets import MountedSecrets
from tests.unit.evidence.generated import environment as generated_environment


def app(*, production: bool) -> App:
    environment = replace(generated_environment(), name="prod", production=production)
    return App(
        environment=environment,
        published=environment,
        endpoints=Endpoints(),
        aws=boto3.Session(region_name="us-east-1"),
        secrets=MountedSecrets(Path("/nowhere")),
        secrets_folder=Path("/nowhere"),
        state=Path("/nowhere"),
    )


def answered(text: str, monkeypatch: pytest.MonkeyPatch, *, production: bool) -> str:
    """What became of a plan that was answered with ``text`` at a terminal: ``goes on``, or the refusal."""

    @click.command()
    def ask() -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        confirming.confirm(app(production=production), yes=False)
        click.echo("goes on")

    done = CliRunner().invoke(ask, input=text)
    if done.exception is not None:
        assert isinstance(done.exception, RefusedError), done.exception
        return str(done.exception)
    return done.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("production", "text", "said"),
    [
        (True, "prod\n", "goes on"),
        (True, "y\n", "the name was not typed"),
        (True, "yes\n", "the name was not typed"),
        (True, "\n", "the name was not typed"),
        (True, "staging\n", "the name was not typed"),
        (False, "y\n", "goes on"),
        (False, "\n", "the plan was not agreed to"),
    ],
)
def test_production_wants_its_name(production: bool, text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said in answered(text, monkeypatch, production=production)


def test_without_a_terminal_only_yes_goes_on() -> None:
    with pytest.raises(RefusedError, match="nobody is here to agree to the plan: give --yes after reading it"):
        confirming.confirm(app(production=True), yes=False)
    confirming.confirm(app(production=True), yes=True)
