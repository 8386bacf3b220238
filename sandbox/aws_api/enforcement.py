"""IAM enforcement in moto: the switch."""

from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin

_NEVER = float("inf")


def install() -> None:
    """Starts with enforcement off: provisioning comes first."""
    switch(on=False)


def switch(*, on: bool) -> None:
    """From the next request on, signatures and policies are checked, or not."""
    ActionAuthenticatorMixin.request_count = 0
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0 if on else _NEVER


def is_on() -> bool:
    """Whether they are checked."""
    return settings.INITIAL_NO_AUTH_ACTION_COUNT != _NEVER
