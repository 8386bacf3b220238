"""The generated pgBackRest configurations: known to pgBackRest, no secret in them, nothing where it does not belong."""

from dataclasses import replace
from pathlib import Path

import pytest

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.pgbackrest import (
    Certificates,
    Configuration,
    Repository,
    Version,
    Workspace,
    archive_command,
    client_configuration,
    host_configuration,
    restore_command,
    restore_configuration,
    sidecar_configuration,
)
from aivo_backup.stores.process import run

SETTINGS = PostgresSettings(host="postgres.aivo", sidecar_host="postgres.aivo", process_max=3, full_backups_kept=7)
AWS = Repository(bucket="aivo-backup-postgres", region="eu-central-1", kms_key="arn:aws:kms:eu-central-1:1:key/k")
ELSEWHERE = replace(AWS, host="localhost", port=9443, ca_file="/ca.pem", web_identity=False)
CERTIFICATES = Certificates(ca="/c/ca.crt", certificate="/c/tls.crt", key="/c/tls.key")
WORKSPACE = Workspace.under("/state")
V2_45 = Version(2, 45)


def every(repository: Repository = AWS, version: Version = V2_45) -> dict[str, Configuration]:
    return {
        "host": host_configuration(SETTINGS, CERTIFICATES),
        "sidecar": sidecar_configuration(SETTINGS, repository, CERTIFICATES, WORKSPACE, version=version),
        "client": client_configuration(SETTINGS, repository, CERTIFICATES, WORKSPACE, version=version),
        "restore": restore_configuration(SETTINGS, repository, WORKSPACE, data_path="/restored", version=version),
    }


def complaints(configuration: Configuration, file: Path) -> str:
    file.write_text(configuration.text())
    said = run(["pgbackrest", f"--config={file}", f"--stanza={configuration.stanza}", "help", "backup"])
    return "\n".join(
        line for line in (said.stdout + said.stderr).splitlines() if line.startswith(("WARN", "ERROR", "ASSERT"))
    )


@pytest.mark.parametrize("place", ["host", "sidecar", "client", "restore"])
@pytest.mark.parametrize("repository", [AWS, ELSEWHERE])
def test_pgbackrest_itself_knows_every_option(tmp_path: Path, place: str, repository: Repository) -> None:
    assert complaints(every(repository)[place], tmp_path / "pgbackrest.conf") == ""


def test_pgbackrest_would_say_if_it_did_not(tmp_path: Path) -> None:
    configuration = Configuration(stanza="s", global_options={"repo1-bundel": True})
    assert "invalid option 'repo1-bundel'" in complaints(configuration, tmp_path / "pgbackrest.conf")


def test_the_database_container_learns_nothing_of_the_repository() -> None:
    host = every()["host"]
    names = {*host.global_options, *host.stanza_options}
    assert not {name for name in names if "s3" in name or "cipher" in name or "kms" in name or "storage" in name}
    assert host.global_options["repo1-host-type"] == "tls"
    assert host.global_options["archive-async"] is False
    # It may have no folder that it could write.
    assert host.global_options["log-level-file"] == "off"
    assert not {"log-path", "spool-path"} & names


def test_only_the_client_reaches_the_database_over_the_network() -> None:
    made = every()
    assert made["client"].stanza_options["pg1-host"] == "postgres.aivo"
    assert made["client"].stanza_options["pg1-host-type"] == "tls"
    for place in ("host", "sidecar", "restore"):
        assert "pg1-host" not in made[place].stanza_options
    assert made["restore"].stanza_options == {"pg1-path": "/restored"}


def test_the_sidecar_knows_its_two_clients_for_one_stanza() -> None:
    sidecar = every()["sidecar"].global_options
    assert sidecar["tls-server-auth"] == ("backup-client=aivo-postgres", "pg-host=aivo-postgres")
    text = every()["sidecar"].text()
    assert "tls-server-auth=backup-client=aivo-postgres\ntls-server-auth=pg-host=aivo-postgres\n" in text


def test_a_backup_never_expires_anything() -> None:
    client = every()["client"].global_options
    assert client["expire-auto"] is False
    assert client["repo1-retention-full"] == 7
    assert client["repo1-retention-full-type"] == "count"
    # It would cut into the recovery window, which a count of fulls knows nothing of.
    assert not {name for name in client if "retention-archive" in name}


def test_files_are_bundled_compressed_and_encrypted() -> None:
    made = every()
    for place in ("sidecar", "client", "restore"):
        options = made[place].global_options
        assert options["repo1-cipher-type"] == "aes-256-cbc"
        assert options["repo1-bundle"] is True
        assert options["repo1-path"] == "/"
        assert options["repo1-s3-kms-key-id"] == AWS.kms_key
        assert options["process-max"] == 3
    for place in ("host", "sidecar", "client"):
        assert made[place].global_options["compress-type"] == "zst"


def test_aws_itself_is_reached_by_web_identity() -> None:
    options = every(AWS)["sidecar"].global_options
    assert options["repo1-s3-key-type"] == "web-id"
    assert options["repo1-s3-endpoint"] == "s3.eu-central-1.amazonaws.com"
    assert not {"repo1-storage-host", "repo1-s3-uri-style", "repo1-storage-ca-file"} & set(options)


def test_another_endpoint_is_reached_with_credentials_path_style() -> None:
    options = every(ELSEWHERE)["sidecar"].global_options
    assert options["repo1-s3-key-type"] == "shared"
    assert options["repo1-s3-uri-style"] == "path"
    assert (options["repo1-storage-host"], options["repo1-storage-port"]) == ("localhost", 9443)
    assert options["repo1-storage-ca-file"] == "/ca.pem"


@pytest.mark.parametrize(("version", "block"), [("2.45", False), ("pgBackRest 2.46", True), ("2.59.1", True)])
def test_block_incremental_comes_with_the_version_that_has_it(version: str, block: bool) -> None:
    options = every(version=Version.parse(version))["client"].global_options
    assert options.get("repo1-block", False) is block


def test_a_version_without_bundles_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"2\.38 is too old: install 2\.39"):
        every(version=Version.parse("2.38"))
    with pytest.raises(ConfigurationError, match="no pgBackRest version"):
        Version.parse("command not found")


@pytest.mark.parametrize("name", ["repo1-cipher-pass", "repo1-s3-key", "repo1-s3-key-secret", "repo1-s3-token"])
def test_a_secret_is_refused_as_an_option(name: str) -> None:
    with pytest.raises(ConfigurationError, match="hand it over in the environment"):
        Configuration(stanza="s", global_options={name: "x"})


@pytest.mark.parametrize("value", ["", " x", "x\nrepo1-type=posix"])
def test_a_value_cannot_break_out_of_its_line(value: str) -> None:
    with pytest.raises(ConfigurationError, match="pg1-path"):
        Configuration(stanza="s", global_options={}, stanza_options={"pg1-path": value})
    with pytest.raises(ConfigurationError, match="not a stanza name"):
        Configuration(stanza=f"s]{value}", global_options={})


def test_the_commands_that_postgres_runs() -> None:
    assert archive_command(SETTINGS) == (
        "pgbackrest --config=/etc/pgbackrest/host.conf --stanza=aivo-postgres archive-push %p"
    )
    assert restore_command(SETTINGS).endswith('archive-get %f "%p"')
