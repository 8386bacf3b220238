"""What a person meets when something is wrong: one line that names the thing and the mend, and the documented code.

The CLI runs as a program of its own, against real stores, with settings of its own buckets.
"""

import json

import pytest

from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, closed_port

POINT = "20200101_000000"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backup", "mysql"), "'mysql' is not a component: use one of postgres, minio, opensearch"),
        (("backup", "minio", "--type", "differential"), "'differential' is not one of 'full', 'incr'"),
        (("restore", "postgres", "--in-place", "--target-time", "yesterday"), "--target-time: 'yesterday' is no time"),
        (("restore", "postgres", "--in-place", "--target-time", "2026-01-01T00:00:00"), "has no time zone"),
        (("restore", "postgres", "--plan"), "say where to restore to: give either --in-place or --to"),
        (("restore", "postgres", "--to", "x", "--plan"), "--to needs --port"),
        (("restore", "postgres", "--to", "x", "--port", "9", "--delta"), "belong to --in-place"),
        (("restore", "postgres", "--to", "x", "--port", "9", "--rescue", "y"), "to staging nothing is lost"),
        (("restore", "postgres", "--table", "t", "--in-place"), "tables are restored into the live database"),
        (("restore", "postgres", "--table", "t", "--schema", "s"), "say what to extract"),
        (("restore", "postgres", "--table", "t", "--swap", "--merge"), "exclude each other"),
        (("restore", "postgres", "--in-place", "--swap"), "belong to --table or --schema"),
        (("restore", "postgres", "--in-place", "--service", "systemd"), "--service systemd needs --unit"),
        (("restore", "minio", "--bucket", "b", "--key", "k", "--prefix", "p"), "exclude each other"),
        (("restore", "minio", "--bucket", "b", "--point", POINT), POINT),
        (("restore", "minio", "--bucket", "b", "--point", POINT, "--at", "2026-01-01T00:00:00Z"), "exclude each other"),
        (("restore", "minio", "--bucket", "b", "--at", "yesterday"), "--at"),
        (("restore", "opensearch", "--at", "2026-01-01T00:00:00Z"), "no recovery point at or before"),
        (("restore", "minio", "--bucket", "b", "--to-endpoint", "https://x"), "belong together"),
        (("restore", "minio", "--bucket", "b", "--overwrite"), "--overwrite belongs to --import"),
        (("restore", "minio"), "say what to restore"),
        (("verify", "--point", POINT), "--point needs a COMPONENT"),
        (("verify", "minio", "--point", POINT), f"minio has no recovery point '{POINT}': newest: none yet"),
        (("verify", "opensearch"), "opensearch has no recovery point yet"),
        (("rewind",), "No such command 'rewind'"),
    ],
    ids=str,
)
def test_a_wrong_call_is_told_what_is_wrong(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    finished = cli.run(*arguments)
    assert finished.code == 2, finished
    assert said in finished.line


def test_the_point_is_looked_up_before_anything_is_changed(cli: Cli, sandbox: Sandbox) -> None:
    assert cli.run("verify", "minio", "--point", POINT).code == 2
    assert cli.records(sandbox) == []


def test_a_store_that_does_not_answer_is_named_and_the_failed_run_is_filed(cli: Cli, sandbox: Sandbox) -> None:
    port = closed_port()
    cli.edit("endpoints.json", minio=f"https://localhost:{port}", opensearch=f"https://localhost:{port}")
    for component in ("minio", "opensearch"):
        finished = cli.run("backup", component)
        assert finished.code == 4, finished
        assert str(port) in finished.line
    runs = [key for key in cli.records(sandbox) if key.startswith("records/backup-run/")]
    assert len(runs) == 2
    assert not [key for key in cli.records(sandbox) if key.startswith("records/recovery-point/")]


def test_wrong_credentials_are_told_from_a_store_that_is_away(cli: Cli) -> None:
    (cli.folder / "secrets" / "minio-source" / "secret-key").write_text("wrong")
    (cli.folder / "secrets" / "opensearch" / "password").write_text("wrong")
    for component, said in (("minio", "access denied"), ("opensearch", "refuses the login")):
        finished = cli.run("backup", component)
        assert finished.code == 4, finished
        assert said in finished.line


def test_aws_away_leaves_the_record_in_the_spool_and_the_next_run_delivers_it(cli: Cli, sandbox: Sandbox) -> None:
    aws = json.loads((cli.folder / "endpoints.json").read_text())["aws"]
    cli.edit("endpoints.json", aws=f"https://localhost:{closed_port()}")
    assert cli.run("backup", "minio").code == 4
    assert len(list((cli.folder / "state" / "spool").glob("*.json"))) == 1
    cli.edit("endpoints.json", aws=aws)
    assert cli.run("backup", "minio").code != 0  # there is no such bucket at the source; the record comes first
    late = [
        json.loads(
            sandbox.aws().client("s3").get_object(Bucket=f"compliance-{cli.folder.name}", Key=key)["Body"].read()
        )
        for key in cli.records(sandbox)
    ]
    assert sorted(record["late"] for record in late) == [False, True]
    assert list((cli.folder / "state" / "spool").glob("*.json")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"minio": {"endpoint": "https://minio", "colour": "red"}}, "settings.json.minio.colour is not a known key"),
        ({"region": 1}, "settings.json.region must be str, not 1"),
        ({"keys": {}}, "keys.minio is missing"),
    ],
    ids=["unknown key", "wrong type", "missing name"],
)
def test_wrong_settings_are_named_by_their_path(cli: Cli, change: dict[str, object], said: str) -> None:
    cli.edit("settings.json", **change)
    finished = cli.run("backup", "minio")
    assert finished.code == 3, finished
    assert said in finished.line


def test_a_missing_secret_is_named_and_never_its_value(cli: Cli) -> None:
    (cli.folder / "secrets" / "opensearch" / "password").unlink()
    finished = cli.run("backup", "opensearch")
    assert finished.code == 3
    assert "secret opensearch has no key password" in finished.line


def test_a_full_disk_is_named_when_not_even_the_spool_can_be_written(cli: Cli, sandbox: Sandbox) -> None:
    """AWS is away, and the state's file system is full."""
    state = cli.folder / "state"
    state.mkdir()
    mounted = (
        "unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
        'mount -t tmpfs -o size=64k tiny "$0" && head -c 65536 /dev/zero > "$0/full"; exec "$@"', str(state),
    )  # fmt: skip
    cli.edit("endpoints.json", aws=f"https://localhost:{closed_port()}")
    finished = cli.run("backup", "minio", "--type", "full", prefix=mounted)
    assert finished.code == 4, finished
    assert "No space left on device: free space or mount a writable volume there" in finished.err
    assert cli.records(sandbox) == []
