"""What Pulumi runs: settings of the stack in, resources of the environment out."""

import pulumi
from pulumi.runtime import config

from aivo_backup.errors import ConfigurationError
from infra import program, settings, validation


def main() -> None:
    """Registers the stack.

    Raises:
        pulumi.RunError: the configuration cannot be used; one line that names the key, the value and the bound.
    """
    try:
        # `pulumi.Config` answers for keys one knows; an unknown key is found only where all of them are.
        loaded = settings.load(pulumi.get_stack(), config.CONFIG.get() or config.get_config_env())
        validation.check(loaded)
    except ConfigurationError as error:
        raise pulumi.RunError(str(error)) from error
    program.run(loaded)


main()
