"""The composition root that the CLI, the Lambda handlers and the sandbox share: settings in, working parts out.

Nothing below this module reads the environment or builds a client. Each engine is imported with its client library when
it is first asked for: a restore of one store does not wait for the libraries of the others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from aivo_backup.catalog.catalog import Catalog, CatalogCopy
from aivo_backup.catalog.lease import Lease
from aivo_backup.catalog.spool import Spool
from aivo_backup.errors import ConfigurationError
from aivo_backup.policy import names
from aivo_backup.policy.codec import from_json
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.secrets import ManagedSecrets, MountedSecrets, Secrets
from aivo_backup.stores.aws import assumed, in_region, s3_client, session, translated
from aivo_backup.stores.port import Clock, Expirable, Store

if TYPE_CHECKING:
    from opensearchpy import OpenSearch
    from types_boto3_s3.client import S3Client

    from aivo_backup.stores.eks import ClusterApi
    from aivo_backup.stores.minio.lean import LeanS3ObjectStore
    from aivo_backup.stores.minio.store import MinioStore
    from aivo_backup.stores.opensearch.cluster import Cluster
    from aivo_backup.stores.opensearch.store import OpenSearchStore
    from aivo_backup.stores.postgres.access import RepositoryAccess
    from aivo_backup.stores.postgres.archive import Login
    from aivo_backup.stores.postgres.envelope import RegionKey
    from aivo_backup.stores.postgres.store import PostgresStore

SETTINGS = names.SETTINGS_VARIABLE
"""Where the settings are: a file, or ``ssm:<parameter>``."""
ENDPOINTS = "AIVO_BACKUP_ENDPOINTS"
"""A file that overrides where things answer; unset in a real environment."""
SECRETS = names.SECRETS_VARIABLE
"""The folder of mounted secrets; without it, logins come from Secrets Manager."""
STATE = names.STATE_VARIABLE
"""A folder that outlives the run, for records that could not be delivered."""

_SSM = "ssm:"


def utc_now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class App:
    """The parts of one environment, each built when it is first asked for.

    Attributes:
        published: the settings as the cluster has them; ``environment``: with the endpoints that hold here.
        home: of an app that reads the second region's copies: the app of the environment itself.
    """

    environment: Environment
    published: Environment
    endpoints: Endpoints
    aws: boto3.Session
    secrets: Secrets
    secrets_folder: Path
    state: Path
    web_identity: bool = False
    clock: Clock = utc_now
    home: "App | None" = None

    @cached_property
    def for_restores(self) -> "App":
        """The same environment under the role that may read every backup and write only records."""
        return replace(self, aws=assumed(self.aws, self.environment.restore_role, "aivo-backup-restore"))

    @cached_property
    def from_replica(self) -> "App":
        """The same environment, read from the second region's buckets with that region's keys alone.

        Its engines restore and list as ever and cannot back up: nothing but replication writes the copies. Its catalog
        reads the copy, and files records at home when home answers.

        Raises:
            ConfigurationError: the environment has no second region.
        """
        there = self.environment.in_second_region()
        return replace(self, environment=there, aws=in_region(self.aws, there.region), home=self)

    @cached_property
    def s3(self) -> "S3Client":
        """The client of the backup buckets."""
        return s3_client(self.aws)

    @cached_property
    def catalog(self) -> Catalog:
        """The records of this environment."""
        writer = self.home or self
        return Catalog(
            s3=writer.s3,
            evidence=writer.environment.evidence,
            kms_key=writer.environment.key("compliance"),
            spool=Spool(self.state / "spool"),
            copy=CatalogCopy(s3=self.s3, bucket=self.environment.evidence.bucket) if self.home else None,
        )

    def cluster_jobs(self) -> "ClusterApi":
        """The cluster that takes restore tests which outgrow a function.

        Raises:
            ConfigurationError: none is named, or there is no such cluster.
            AccessDeniedError, UnreachableError: AWS refuses, or does not answer.
        """
        from aivo_backup.stores.eks import connect as connect_cluster

        name = self.environment.verification.cluster
        if not name:
            raise ConfigurationError(
                "no cluster is named for restore tests that outgrow a function", mend="set cluster.name in the stack"
            )
        return connect_cluster(self.aws, name)

    def lease(self, component: Component, *, purpose: str = "") -> Lease:
        """The lease that keeps runs of one purpose apart, backups by default; it is at home, wherever is read from."""
        home = self.home or self
        bucket, key = home.environment.bucket(component), home.environment.key(component)
        return Lease(s3=home.s3, bucket=bucket, component=component, kms_key=key, clock=self.clock, purpose=purpose)

    def store(self, component: Component) -> Store:
        """The engine of a component.

        Raises:
            ConfigurationError: a setting or a login is missing.
        """
        match component:
            case Component.POSTGRES:
                return self.postgres
            case Component.MINIO:
                return self.minio
            case Component.OPENSEARCH:
                return self.opensearch

    def expirable(self, component: Component) -> Expirable:
        """The engine of a component, for whoever expires its points.

        Raises:
            ConfigurationError: a setting or a login is missing.
        """
        match component:
            case Component.POSTGRES:
                return self.postgres
            case Component.MINIO:
                return self._minio(None)
            case Component.OPENSEARCH:
                return self._opensearch_store(names.SECRET_OPENSEARCH_EXPIRER)

    @cached_property
    def repository_access(self) -> "RepositoryAccess":
        """The way into the pgBackRest repository. Session credentials and cipher pass are fetched for each run."""
        from aivo_backup.stores.postgres.access import Credentials, RepositoryAccess
        from aivo_backup.stores.postgres.envelope import open_pass

        environment = self.environment
        bucket = environment.bucket(Component.POSTGRES)

        def credentials() -> Credentials:
            found = self.aws.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
            if frozen is None or not frozen.access_key or not frozen.secret_key:
                raise ConfigurationError("no AWS credentials", mend="set AWS_PROFILE or a web identity")
            return Credentials(key=frozen.access_key, secret=frozen.secret_key, token=frozen.token or "")

        def cipher_pass() -> str:
            return open_pass(self.s3, bucket=bucket, region=environment.region, kms=self.aws.client("kms"))

        return RepositoryAccess(
            bucket=bucket,
            region=environment.region,
            kms_key=environment.key(Component.POSTGRES),
            endpoint_url=self.endpoints.aws,
            ca_file=self.endpoints.ca_file,
            # pgBackRest exchanges a web identity itself, but only where a pod has one and only at AWS's own STS.
            credentials=None if self.web_identity and not self.endpoints.aws else credentials,
            cipher_pass=cipher_pass,
            behind_sidecar=self.home is None,
        )

    @cached_property
    def postgres(self) -> "PostgresStore":
        """The PostgreSQL engine."""
        from aivo_backup.stores.postgres.store import PostgresStore

        return PostgresStore(
            settings=self.environment.postgres,
            access=self.repository_access,
            certificates=self.secrets_folder / names.SECRET_PGBACKREST_CLIENT,
            state=self.state,
            s3=self.s3,
        )

    @property
    def postgres_login(self) -> "Login":
        """The login of the live database, for heartbeats and facts.

        Raises:
            ConfigurationError: it is missing.
        """
        from aivo_backup.stores.postgres.archive import Login

        settings = self.environment.postgres
        return Login(
            host=settings.host,
            port=settings.port,
            database=settings.database,
            user=self.secrets.read(names.SECRET_POSTGRES, "username"),
            password=self.secrets.read(names.SECRET_POSTGRES, "password"),
            ca_file=self.endpoints.ca_file,
        )

    def region_keys(self) -> "dict[str, RegionKey]":
        """The KMS key of each region that must be able to open the repository; the home region's first."""
        from aivo_backup.stores.postgres.envelope import RegionKey

        here, there = self.environment, self.environment.replica
        keys = {here.region: RegionKey(kms=self.aws.client("kms"), key=here.key(Component.POSTGRES))}
        if there.region:
            kms = in_region(self.aws, there.region).client("kms")
            keys[there.region] = RegionKey(kms=kms, key=here.in_second_region().key(Component.POSTGRES))
        return keys

    @cached_property
    def minio(self) -> "MinioStore":
        """The MinIO engine. Without a login for the source it can list and test points, and no more."""
        return self._minio(self._minio_source_store() if self.secrets.has(names.SECRET_MINIO_SOURCE) else None)

    def _minio(self, source: "LeanS3ObjectStore | None") -> "MinioStore":
        from aivo_backup.stores.minio.lean import LeanS3ObjectStore
        from aivo_backup.stores.minio.store import MinioStore

        return MinioStore(
            settings=self.environment.minio,
            source=source,
            target=LeanS3ObjectStore(
                self.s3,
                session=self.aws,
                ca_file=self.endpoints.ca_file,
                encryption_key=self.environment.key(Component.MINIO),
            ),
            bucket=self.environment.bucket(Component.MINIO),
            clock=self.clock,
        )

    @cached_property
    def minio_source(self) -> "S3Client":
        """The client of the MinIO that is backed up.

        Raises:
            ConfigurationError: its login is missing.
        """
        return self._minio_source_store().client

    def object_store(self, endpoint: str, login: str) -> "LeanS3ObjectStore":
        """Another S3-compatible store, to restore to.

        Its ``login`` is a secret with ``access-key`` and ``secret-key``: mounted, or in Secrets Manager by its name.

        Raises:
            ConfigurationError: the endpoint is no URL, or the secret is missing.
        """
        managed = isinstance(self.secrets, ManagedSecrets)
        secrets = ManagedSecrets(self.aws.client("secretsmanager"), {login: login}) if managed else self.secrets
        return self._object_store(endpoint, secrets, login)

    def _minio_source_store(self) -> "LeanS3ObjectStore":
        return self._object_store(self.environment.minio.endpoint, self.secrets, names.SECRET_MINIO_SOURCE)

    def _object_store(self, endpoint: str, secrets: Secrets, login: str) -> "LeanS3ObjectStore":
        from aivo_backup.stores.minio.lean import connect

        key, secret = secrets.read(login, "access-key"), secrets.read(login, "secret-key")
        region = (self.home or self).environment.region
        return connect(endpoint, key=key, secret=secret, region=region, ca_file=self.endpoints.ca_file)

    @cached_property
    def opensearch(self) -> "OpenSearchStore":
        """The OpenSearch engine."""
        return self._opensearch_store(names.SECRET_OPENSEARCH)

    def _opensearch_store(self, secret: str) -> "OpenSearchStore":
        from aivo_backup.stores.opensearch.store import BackupPlace, OpenSearchStore

        environment, settings = self.environment, self.environment.opensearch
        return OpenSearchStore(
            client=self._opensearch(settings.endpoint, secret),
            settings=settings,
            place=BackupPlace(
                bucket=environment.bucket(Component.OPENSEARCH),
                region=environment.region,
                kms_key=environment.key(Component.OPENSEARCH),
                account_id=environment.account_id,
            ),
            verification_client=(
                self._opensearch(settings.verification_endpoint, secret) if settings.verification_endpoint else None
            ),
        )

    @cached_property
    def opensearch_cluster(self) -> "Cluster":
        """The production cluster itself, for heartbeats."""
        from aivo_backup.stores.opensearch.cluster import Cluster

        return Cluster(self._opensearch(self.environment.opensearch.endpoint))

    def _opensearch(self, url: str, secret: str = names.SECRET_OPENSEARCH) -> "OpenSearch":
        from aivo_backup.stores.opensearch.client import connect

        return connect(
            url,
            self.endpoints.ca_file,
            self.secrets.read(secret, "username"),
            self.secrets.read(secret, "password"),
        )


