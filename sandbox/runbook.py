"""Writes docs/runbook from the plans, as they are for the stack `prod`: `python -m sandbox.runbook`."""

from pathlib import Path

from aivo_backup.cli.recover.kubectl import PulumiCli
from aivo_backup.policy.environment import Environment, SecondRegion
from aivo_backup.recovery.on_paper import plans
from aivo_backup.recovery.runbook import pages
from infra import settings as infra_settings
from infra.publication import environment
from infra.storage import BUCKETS
from sandbox.provision.engine import stack_configuration
from sandbox.state import CHECKOUT

STACK = "prod"
FOLDER = CHECKOUT / "docs" / "runbook"


def production() -> Environment:
    """The settings of the stack, without asking a cloud: what of it stands in a runbook are names alone."""
    settings = infra_settings.load(STACK, stack_configuration(CHECKOUT, STACK, {}))
    names = {use: f"aivo-backup-{use}{settings.bucket_suffix}" for use in BUCKETS}
    arns = dict.fromkeys((*names, "compliance"), "arn:aws:kms:key")
    return environment(settings, key_arns=arns, bucket_names=names, replica=SecondRegion())


def written() -> dict[str, str]:
    """The text of every page by its file name."""
    here = production()
    return pages(here, plans(here, PulumiCli(environment=here)))


def main(folder: Path = FOLDER) -> None:
    """Writes the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in written().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
