"""IAM enforcement in moto: the switch, the check of signatures put right, and a role's trust policy."""

import json
from typing import Any

from botocore.awsrequest import AWSRequest
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import IAMRequestBase
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends

from sandbox.aws_api.web_identity import UntrustedError

_NEVER = float("inf")
_FORM = "application/x-www-form-urlencoded"


def install() -> None:
    """Starts with enforcement off: provisioning comes first."""
    iam_request: Any = IAMRequestBase
    as_moto_signs = iam_request._create_aws_request

    def as_sent(request: Any) -> AWSRequest:
        # moto takes parameters of the path and the query for the body of a request without one, and then finds that
        # its signature (GetSchedule, ListTagsForResource) does not match. Only a form may have been parsed away.
        if not str(request._headers.get("Content-Type", "")).startswith(_FORM):
            request._data = {}
        return as_moto_signs(request)

    if as_moto_signs.__name__ != as_sent.__name__:
        iam_request._create_aws_request = as_sent
    switch(on=False)


def switch(*, on: bool) -> None:
    """From the next request on, signatures and policies are checked, or not."""
    ActionAuthenticatorMixin.request_count = 0
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0 if on else _NEVER


def is_on() -> bool:
    """Whether they are checked."""
    return settings.INITIAL_NO_AUTH_ACTION_COUNT != _NEVER


def trust_policy(account: str, role_arn: str) -> dict[str, Any]:
    """Who may assume a role.

    Raises:
        UntrustedError: there is no such role.
    """
    try:
        document = iam_backends[account]["aws"].get_role_by_arn(role_arn).assume_role_policy_document
    except NotFoundException as error:
        raise UntrustedError(f"there is no role {role_arn}") from error
    return json.loads(document)
