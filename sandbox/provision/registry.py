"""Which realiser handles which resource type, and the provider functions that the program may call."""

from collections.abc import Callable, Mapping
from typing import Any

from aivo_backup.errors import ConfigurationError
from sandbox.provision import alerting, functions, iam, kms, parameters, queues, s3, schedules
from sandbox.provision.resources import Clients, Realiser

REALISERS: Mapping[str, Realiser] = {
    realiser.kind: realiser
    for module in (alerting, functions, iam, kms, parameters, queues, s3, schedules)
    for realiser in module.REALISERS
}


def realiser_for(kind: str) -> Realiser:
    """The realiser of a resource type.

    Raises:
        ConfigurationError: there is none; nothing is ever accepted without being made true.
    """
    if kind not in REALISERS:
        raise ConfigurationError(
            f"the sandbox cannot realise {kind}", mend="add a realiser for it under sandbox/provision/"
        )
    return REALISERS[kind]


def invoke(aws: Clients, token: str) -> dict[str, Any]:
    """Answers one provider function.

    Raises:
        ConfigurationError: the sandbox does not know it.
    """
    if token not in _FUNCTIONS:
        raise ConfigurationError(f"the sandbox cannot answer {token}", mend="add it to sandbox/provision/registry.py")
    return _FUNCTIONS[token](aws)


_FUNCTIONS: Mapping[str, Callable[[Clients], dict[str, Any]]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": lambda aws: {
        "id": aws.account,
        "accountId": aws.account,
        "arn": aws.administrator,
        "userId": aws.administrator.rpartition("/")[2],
    },
    "aws:index/getRegion:getRegion": lambda aws: {"id": aws.region, "name": aws.region, "region": aws.region},
    "aws:index/getPartition:getPartition": lambda _: {
        "id": "aws",
        "partition": "aws",
        "dnsSuffix": "amazonaws.com",
        "reverseDnsPrefix": "com.amazonaws",
    },
}
