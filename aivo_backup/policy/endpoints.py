"""Where things answer instead of at their own names: what differs between a sandbox and a real environment."""

from dataclasses import dataclass, replace

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import Environment


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Overrides of where things answer: the one setting that differs between a sandbox and a real environment.

    Attributes:
        aws: URL of an AWS-compatible API, used for every service.
        postgres: ``host:port``; ``pgbackrest`` likewise, for the sidecar.
        minio: URL; ``opensearch`` likewise.
        agent: ``host:port`` where the agent serves its metrics, in place of its ``--listen``.
        ca_file: certificate authorities (PEM) to trust for all of them.
    """

    aws: str = ""
    postgres: str = ""
    pgbackrest: str = ""
    minio: str = ""
    opensearch: str = ""
    agent: str = ""
    ca_file: str = ""

    def apply(self, environment: Environment) -> Environment:
        """The environment with these endpoints in place of its own.

        Raises:
            ConfigurationError: a ``host:port`` is malformed.
        """
        postgres = environment.postgres
        if self.postgres:
            host, port = _host_and_port(self.postgres, "postgres")
            postgres = replace(postgres, host=host, port=port)
        if self.pgbackrest:
            host, port = _host_and_port(self.pgbackrest, "pgbackrest")
            postgres = replace(postgres, sidecar_host=host, sidecar_port=port)
        minio, opensearch = environment.minio, environment.opensearch
        if self.minio:
            minio = replace(minio, endpoint=self.minio)
        if self.opensearch:
            opensearch = replace(opensearch, endpoint=self.opensearch)
        return replace(environment, postgres=postgres, minio=minio, opensearch=opensearch)


def _host_and_port(text: str, key: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"endpoints.{key} is {text!r}", mend="write it as host:port")
    return host, int(port)
