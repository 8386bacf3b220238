"""The pgBackRest configurations of one environment, generated from its settings. Pure: text in the end, no I/O.

There are five places, and each gets only what it needs (docs/adr/0002-archiving-through-the-sidecar.md):

* *host*: PostgreSQL's own container. ``archive_command`` and ``restore_command`` read it. It knows the sidecar and
  nothing of the repository: no bucket, no key, no cipher.
* *sidecar*: the TLS server beside the database. Knows the repository and the local data directory.
* *client*: the backup job. Reaches the database through the sidecar and the repository directly.
* *expire*: the job that expires. Knows the repository, and that nothing goes unless it is named.
* *restore*: whoever restores. Knows the repository and the folder to restore into; needs no database, no sidecar.

Secrets (access key, session token, cipher pass) are never options here: pgBackRest takes them from environment
variables ``PGBACKREST_REPO1_*``, and :class:`Configuration` refuses to carry one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import PostgresSettings

CLIENT_NAME = "backup-client"
"""Common name of the certificate that the jobs present to the sidecar."""

HOST_NAME = "pg-host"
"""Common name of the certificate that PostgreSQL's own container presents to the sidecar."""

DATABASE_USER = "postgres"
"""The superuser that pgBackRest connects as, over the Unix socket that the sidecar shares."""

CIPHER = "aes-256-cbc"
REPOSITORY_PATH = "/"

SECRET_OPTIONS = frozenset({"repo1-cipher-pass", "repo1-s3-key", "repo1-s3-key-secret", "repo1-s3-token"})

Value = str | int | bool | tuple[str, ...]
Options = Mapping[str, Value]

KEEP_ALL = 9_999_999
"""The largest ``retention-full`` that pgBackRest takes: no set goes for being one too many."""


@dataclass(frozen=True, order=True)
class Version:
    """A pgBackRest version. Both sides of a connection must run the very same one."""

    major: int
    minor: int
    patch: int = 0

    @staticmethod
    def parse(text: str) -> "Version":
        """Reads what ``pgbackrest version`` prints, for example ``pgBackRest 2.45``.

        Raises:
            ConfigurationError: there is no version in it.
        """
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
        if found is None:
            raise ConfigurationError(f"no pgBackRest version in {text.strip()!r}", mend="install pgBackRest")
        return Version(int(found[1]), int(found[2]), int(found[3] or 0))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")


OLDEST = Version(2, 39)
"""The TLS server came with 2.37, bundles with 2.39."""

BLOCK_INCREMENTAL = Version(2, 46)

SAFE = Version(2, 59, 1)
"""Since then an expire no longer removes a backup that another host is just taking. What is worth keeping needs it."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where the repository is.

    Attributes:
        kms_key: key that S3 encrypts new objects with.
        host: host name of an S3 endpoint that is not AWS's own; empty for AWS's.
        port: its port; read only with ``host``.
        ca_file: certificate authorities (PEM) to trust for it; empty for the system's.
        web_identity: pgBackRest exchanges the pod's web identity token itself; otherwise it is handed credentials in
            the environment.
    """

    bucket: str
    region: str
    kms_key: str
    host: str = ""
    port: int = 443
    ca_file: str = ""
    web_identity: bool = True


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Paths of one side's certificate, its key (mode 600) and the authority of the other side."""

    ca: str
    certificate: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Folders that one process may write. Two processes on one machine need different ones: locks live there."""

    log: str
    lock: str
    spool: str

    @staticmethod
    def under(folder: str) -> "Workspace":
        """The usual three subfolders."""
        return Workspace(log=f"{folder}/log", lock=f"{folder}/lock", spool=f"{folder}/spool")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One pgBackRest configuration: a global section and the stanza's.

    Raises:
        ConfigurationError: at construction, when an option is a secret or a value would break out of its line.
    """

    stanza: str
    global_options: Options
    stanza_options: Options = field(default_factory=dict[str, Value])

    def __post_init__(self) -> None:
        for name, value in (*self.global_options.items(), *self.stanza_options.items()):
            if name in SECRET_OPTIONS:
                raise ConfigurationError(f"{name} is a secret", mend="hand it over in the environment")
            for text in _texts(value):
                if not text or text != text.strip() or "\n" in text:
                    raise ConfigurationError(f"pgBackRest option {name} cannot be {text!r}", mend="set one plain line")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.stanza):
            raise ConfigurationError(
                f"{self.stanza!r} is not a stanza name", mend="use letters, digits, dot, dash, underscore"
            )

    def text(self) -> str:
        """The file's content."""
        lines = [f"[global]\n{_section(self.global_options)}"]
        if self.stanza_options:
            lines.append(f"[{self.stanza}]\n{_section(self.stanza_options)}")
        return "\n".join(lines)


