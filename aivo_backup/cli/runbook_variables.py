"""The variables of the runbook's scripts: what each one says is taken, or compared with the environment's settings.

An environment's settings are published once (ADR 0005), so no variable overrides one: a script that an old profile or
an old CronJob calls with another bucket is refused, and neither follows it nor ignores it.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO

from aivo_backup.composition import App
from aivo_backup.errors import ConfigurationError, RefusedError
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.policy.names import SECRET_MINIO_SOURCE, SECRET_OPENSEARCH
from aivo_backup.secrets import GivenSecrets


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A variable that names what the settings name too.

    Attributes:
        setting: its key in the settings.
        of: its value there.
    """

    variable: str
    component: Component
    setting: str
    of: Callable[[Environment], str]


@dataclass(frozen=True, kw_only=True)
class Login:
    """Variables that hold one store's login, which is used in place of the environment's.

    Attributes:
        keys: variable to the key of the secret.
    """

    component: Component
    secret: str
    keys: Mapping[str, str]


COMPARED = (
    Compared(
        variable="PGBACKREST_STANZA",
        component=Component.POSTGRES,
        setting="postgres.stanza",
        of=lambda environment: environment.postgres.stanza,
    ),
    Compared(
        variable="MINIO_SOURCE_ENDPOINT",
        component=Component.MINIO,
        setting="minio.endpoint",
        of=lambda environment: environment.minio.endpoint,
    ),
    Compared(
        variable="OPENSEARCH_ENDPOINT",
        component=Component.OPENSEARCH,
        setting="opensearch.endpoint",
        of=lambda environment: environment.opensearch.endpoint,
    ),
    *(
        Compared(
            variable=variable,
            component=component,
            setting=f"buckets.{component}",
            of=lambda environment, component=component: environment.bucket(component),
        )
        for variable, component in (
            ("BACKUP_BUCKET", Component.POSTGRES),
            ("BACKUP_TARGET_BUCKET", Component.MINIO),
            ("SNAPSHOT_BUCKET", Component.OPENSEARCH),
        )
    ),
    *(
        Compared(
            variable="KMS_KEY_ID",
            component=component,
            setting=f"keys.{component}",
            of=lambda environment, component=component: environment.key(component.value),
        )
        for component in Component
    ),
)
LOGINS = (
    Login(
        component=Component.MINIO,
        secret=SECRET_MINIO_SOURCE,
        keys={"MINIO_SOURCE_ACCESS_KEY": "access-key", "MINIO_SOURCE_SECRET_KEY": "secret-key"},
    ),
    Login(
        component=Component.OPENSEARCH,
        secret=SECRET_OPENSEARCH,
        keys={"OPENSEARCH_USERNAME": "username", "OPENSEARCH_PASSWORD": "password"},
    ),
)


def honoured(app: App, component: Component, variables: Mapping[str, str]) -> App:
    """The environment as the variables want it.

    Args:
        variables: the process's environment; an empty variable counts as unset.

    Raises:
        RefusedError: a variable contradicts the settings.
        ConfigurationError: half of a login is missing.
    """
    for compared in COMPARED:
        given = variables.get(compared.variable, "").rstrip("/")
        if compared.component is not component or not given:
            continue
        held = compared.of(app.environment).rstrip("/")
        # A key may be named by its ARN, or by its id, which the ARN ends with.
        if given != held and not held.endswith(f":key/{given}"):
            raise RefusedError(
                f"{compared.variable} is {given}, and {compared.setting} of {app.environment.name} is {held}",
                mend=f"unset {compared.variable}, or name the environment that is meant",
            )
    given_logins: dict[tuple[str, str], str] = {}
    for login in LOGINS:
        found = {name: value for name in login.keys if (value := variables.get(name, ""))}
        if login.component is not component or not found:
            continue
        if missing := sorted(login.keys.keys() - found.keys()):
            raise ConfigurationError(
                f"{', '.join(found)} is set and {', '.join(missing)} is not",
                mend="set both, or neither: the environment has a login of its own",
            )
        given_logins |= {(login.secret, login.keys[name]): value for name, value in found.items()}
    return replace(app, secrets=GivenSecrets(given_logins, app.secrets)) if given_logins else app


def require_pass(app: App, source: IO[bytes]) -> None:
    """Holds the cipher pass that somebody brings along against the repository's own.

    Args:
        source: what ENCRYPTION_KEY_CMD answers; one line feed at its end is not part of the pass.

    Raises:
        RefusedError: it is another one, or nothing.
    """
    given = source.read().removesuffix(b"\n")
    mend = "unset ENCRYPTION_KEY_CMD: the pass is unwrapped from the repository's envelope by KMS"
    if not given:
        raise RefusedError("ENCRYPTION_KEY_CMD failed, or answered nothing", mend=mend)
    if not hmac.compare_digest(given, app.repository_access.cipher_pass().encode()):
        raise RefusedError("ENCRYPTION_KEY_CMD answers another pass than the repository's", mend=mend)
