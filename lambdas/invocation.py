"""What every handler does around its one use case: parse, log, answer."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from aivo_backup.composition import App, open_environment
from aivo_backup.errors import BackupError, UsageError
from aivo_backup.policy.codec import from_json

E = TypeVar("E")


@dataclass(frozen=True, kw_only=True)
class Invocation(Generic[E]):
    """One call of a function.

    Attributes:
        request: the event, parsed.
        app: the environment that the function serves.
    """

    request: E
    app: App
    logger: Logger

    def progress(self, line: str) -> None:
        """Takes one line of progress into the log."""
        self.logger.info(line)


@contextmanager
def invocation(
    kind: type[E], event: Mapping[str, object], context: LambdaContext
) -> Generator[Invocation[E], None, None]:
    """Opens a call, and logs how it ended, in one line of JSON with the request's id.

    Args:
        kind: the dataclass that the event must be, key by key.

    Raises:
        UsageError: the event has an unknown, missing or mistyped key.
        BackupError: whatever the body raises, after it was logged.
    """
    logger = Logger()
    # A warm process keeps the keys of its last call; this one starts clean.
    logger.structure_logs(append=False, request_id=context.aws_request_id, function=context.function_name)
    try:
        try:
            request = from_json(kind, dict(event), where="event")
        except BackupError as error:
            raise UsageError(error.what, mend=error.mend or "correct the schedule's input") from error
        logger.append_keys(**{key: str(value) for key, value in event.items()})
        yield Invocation(request=request, app=open_environment(os.environ, outside=True), logger=logger)
    except BackupError as error:
        # No traceback: the line says what, where and the mend. Lambda itself logs what is raised.
        logger.error(str(error), extra={"exit_code": int(error.exit_code)})
        raise
    logger.info("done")
