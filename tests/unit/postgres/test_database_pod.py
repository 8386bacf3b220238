"""What is added to a StatefulSet that is there already, and what is left alone."""

from typing import Any

import pytest

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy import database_pod
from aivo_backup.policy.environment import (
    DatabasePod,
    Environment,
    EvidenceSettings,
    LockMode,
    MinioSettings,
    OpenSearchSettings,
    PostgresSettings,
)
from aivo_backup.stores.postgres import pgbackrest


def _environment(pod: DatabasePod) -> Environment:
    return Environment(
        name="staging",
        region="us-east-1",
        account_id="123456789012",
        buckets={},
        keys={},
        evidence=EvidenceSettings(bucket="b", lock_mode=LockMode.GOVERNANCE, lock_days=1),
        postgres=PostgresSettings(host="h", sidecar_host="s", pod=pod),
        minio=MinioSettings(endpoint="https://m"),
        opensearch=OpenSearchSettings(endpoint="https://o"),
        backups=(),
    )


def _spec(**pod: Any) -> dict[str, Any]:
    document = database_pod.patch(_environment(DatabasePod(image="ours@sha256:1", **pod)), "{}")[-1]
    assert (document["kind"], document["metadata"]["name"]) == ("StatefulSet", "postgresql")
    return document["spec"]["template"]["spec"]


def test_the_databases_own_container_gets_mounts_and_nothing_else() -> None:
    (container,) = _spec()["containers"]
    assert set(container) == {"name", "volumeMounts"}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/usr/local/bin/pgbackrest", "/etc/pgbackrest/host.conf", "/var/run/postgresql"} <= mounted
    assert not any("pgbackrest-server" in mount["name"] for mount in container["volumeMounts"])


def test_the_sidecar_outlives_postgresql_and_keeps_the_restricted_level() -> None:
    program, sidecar = _spec(user_id=26, group_id=27)["initContainers"]
    assert "restartPolicy" not in program
    assert sidecar["restartPolicy"] == "Always"
    for container in (program, sidecar):
        security = container["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"], security["runAsNonRoot"]) == (26, 27, True)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not security["allowPrivilegeEscalation"]
        assert security["readOnlyRootFilesystem"]


@pytest.mark.parametrize(("has_fs_group", "security"), [(True, None), (False, {"supplementalGroups": [0]})])
def test_no_fs_group_is_set_which_would_open_the_data_directory(has_fs_group: bool, security: object) -> None:
    assert _spec(has_fs_group=has_fs_group).get("securityContext") == security


def test_every_mount_has_its_volume() -> None:
    spec = _spec(data_volume="pgdata")
    volumes = {volume["name"] for volume in spec["volumes"]} | {"pgdata"}
    containers = (*spec["containers"], *spec["initContainers"])
    assert {mount["name"] for container in containers for mount in container["volumeMounts"]} <= volumes


def test_statements_quote_what_they_set() -> None:
    settings = PostgresSettings(host="h", sidecar_host="s", host_config="/etc/o'brien/host.conf")
    command = next(it for it in database_pod.statements(settings) if "archive_command" in it)
    assert "'pgbackrest --config=/etc/o''brien/host.conf --stanza=aivo-postgres archive-push %p';" in command


def test_another_pgbackrest_than_the_reviewed_one_is_not_worked_with() -> None:
    installed = pgbackrest.installed_version()
    assert pgbackrest.installed_version(str(installed)) == installed
    with pytest.raises(ConfigurationError, match=f"this is pgBackRest {installed}, and the settings say 9.1"):
        pgbackrest.installed_version("9.1")