def _texts(value: Value) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("y" if value else "n",)
    return value if isinstance(value, tuple) else (str(value),)


def _section(options: Options) -> str:
    return "".join(f"{name}={text}\n" for name, value in options.items() for text in _texts(value))


def host_configuration(
    settings: PostgresSettings, certificates: Certificates, *, sidecar_host: str = "localhost"
) -> Configuration:
    """For PostgreSQL's own container. The sidecar shares its pod, so it answers on the loopback.

    It needs no folder to write: archiving is synchronous (asynchronous archiving answers success on spooling) and
    logs to PostgreSQL's own log.
    """
    return Configuration(
        stanza=settings.stanza,
        global_options={
            "repo1-host": sidecar_host,
            "repo1-host-type": "tls",
            "repo1-host-port": settings.sidecar_port,
            "repo1-host-config": settings.sidecar_config,
            **_tls("repo1-host", certificates),
            "archive-async": False,
            "compress-type": "zst",
            "log-level-console": "warn",
            "log-level-file": "off",
        },
        stanza_options=_local_database(settings),
    )


def sidecar_configuration(
    settings: PostgresSettings,
    repository: Repository,
    certificates: Certificates,
    workspace: Workspace,
    *,
    version: Version,
    address: str = "0.0.0.0",  # noqa: S104 - the jobs come from other pods; mutual certificates decide who may
) -> Configuration:
    """For the TLS server beside the database."""
    return Configuration(
        stanza=settings.stanza,
        global_options={
            **_repository(repository, version),
            **_workspace(workspace, log_level_file="off"),
            "compress-type": "zst",
            "process-max": settings.process_max,
            "log-level-console": "info",
            "tls-server-address": address,
            "tls-server-port": settings.sidecar_port,
            "tls-server-auth": (f"{CLIENT_NAME}={settings.stanza}", f"{HOST_NAME}={settings.stanza}"),
            **_tls("tls-server", certificates),
        },
        stanza_options=_local_database(settings),
    )


def client_configuration(
    settings: PostgresSettings,
    repository: Repository,
    certificates: Certificates,
    workspace: Workspace,
    *,
    version: Version,
) -> Configuration:
    """For the backup job.

    Expiry is a job of its own with its own identity, so a backup never expires anything. The retention options are
    there all the same: without them pgBackRest warns on every run, and an ``expire`` by hand keeps what is promised.
    """
    return Configuration(
        stanza=settings.stanza,
        global_options={
            **_repository(repository, version),
            **_workspace(workspace, log_level_file="info"),
            "repo1-retention-full-type": "count",
            "repo1-retention-full": settings.full_backups_kept,
            "expire-auto": False,
            "compress-type": "zst",
            "process-max": settings.process_max,
            "start-fast": True,
            # A lost connection leaves PostgreSQL in backup mode no longer than its session; a next run may go on.
            "resume": True,
            "archive-check": True,
            # The segment that ends a backup is pushed at once; longer means that archiving is broken.
            "archive-timeout": max(60, settings.archive_timeout_seconds),
            "log-level-console": "info",
        },
        stanza_options={
            "pg1-host": settings.sidecar_host,
            "pg1-host-type": "tls",
            "pg1-host-port": settings.sidecar_port,
            "pg1-host-config": settings.sidecar_config,
            **_tls("pg1-host", certificates),
            **_local_database(settings),
        },
    )


