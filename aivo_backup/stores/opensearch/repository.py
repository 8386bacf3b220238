"""The snapshot repository: its settings, registering and mending it, and reading it afresh."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError
from aivo_backup.policy.environment import OpenSearchSettings, RepositoryType
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster

_KMS_SINCE = (3, 1)
_RECOVERY_RATE = "indices.recovery.max_bytes_per_sec"


def repository_body(
    settings: OpenSearchSettings, *, bucket: str, region: str, kms_key: str, account_id: str, readonly: bool
) -> dict[str, Any]:
    """What ``PUT _snapshot/<name>`` is sent. Values are text, as OpenSearch gives them back.

    Args:
        settings: type, place and rates.
        bucket: the backup bucket; like region, key and account only for :attr:`RepositoryType.S3`.
        region: of the bucket.
        kms_key: ARN of the customer-managed key.
        account_id: owner of the bucket; the plugin then refuses a bucket that somebody else has taken.
        readonly: for clusters that only restore.

    Raises:
        ConfigurationError: a ``fs`` repository has no location, or an ``s3`` one no bucket or key.
    """
    rate = f"{settings.bytes_per_second}b"
    values = {
        "max_snapshot_bytes_per_sec": rate,
        "max_restore_bytes_per_sec": rate,
        # The default of recent versions spreads data under random prefixes beside the base path, where neither the
        # runbook's listing nor a policy for that path would find it.
        "shard_path_type": "FIXED",
    }
    if readonly:
        values["readonly"] = "true"
    if settings.repository_type is RepositoryType.FS:
        if not settings.fs_location:
            raise ConfigurationError("opensearch.fs_location is empty", mend="name the folder that path.repo allows")
        return {"type": "fs", "settings": {**values, "location": settings.fs_location}}
    for name, value in (("bucket", bucket), ("KMS key", kms_key), ("region", region)):
        if not value:
            raise ConfigurationError(f"the OpenSearch repository has no {name}", mend="provision the environment again")
    return {
        "type": "s3",
        "settings": {
            **values,
            "bucket": bucket,
            "base_path": settings.base_path.strip("/"),
            "region": region,
            "server_side_encryption_type": "aws:kms",
            "server_side_encryption_kms_key_id": kms_key,
            "server_side_encryption_bucket_key_enabled": "true",
            **({"expected_bucket_owner": account_id} if account_id else {}),
        },
    }


class Repository:
    """One repository as one cluster sees it."""

    def __init__(self, cluster: Cluster, name: str, body: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.name = name
        self._body = body

    def register(self) -> bool:
        """Registers the repository, or mends it where its settings differ; sets the recovery rate; verifies.

        Returns:
            True when something had to be changed.

        Raises:
            RefusedError: the cluster is older than 3.1 and would drop the KMS key id in silence.
            ConfigurationError: the cluster cannot use the repository: plugin, path, bucket or permission.
        """
        self._refuse_without_kms()
        changed = self._set_recovery_rate()
        if self._registered() != self._body:
            try:
                self.cluster.put(
                    "_snapshot",
                    self.name,
                    what=f"registering the repository {self.name}",
                    body=self._body,
                    params={"verify": "false"},
                )
            except ClusterError as error:
                raise ConfigurationError(
                    f"OpenSearch cannot register the repository {self.name} ({error.reason})",
                    mend="fs needs path.repo, s3 the plugin repository-s3 on every node",
                ) from error
            changed = True
        self.verify()
        return changed

    def verify(self) -> None:
        """Has every node write to the repository (or read it, when it is read-only).

        Raises:
            ConfigurationError: a node cannot.
        """
        try:
            self.cluster.post("_snapshot", self.name, "_verify", what=f"verifying the repository {self.name}")
        except ClusterError as error:
            if error.status == 404:
                raise self.unknown(error) from error
            raise ConfigurationError(
                f"the nodes cannot use the repository {self.name} ({error.reason})",
                mend="check bucket, key and role of the nodes, or the folder's owner",
            ) from error

    def differences(self) -> list[str]:
        """Which settings of the registration are not ours, by name; empty when it is as it should be.

        Raises:
            ConfigurationError: it is not registered.
        """
        registered = self._registered()
        if registered is None:
            raise ConfigurationError(
                f"the snapshot repository {self.name} is not registered", mend="run: aivo-backup init opensearch"
            )
        held, ours = ({"type": body["type"], **body["settings"]} for body in (registered, self._body))
        return [
            f"{name} is {held.get(name)!r} and should be {ours.get(name)!r}"
            for name in sorted(held.keys() | ours.keys())
            if held.get(name) != ours.get(name)
        ]

    @contextmanager
    def afresh(self, alias: str) -> Generator["Repository"]:
        """The same repository under another name, read-only, for the length of the block.

        OpenSearch keeps a repository's table of contents in memory; a new registration has to read it from where it
        is stored, so that damage there is seen. Removing the registration removes no file.
        """
        readonly = {**self._body, "settings": {**self._body["settings"], "readonly": "true"}}
        other = Repository(self.cluster, alias, readonly)
        self.cluster.put(
            "_snapshot", alias, what=f"registering {alias} to read", body=readonly, params={"verify": "false"}
        )
        try:
            yield other
        finally:
            # What went wrong inside matters more; a registration left behind is replaced by the next test.
            with suppress(BackupError):
                self.cluster.delete("_snapshot", alias, what=f"removing the registration {alias}")

    def unknown(self, error: ClusterError) -> ConfigurationError:
        """What to say when the cluster does not know the repository."""
        return ConfigurationError(
            f"the snapshot repository {self.name} is not registered ({error.reason})",
            mend="run: aivo-backup init opensearch",
        )

    def _registered(self) -> Mapping[str, Any] | None:
        try:
            answer = self.cluster.get("_snapshot", self.name, what=f"reading the repository {self.name}")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise
        entry = answer.get(self.name, {})
        return {"type": entry.get("type"), "settings": entry.get("settings")}

    def _refuse_without_kms(self) -> None:
        if self._body["type"] != "s3":
            return
        version = self.cluster.version()
        if version < _KMS_SINCE:
            raise RefusedError(
                f"OpenSearch {version[0]}.{version[1]} cannot encrypt snapshots under a KMS key of ours (3.1 can)",
                mend="upgrade the cluster",
            )

    def _set_recovery_rate(self) -> bool:
        rate = self._body["settings"]["max_restore_bytes_per_sec"]
        what = "setting the recovery rate"
        current = self.cluster.get("_cluster", "settings", what=what, params={"flat_settings": "true"})
        if current["persistent"].get(_RECOVERY_RATE) == rate:
            return False
        self.cluster.put("_cluster", "settings", what=what, body={"persistent": {_RECOVERY_RATE: rate}})
        return True
