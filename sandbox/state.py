"""What every part of the sandbox knows about it: folders, ports, credentials, processes, and AWS as administrator.

``.sandbox/`` in the checkout::

    state.json            ports and what the last `up` saw; no secret
    endpoints.json        for AIVO_BACKUP_ENDPOINTS: where things answer
    secrets/              for AIVO_BACKUP_SECRETS: the mounted secrets of pods, mode 0600 (see SECRETS below)
    certificates/         ca.pem, the authority's key, the servers' certificate
    aws/                  config and credentials of the administrator, for any AWS tool
    run/*.json            one file per running process, also of processes that other code registers
    logs/*.log            one log per server
    postgres/ minio/ opensearch/ proxy/    data and configuration of the servers

SECRETS: ``postgres/{username,password}``, ``minio-source/{access-key,secret-key}``, ``opensearch/{username,password}``,
``pgbackrest-client/``, ``pgbackrest-server/`` and ``pgbackrest-host/`` with ``{tls.crt,tls.key,ca.crt}``, and of the
sandbox alone ``aws-admin/{access-key-id,secret-access-key}`` and ``aws-control/token``.
"""

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aivo_backup.errors import ConfigurationError
from sandbox.aws_api.control import AwsControl
from sandbox.aws_api.web_identity import make_token
from sandbox.processes import Registry

if TYPE_CHECKING:
    import boto3