def expire_configuration(
    settings: PostgresSettings, repository: Repository, workspace: Workspace, *, data_path: str, version: Version
) -> Configuration:
    """For the job that expires.

    Sets go only when they are named; how much WAL stays is said anew in each call (``repo1-retention-archive``). The
    copies of manifests that pgBackRest keeps of sets that are gone would stay for ever: they go with the window.

    Args:
        data_path: the stanza must name one; nothing is read there.
    """
    return Configuration(
        stanza=settings.stanza,
        global_options={
            **_repository(repository, version),
            **_workspace(workspace, log_level_file="info"),
            "repo1-retention-full-type": "count",
            "repo1-retention-full": KEEP_ALL,
            "repo1-retention-history": settings.recovery_window_days,
            "log-level-console": "info",
        },
        stanza_options={"pg1-path": data_path},
    )


def restore_configuration(
    settings: PostgresSettings,
    repository: Repository,
    workspace: Workspace,
    *,
    data_path: str,
    version: Version,
) -> Configuration:
    """For a restore into ``data_path``, from the repository alone."""
    return Configuration(
        stanza=settings.stanza,
        global_options={
            **_repository(repository, version),
            **_workspace(workspace, log_level_file="info"),
            "process-max": settings.process_max,
            "log-level-console": "info",
        },
        stanza_options={"pg1-path": data_path},
    )


def archive_command(settings: PostgresSettings) -> str:
    """PostgreSQL's ``archive_command``: the exit status is ``archive-push``'s own."""
    return f"pgbackrest --config={settings.host_config} --stanza={settings.stanza} archive-push %p"


def restore_command(settings: PostgresSettings) -> str:
    """PostgreSQL's ``restore_command`` of a recovered cluster: through the sidecar, so it needs no secret."""
    return f'pgbackrest --config={settings.host_config} --stanza={settings.stanza} archive-get %f "%p"'


def _repository(repository: Repository, version: Version) -> dict[str, Value]:
    if version < OLDEST:
        raise ConfigurationError(f"pgBackRest {version} is too old", mend=f"install {OLDEST} or newer")
    options: dict[str, Value] = {
        "repo1-type": "s3",
        "repo1-path": REPOSITORY_PATH,
        "repo1-s3-bucket": repository.bucket,
        "repo1-s3-region": repository.region,
        "repo1-s3-endpoint": repository.host or f"s3.{repository.region}.amazonaws.com",
        "repo1-s3-kms-key-id": repository.kms_key,
        "repo1-s3-key-type": "web-id" if repository.web_identity else "shared",
        "repo1-cipher-type": CIPHER,
        "repo1-bundle": True,
    }
    if repository.host:
        options |= {
            "repo1-s3-uri-style": "path",
            "repo1-storage-host": repository.host,
            "repo1-storage-port": repository.port,
        }
    if repository.ca_file:
        options["repo1-storage-ca-file"] = repository.ca_file
    if version >= BLOCK_INCREMENTAL:
        options["repo1-block"] = True
    return options


def _workspace(workspace: Workspace, *, log_level_file: str) -> dict[str, Value]:
    return {
        "log-path": workspace.log,
        "log-level-file": log_level_file,
        "lock-path": workspace.lock,
        "spool-path": workspace.spool,
    }


def _tls(prefix: str, certificates: Certificates) -> dict[str, Value]:
    return {
        f"{prefix}-ca-file": certificates.ca,
        f"{prefix}-cert-file": certificates.certificate,
        f"{prefix}-key-file": certificates.key,
    }


def _local_database(settings: PostgresSettings) -> dict[str, Value]:
    return {
        "pg1-path": settings.data_path,
        "pg1-port": settings.port,
        "pg1-socket-path": settings.socket_path,
        "pg1-user": DATABASE_USER,
    }
