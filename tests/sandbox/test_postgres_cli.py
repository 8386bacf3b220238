"""`aivo-backup restore postgres` as it is called: plans, guards, rescue and import, one table or schema."""

import json
import shutil
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import BackupKind, UnprovenPoints
from aivo_backup.policy.names import SECRET_PGBACKREST_CLIENT, SECRET_POSTGRES
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, make_cli
from tests.sandbox.postgres_lab import Lab, new_lab


@pytest.fixture(scope="module")
def lab(sandbox: Sandbox) -> Generator[Lab]:
    server = sandbox.certificates / "server.crt"
    yield from new_lab(sandbox, ssl="on", ssl_cert_file=str(server), ssl_key_file=str(server.with_suffix(".key")))


@pytest.fixture(scope="module")
def command(lab: Lab, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command on a production environment whose database is the lab's."""
    cli = make_cli(sandbox, tmp_path_factory.mktemp("cli"))
    declared = json.loads((cli.folder / "settings.json").read_text())
    cli.edit(
        "settings.json",
        name="lab",
        production=True,
        postgres=to_json(lab.settings),
        buckets={**declared["buckets"], "postgres": lab.bucket},
        keys={**declared["keys"], "postgres": lab.kms_key},
    )
    (cli.folder / "endpoints.json").write_text(json.dumps({"aws": sandbox.aws_url, "ca_file": str(sandbox.ca_file)}))
    (cli.folder / "secrets" / SECRET_POSTGRES / "username").write_text("postgres")
    shutil.copytree(lab.home / "client", cli.folder / "secrets" / SECRET_PGBACKREST_CLIENT, dirs_exist_ok=True)
    return cli


@pytest.fixture(scope="module")
def good(lab: Lab) -> datetime:
    """The moment before the accident."""
    lab.sql("CREATE SCHEMA shop", "CREATE TABLE shop.items (id int PRIMARY KEY)", "INSERT INTO shop.items VALUES (1)")
    lab.note("before the full")
    lab.backup(BackupKind.FULL)
    lab.note("in WAL alone")
    moment = lab.now()
    lab.note("newer")
    lab.sql("DELETE FROM notes WHERE text = 'before the full'", "DELETE FROM shop.items")
    lab.archive_all()
    return moment


def in_place(good: datetime, *more: str) -> tuple[str, ...]:
    return (
        "restore", "postgres", "--in-place", "--service", "pg_ctl", "--target-time", good.isoformat(), *more,
    )  # fmt: skip


def answered(command: Cli, *arguments: str) -> Any:
    """What the command answers to a program.

    Raises:
        AssertionError: it failed.
    """
    done = command.call(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plan_says_what_it_would_do_and_lose_and_does_nothing(lab: Lab, command: Cli, good: datetime) -> None:
    running = command.run(*in_place(good, "--plan"))
    assert running.code == 6
    assert "PostgreSQL runs on" in running.line
    planned = command.run(*in_place(good, "--stop", "--plan"))
    assert planned.code == 0
    assert "has not passed a restore test yet" in planned.err
    assert "is lost: --rescue FOLDER counts the rows and exports them first" in planned.err
    plan = answered(command, *in_place(good, "--stop", "--plan"))
    assert plan["newer_wal_segments"] >= 1
    assert plan["expected_seconds"] > 0
    unattended = command.run(*in_place(good, "--stop"))
    assert unattended.code == 6
    assert "nobody is here to agree to the plan: give --yes" in unattended.line
    assert lab.notes() == {"in WAL alone", "newer"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--table", "notes", "--in-place"), "leave --in-place and --to out"),
        (("--table", "notes", "--swap", "--merge"), "choose one"),
        (("--swap", "--in-place"), "name the table"),
        (("--to", "staging", "--port", "9", "--rescue", "rescued"), "leave it out with --to"),
        (("--in-place", "--target-lsn", "0/1", "--target-xid", "7"), "choose one of --target-time"),
        (("--table", "nots", "--into", "side"), "there was no table public.nots then: known: public.notes"),
    ],
)
def test_a_call_that_contradicts_itself_is_refused_with_the_mend(
    command: Cli, good: datetime, arguments: tuple[str, ...], said: str
) -> None:
    moment = () if "--target-lsn" in arguments else ("--target-time", good.isoformat())
    refused = command.run("restore", "postgres", *arguments, *moment, "--yes")
    assert refused.code == 2
    assert said in refused.line


def test_an_unproven_point_is_refused_where_the_settings_say_so(lab: Lab, command: Cli, good: datetime) -> None:
    command.edit("settings.json", unproven_points=UnprovenPoints.REFUSE.value)
    refused = command.run(*in_place(good, "--stop", "--yes"))
    command.edit("settings.json", unproven_points=UnprovenPoints.WARN.value)
    assert refused.code == 6
    assert "has not passed a restore test yet: test it with `aivo-backup verify postgres" in refused.line
    assert lab.notes() == {"in WAL alone", "newer"}


def test_one_table_comes_beside_the_live_one_and_its_lost_rows_are_merged(
    lab: Lab, command: Cli, good: datetime
) -> None:
    table = ("restore", "postgres", "--table", "notes", "--target-time", good.isoformat(), "--into", "side")
    planned = command.run(*table, "--merge", "--plan")
    assert "would restore public.notes as of" in planned.err
    beside = answered(command, *table, "--yes")
    assert beside["detail"]["rows"] == {"side.notes": 2}
    assert beside["passed"]
    assert lab.notes() == {"in WAL alone", "newer"}
    # What was extracted is taken: nothing is restored again.
    assert "is in side of production already" in command.run(*table, "--merge", "--plan").err
    assert answered(command, *table, "--merge", "--yes")["detail"]["merged"] == {"public.notes": 1}
    assert lab.notes() == {"before the full", "in WAL alone", "newer"}
    lab.sql("DROP SCHEMA IF EXISTS side CASCADE", "DELETE FROM notes WHERE text = 'before the full'")


def test_a_schema_is_swapped_and_the_former_one_is_kept(lab: Lab, command: Cli, good: datetime) -> None:
    schema = ("restore", "postgres", "--schema", "shop", "--target-time", good.isoformat())
    done = answered(command, *schema, "--swap", "--yes")
    assert done["passed"]
    assert lab.sql("SELECT id FROM shop.items") == [(1,)]
    assert lab.sql(f"SELECT count(*) FROM {done['detail']['set_aside']}.items") == [(0,)]  # noqa: S608 - told by us


def test_newer_rows_are_saved_before_the_restore_and_put_back_after(
    lab: Lab, command: Cli, good: datetime, tmp_path: Path
) -> None:
    folder = tmp_path / "rescued"
    lab.archive_all()
    restored = command.call(*in_place(good, "--stop", "--yes", "--rescue", str(folder), "--json"))
    assert restored.returncode == 0, restored.stderr
    assert "written after" in restored.stderr
    record = json.loads(restored.stdout)["restore"]
    assert record["amounts"]["bytes"] > 1_000_000
    assert record["amounts"]["wal_segments"] >= 1
    assert lab.notes() == {"before the full", "in WAL alone"}
    assert {one["unit"]: one["rows"] for one in answered(command, *_import(folder))}["public.notes"] == 1
    assert lab.notes() == {"before the full", "in WAL alone", "newer"}
    again = answered(command, *_import(folder))
    assert {one["unit"]: (one["rows"], one["conflicting"]) for one in again}["public.notes"] == (0, 1)
    # The next plan goes by what was measured.
    assert answered(command, *in_place(good, "--stop", "--plan"))["measured_restores"] >= 1


def _import(folder: Path) -> tuple[str, ...]:
    return ("restore", "postgres", "--import", str(folder), "--yes")