def open_environment(variables: Mapping[str, str], *, outside: bool = False) -> App:
    """Opens the environment that the variables lead to.

    Args:
        variables: the process's environment; see the constants of this module.
        outside: the caller runs outside the cluster and resolves no name of it.

    Raises:
        ConfigurationError: no settings are named, or they cannot be read.
        UnreachableError, AccessDeniedError: AWS does not answer, or refuses.
    """
    endpoints = _endpoints(variables.get(ENDPOINTS, ""))
    source = variables.get(SETTINGS, "")
    if not source:
        raise ConfigurationError("no settings are named", mend=f"set {SETTINGS}, or give --environment NAME")
    aws = session(variables, endpoint_url=endpoints.aws, ca_file=endpoints.ca_file)
    text = _parameter(aws, source.removeprefix(_SSM)) if source.startswith(_SSM) else _file(source, SETTINGS)
    declared = Environment.from_json(_parsed(text, source), where=source)
    environment = endpoints.apply(declared.from_outside() if outside else declared)
    folder = Path(variables.get(SECRETS, names.SECRETS_MOUNT))
    secrets: Secrets = MountedSecrets(folder)
    # A pod has a folder named even where it needs no secret; who has none named is outside the cluster.
    if SECRETS not in variables and not folder.is_dir():
        managed = {
            names.SECRET_MINIO_SOURCE: environment.minio.source_secret,
            names.SECRET_OPENSEARCH: environment.opensearch.login_secret,
        }
        secrets = ManagedSecrets(aws.client("secretsmanager"), managed)
    return App(
        environment=environment,
        published=declared,
        endpoints=endpoints,
        aws=aws,
        secrets=secrets,
        secrets_folder=folder,
        state=Path(variables.get(STATE, names.STATE_MOUNT)),
        web_identity="AWS_WEB_IDENTITY_TOKEN_FILE" in variables,
    )


def _endpoints(file: str) -> Endpoints:
    if not file:
        return Endpoints()
    return from_json(Endpoints, _parsed(_file(file, ENDPOINTS), file), where=file)


def _file(file: str, variable: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{variable}: {file}: {error.strerror}", mend="check the path") from error


def _parameter(aws: boto3.Session, name: str) -> str:
    with translated(f"SSM parameter {name}"):
        try:
            return aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"].get("Value", "")
        except aws.client("ssm").exceptions.ParameterNotFound as error:
            raise ConfigurationError(
                f"there is no SSM parameter {name}", mend="check --environment, or run `pulumi up` for that stack"
            ) from error


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", mend="provision the environment again") from error
