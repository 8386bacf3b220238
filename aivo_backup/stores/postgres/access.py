"""How this process reaches the repository: where it is, and the secrets, which are fetched for each run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aivo_backup.policy.pgbackrest import Certificates, Repository


@dataclass(frozen=True, kw_only=True, repr=False)
class Credentials:
    """AWS credentials; ``token`` is empty for long-lived ones."""

    key: str
    secret: str
    token: str = ""


@dataclass(frozen=True, kw_only=True)
class RepositoryAccess:
    """The repository and the way in.

    Attributes:
        endpoint_url: of an S3 endpoint that is not AWS's own; empty for AWS's.
        ca_file: certificate authorities (PEM) for it; empty for the system's.
        credentials: answers current credentials. None: pgBackRest exchanges the pod's web identity token itself,
            which only AWS's own STS can do.
        cipher_pass: answers the repository's cipher pass (see :mod:`.envelope`).
        behind_sidecar: the database's sidecar serves this repository. Not the second region's copy: a database that
            is restored from it has to fetch its WAL otherwise.
    """

    bucket: str
    region: str
    kms_key: str
    endpoint_url: str = ""
    ca_file: str = ""
    credentials: Callable[[], Credentials] | None = None
    cipher_pass: Callable[[], str]
    behind_sidecar: bool = True

    def repository(self) -> Repository:
        """The part of it that a configuration may hold."""
        url = urlsplit(self.endpoint_url)
        return Repository(
            bucket=self.bucket,
            region=self.region,
            kms_key=self.kms_key,
            host=url.hostname or "",
            port=url.port or 443,
            ca_file=self.ca_file,
            web_identity=self.credentials is None,
        )

    def secrets(self) -> Mapping[str, str]:
        """The environment variables that hand the secrets to pgBackRest."""
        variables = {"PGBACKREST_REPO1_CIPHER_PASS": self.cipher_pass()}
        if self.credentials is not None:
            current = self.credentials()
            variables["PGBACKREST_REPO1_S3_KEY"] = current.key
            variables["PGBACKREST_REPO1_S3_KEY_SECRET"] = current.secret
            if current.token:
                variables["PGBACKREST_REPO1_S3_TOKEN"] = current.token
        return variables


def certificates_in(folder: Path) -> Certificates:
    """A mounted secret with the usual three keys."""
    return Certificates(ca=str(folder / "ca.crt"), certificate=str(folder / "tls.crt"), key=str(folder / "tls.key"))
