"""Where logins come from: mounted Kubernetes secrets, or AWS Secrets Manager outside the cluster. Never from argv."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aivo_backup.errors import ConfigurationError
from aivo_backup.stores.aws import translated

if TYPE_CHECKING:
    from types_boto3_secretsmanager.client import SecretsManagerClient


class Secrets(Protocol):
    """Reads one value of one secret."""

    def read(self, secret: str, key: str) -> str:
        """The value of ``key`` in ``secret`` (for example ``minio-source``, ``access-key``).

        Raises:
            ConfigurationError: there is no such secret or key; the message names the place, never a value.
        """
        ...

    def has(self, secret: str) -> bool:
        """Whether there may be such a secret: a value of it is worth reading."""
        ...


class MountedSecrets:
    """A folder per secret, a file per key, as Kubernetes mounts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, secret: str, key: str) -> str:
        """See :class:`Secrets`."""
        file = self.folder / secret / key
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(
                f"secret {secret} has no key {key}: {file} {error.strerror}", mend=f"mount the secret {secret} there"
            ) from error

    def has(self, secret: str) -> bool:
        """See :class:`Secrets`."""
        return (self.folder / secret).is_dir()


class ManagedSecrets:
    """Secrets Manager entries whose value is a JSON object of keys."""

    def __init__(self, client: "SecretsManagerClient", names: dict[str, str]) -> None:
        self._client = client
        self._names = names

    def read(self, secret: str, key: str) -> str:
        """See :class:`Secrets`."""
        name = self._names.get(secret, "")
        if not name:
            raise ConfigurationError(
                f"no Secrets Manager name is set for {secret}", mend="set it in the stack's configuration"
            )
        with translated(f"secret {name}"):
            text = self._client.get_secret_value(SecretId=name).get("SecretString", "")
        try:
            return str(json.loads(text)[key])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"secret {name} has no key {key}", mend="store it as a JSON object") from error

    def has(self, secret: str) -> bool:
        """See :class:`Secrets`. Asking would cost a call; reading says what is missing."""
        return True


class GivenSecrets:
    """Values that the caller brings along, before those of the environment.

    Args:
        given: secret and key to value.
    """

    def __init__(self, given: Mapping[tuple[str, str], str], otherwise: Secrets) -> None:
        self._given = given
        self._otherwise = otherwise

    def read(self, secret: str, key: str) -> str:
        """See :class:`Secrets`."""
        value = self._given.get((secret, key))
        return self._otherwise.read(secret, key) if value is None else value

    def has(self, secret: str) -> bool:
        """See :class:`Secrets`."""
        return any(name == secret for name, _ in self._given) or self._otherwise.has(secret)