REGION = "us-east-1"
ACCOUNT = "123456789012"
SIDECAR = "pgbackrest"
"""The name under which the code that starts the pgBackRest sidecar registers it in :attr:`Sandbox.processes`."""
CHECKOUT = Path(__file__).resolve().parent.parent
HOME_VARIABLE = "AIVO_BACKUP_SANDBOX"
_UP_FIRST = "run `aivo-backup sandbox up`"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """TCP ports on loopback.

    Attributes:
        agent: reserved for the agent's metrics.
        pgbackrest: reserved for the pgBackRest sidecar, which other code starts.
        opensearch: TLS and basic authentication; what clients use.
        opensearch_direct: OpenSearch itself, plain HTTP, for the proxy.
        opensearch_transport: OpenSearch's port between nodes, unused but always opened.
    """

    aws: int
    postgres: int
    pgbackrest: int
    minio: int
    opensearch: int
    opensearch_direct: int
    opensearch_transport: int
    agent: int = 0


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Programs that `make setup` found or installed, as it wrote them to ``.tools/tools.json``.

    Attributes:
        postgres_bin: folder of initdb, postgres and pg_ctl.
        java_home: a Java runtime of at least version 21.
        opensearch_home: the unpacked distribution.
    """

    postgres_bin: Path
    minio: Path
    java_home: Path
    opensearch_home: Path
    nginx: Path
    pgbackrest: Path
    bwrap: Path

    @classmethod
    def load(cls, checkout: Path) -> Self:
        """Reads what the set-up wrote.

        Raises:
            ConfigurationError: the set-up has not run, or is not complete.
        """
        file = checkout / ".tools" / "tools.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{field.name: Path(content[field.name]) for field in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{file} is missing or incomplete", mend="run `make setup`") from error


class Sandbox:
    """The sandbox of one checkout. Cheap to make; reads files when asked.

    Its folder is ``.sandbox`` in the checkout, or what the environment variable AIVO_BACKUP_SANDBOX names: so the
    tests have one of their own, and leave the user's alone.
    """

    def __init__(self, checkout: Path = CHECKOUT, *, home: Path | None = None) -> None:
        elsewhere = os.environ.get(HOME_VARIABLE)
        self.checkout = checkout
        self.home = home or (Path(elsewhere).absolute() if elsewhere else checkout / ".sandbox")
        self.secrets = self.home / "secrets"
        self.certificates = self.home / "certificates"
        self.logs = self.home / "logs"
        self.endpoints_file = self.home / "endpoints.json"
        self.ca_file = self.certificates / "ca.pem"
        self.processes = Registry(self.home / "run")
        self._state_file = self.home / "state.json"

    @classmethod
    def load(cls, checkout: Path = CHECKOUT) -> Self:
        """The sandbox that `sandbox up` has made.

        Raises:
            ConfigurationError: it was never brought up.
        """
        sandbox = cls(checkout)
        _ = sandbox.ports
        return sandbox

    @cached_property
    def tools(self) -> Tools:
        """What the set-up provides. Raises ConfigurationError when it has not run."""
        return Tools.load(self.checkout)

    @cached_property
    def ports(self) -> Ports:
        """The ports of this sandbox, the same at every `up` while they stay free.

        Raises:
            ConfigurationError: the sandbox was never brought up.
        """
        try:
            return Ports(**self.remembered()["ports"])
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"there is no sandbox in {self.home}", mend=_UP_FIRST) from error

    @property
    def cluster_address(self) -> str:
        """The loopback address at which this sandbox's database answers on its own port while it is in a cluster.

        pgBackRest hands the database's port through to the sidecar, so it must be the same on both sides.
        """
        digest = hashlib.sha256(str(self.home).encode()).digest()
        return f"127.88.{digest[0]}.{digest[1] % 254 + 1}"

    @property
    def aws_url(self) -> str:
        """Base URL of the AWS API."""
        return f"https://localhost:{self.ports.aws}"

    @property
    def minio_url(self) -> str:
        """URL of MinIO."""
        return f"https://localhost:{self.ports.minio}"

    @property
    def opensearch_url(self) -> str:
        """URL of OpenSearch behind its proxy (TLS and basic authentication)."""
        return f"https://localhost:{self.ports.opensearch}"

    @property
    def postgres_home(self) -> Path:
        """Folder with PostgreSQL's volume (``volume/pgdata``), sockets (``run``) and configuration (``etc``)."""
        return self.home / "postgres"

    def secret(self, name: str, key: str) -> str:
        """One value of the mounted-secrets folder.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            return (self.secrets / name / key).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"the secret {name}/{key} is missing in {self.secrets}", mend=_UP_FIRST) from error

    @property
    def aws_files(self) -> Mapping[str, str]:
        """Environment variables that make any AWS tool the sandbox's administrator."""
        return {
            "AWS_CONFIG_FILE": str(self.home / "aws" / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.home / "aws" / "credentials"),
        }

    def aws(self, region: str = REGION) -> "boto3.Session":
        """A session of the administrator, who may do everything, also with IAM enforced."""
        # Everything asks for the state of the sandbox, and few for AWS's client: its import takes half a second.
        import boto3
        import botocore.session

        core = botocore.session.Session()
        # The endpoint and the addressing come from the file, so that the process's environment stays as it is. The
        # certificate authority is set here: a variable in that environment would go before the file.
        core.set_config_variable("config_file", self.aws_files["AWS_CONFIG_FILE"])
        core.set_config_variable("profile", "default")
        core.set_config_variable("ca_bundle", str(self.ca_file))
        core.set_credentials(self.secret("aws-admin", "access-key-id"), self.secret("aws-admin", "secret-access-key"))
        return boto3.Session(botocore_session=core, region_name=region)

    @property
    def aws_control(self) -> AwsControl:
        """What the AWS API can do beyond AWS: byte flips, replication, lifecycle, IAM enforcement."""
        return AwsControl(url=self.aws_url, token=self.secret("aws-control", "token"), ca_file=self.ca_file)

    def web_identity_token(self, *, issuer: str, subject: str, now: datetime, life: timedelta) -> str:
        """A service account's token, as a cluster projects it into a pod; the AWS API accepts no others.

        Args:
            issuer: the cluster's OIDC provider without ``https://``, as the roles' trust policies name it.
            subject: ``system:serviceaccount:<namespace>:<name>``.
            now: timezone-aware UTC.
        """
        return make_token(
            issuer=issuer, subject=subject, secret=self.secret("aws-control", "token"), now=now, life=life
        )

    def remembered(self) -> dict[str, Any]:
        """What earlier commands noted in ``state.json``; empty when there is none."""
        try:
            return dict(json.loads(self._state_file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def remember(self, **notes: object) -> None:
        """Adds notes (JSON values, no secrets) to ``state.json``; others stay. Takes effect whole or not at all."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._state_file.with_suffix(".tmp")
        unfinished.write_text(json.dumps({**self.remembered(), **notes}, indent=2), encoding="utf-8")
        unfinished.replace(self._state_file)

    def choose_ports(self, *, keep: frozenset[str], renew: frozenset[str] = frozenset()) -> Ports:
        """Settles the ports: known ones stay if they are free or in ``keep`` (their server runs), others are new, and
        so are those in ``renew``."""
        before: dict[str, int] = self.remembered().get("ports", {})
        chosen: dict[str, int] = {}
        taken: list[socket.socket] = []  # held until all are chosen, so that none is given out twice
        for field in fields(Ports):
            port = before.get(field.name, 0)
            if port and field.name in keep:
                chosen[field.name] = port
                continue
            holder = (None if field.name in renew else _bind(port)) or _bind(0)
            if holder is None:
                raise ConfigurationError("no TCP port on 127.0.0.1 is free", mend="end programs that hold them")
            taken.append(holder)
            chosen[field.name] = int(holder.getsockname()[1])
        for holder in taken:
            holder.close()
        self.__dict__.pop("ports", None)
        ports = Ports(**chosen)
        self.remember(ports=asdict(ports))
        return ports


def _bind(port: int) -> socket.socket | None:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closing connection is no obstacle
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        return None
    return holder
