"""Leads the CLI to this checkout's sandbox: the environment `local`, as its administrator."""

from collections.abc import Mapping

from aivo_backup import composition
from sandbox.state import Sandbox


def variables() -> Mapping[str, str]:
    """The variables under which `aivo-backup` works on the sandbox.

    Raises:
        ConfigurationError: the sandbox was never brought up.
    """
    sandbox = Sandbox.load()
    return {
        composition.SETTINGS: "ssm:/aivo-backup/local/settings",
        composition.ENDPOINTS: str(sandbox.endpoints_file),
        composition.SECRETS: str(sandbox.secrets),
        composition.STATE: str(sandbox.home / "operator"),
        **sandbox.aws_files,
    }
