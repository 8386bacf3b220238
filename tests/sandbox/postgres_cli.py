"""The CLI on an environment whose database is a lab's own."""

import json
import shutil
from pathlib import Path

from aivo_backup.policy.codec import to_json
from tests.sandbox.cli import Cli
from tests.sandbox.postgres_lab import Lab


def on_lab(cli: Cli, lab: Lab) -> Cli:
    """Turns an environment's PostgreSQL into the lab: its server, its sidecar, its bucket and its key."""
    settings = json.loads((cli.folder / "settings.json").read_text())
    cli.edit(
        "settings.json",
        postgres=to_json(lab.settings),
        buckets={**settings["buckets"], "postgres": lab.bucket},
        keys={**settings["keys"], "postgres": lab.kms_key},
    )
    endpoints = json.loads((cli.folder / "endpoints.json").read_text())
    for name in ("postgres", "pgbackrest"):
        del endpoints[name]
    (cli.folder / "endpoints.json").write_text(json.dumps(endpoints))
    certificates = cli.folder / "secrets" / "pgbackrest-client"
    shutil.rmtree(certificates)
    shutil.copytree(lab.home / "client", certificates)
    write_login(cli.folder / "secrets" / "postgres")
    return cli


def write_login(folder: Path) -> None:
    """The lab's database lets everybody in who reaches it."""
    (folder / "username").write_text("postgres")
    (folder / "password").write_text("not asked for")
