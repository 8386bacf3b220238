"""What a person reads when PostgreSQL's backups cannot work: one line, the right kind, with a mend."""

import fcntl
import re
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from botocore.config import Config

from aivo_backup.errors import (
    AccessDeniedError,
    BackupError,
    ConfigurationError,
    RefusedError,
    UnreachableError,
)
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.port import silent
from aivo_backup.stores.postgres.access import RepositoryAccess
from aivo_backup.stores.postgres.envelope import ENVELOPE_KEY, RegionKey, open_pass
from aivo_backup.stores.postgres.setup import make_envelope, make_stanza
from aivo_backup.stores.postgres.store import PostgresStore
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, closed_port
from tests.sandbox.postgres_cli import on_lab
from tests.sandbox.postgres_lab import Lab, new_lab
from tests.sandbox.test_doctor import failures


@pytest.fixture(scope="module")
def lab(sandbox: Sandbox) -> Generator[Lab]:
    server = sandbox.certificates / "server.crt"
    yield from new_lab(sandbox, ssl="on", ssl_cert_file=str(server), ssl_key_file=str(server.with_suffix(".key")))


def reader(lab: Lab, access: RepositoryAccess) -> Callable[[], object]:
    """Asks pgBackRest itself, without the questions that come before."""
    runners = replace(lab.runners(), access=access)
    return lambda: runners.repository().info()


def backup(of: PostgresStore) -> Callable[[], object]:
    return lambda: of.backup(BackupKind.FULL, now=datetime.now(UTC), progress=silent)


def check(kind: type[BackupError], words: str, work: Callable[[], object]) -> None:
    with pytest.raises(BackupError) as caught:
        work()
    assert type(caught.value) is kind, caught.value
    assert words in str(caught.value)
    assert caught.value.mend
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_sidecar_is_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(lab.settings, sidecar_port=closed_port())
    check(UnreachableError, "Connection refused", backup(lab.store(settings)))
    monkeypatch.setenv("PGBACKREST_IO_TIMEOUT", "1")
    client = replace(lab.runners(), settings=settings).client()
    check(UnreachableError, "Connection refused", lambda: client.run("backup", "--type=full"))


def test_the_sidecar_does_not_know_the_certificate(lab: Lab) -> None:
    check(AccessDeniedError, "access denied", backup(lab.store(certificates="stranger")))


def test_the_repository_does_not_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBACKREST_IO_TIMEOUT", "1")
    url = f"https://localhost:{closed_port()}"
    check(UnreachableError, "Connection refused", reader(lab, replace(lab.access, endpoint_url=url)))
    s3 = lab.aws.client("s3", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
    check(UnreachableError, url, lab.store(s3=s3).held_points)


def test_the_certificate_authority_is_wrong(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBACKREST_IO_TIMEOUT", "1")
    access = replace(lab.access, ca_file=str(lab.home / "client" / "ca.crt"))
    check(ConfigurationError, "certificate", reader(lab, access))


def test_the_bucket_is_not_there(lab: Lab) -> None:
    access = replace(lab.access, bucket="not-there")
    check(ConfigurationError, "NoSuchBucket", reader(lab, access))
    check(ConfigurationError, "bucket not-there does not exist", lab.store(access=access).held_points)


def test_the_cipher_pass_is_wrong(lab: Lab) -> None:
    access = replace(lab.access, cipher_pass=lambda: "another pass")
    check(ConfigurationError, "envelope", reader(lab, access))


def test_the_stanza_was_never_made(lab: Lab) -> None:
    settings = replace(lab.settings, stanza="never-made")
    check(ConfigurationError, "aivo-backup init postgres", lab.store(settings).held_points)
    check(ConfigurationError, "aivo-backup init postgres", backup(lab.store(settings)))


def test_the_envelope_is_not_there(lab: Lab) -> None:
    with lab.vanished(ENVELOPE_KEY):
        check(ConfigurationError, "no cipher envelope", lab.store().held_points)
        # A new pass would make what is there unreadable for ever.
        keys = {lab.region: RegionKey(kms=lab.kms, key=lab.kms_key)}
        check(
            RefusedError,
            "holds an encrypted repository",
            lambda: make_envelope(lab.s3, bucket=lab.bucket, keys=keys, now=datetime.now(UTC), progress=silent),
        )
    assert open_pass(lab.s3, bucket=lab.bucket, region=lab.region, kms=lab.kms)
    check(
        ConfigurationError,
        "not wrapped for eu-central-1",
        lambda: open_pass(lab.s3, bucket=lab.bucket, region="eu-central-1", kms=lab.kms),
    )


def test_wal_does_not_arrive(lab: Lab) -> None:
    """Archiving that only says it works: the check at init and the end of a backup both notice."""
    lab.sql("ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()")
    try:
        check(
            ConfigurationError,
            "archive_command",
            lambda: make_stanza(lab.runners(), sidecar_timeout_seconds=5, progress=silent),
        )
        check(ConfigurationError, "archive_command", backup(lab.store()))
    finally:
        lab.sql("ALTER SYSTEM RESET archive_command", "SELECT pg_reload_conf()")


def test_another_cluster_at_the_same_place(lab: Lab) -> None:
    """The volume was lost and initdb made a new cluster: it must not archive into the old one's stanza."""
    lab.service.stop()
    kept = lab.data.rename(lab.data.with_name("kept"))
    try:
        lab.make_cluster()
        lab.service.start()
        lab.wait_ready()
        check(ConfigurationError, "another cluster", backup(lab.store()))
    finally:
        lab.service.stop()
        lab.remove(lab.data)
        kept.rename(lab.data)
        lab.service.start()
        lab.wait_ready()


def test_postgres_is_down(lab: Lab) -> None:
    lab.service.stop()
    try:
        check(UnreachableError, "PostgreSQL", backup(lab.store()))
    finally:
        lab.service.start()
        lab.wait_ready()


def test_two_backups_at_once(lab: Lab) -> None:
    lock = lab.home / "state" / "pgbackrest" / "client" / "lock" / "aivo-postgres-backup.lock"
    lab.backup(BackupKind.FULL)
    with lock.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        check(BackupError, "another pgBackRest run", backup(lab.store()))


def found(cli: Cli) -> dict[str, str]:
    """What doctor finds wrong: the check, and what it says to do."""
    failed = failures(cli, "postgres")
    return {name: f"{entry['evidence']} -> {entry['mend']}" for name, entry in failed.items()}


@pytest.fixture
def examined(cli: Cli, lab: Lab) -> Cli:
    """An environment whose database is the lab, with a backup, and nothing wrong."""
    on_lab(cli, lab)
    if not lab.runners().repository().info().sets:
        lab.backup(BackupKind.FULL)
    assert found(cli) == {}
    return cli


def test_doctor_finds_that_the_stanza_is_not_there(examined: Cli, lab: Lab) -> None:
    with ExitStack() as gone:
        for folder in ("archive", "backup"):
            for file in (f"{folder}.info", f"{folder}.info.copy"):
                gone.enter_context(lab.vanished(f"{folder}/aivo-postgres/{file}"))
        wrong = found(examined)
    assert wrong.keys() == {"stanza", "repository"}
    assert all("aivo-backup init postgres" in said for said in wrong.values()), wrong


def test_doctor_finds_an_archive_that_fails_and_one_that_only_claims(examined: Cli, lab: Lab) -> None:
    lab.sql("ALTER SYSTEM SET archive_command = 'false'", "SELECT pg_reload_conf()")
    try:
        lab.note("never archived")
        lab.sql("SELECT pg_switch_wal()")
        deadline = time.monotonic() + 30
        while "archive lag" not in (wrong := found(examined)):
            assert time.monotonic() < deadline, wrong
        assert wrong.keys() == {"archive lag", "stanza"}
        assert "archiving fails since" in wrong["archive lag"]
        assert "archive_command" in wrong["stanza"]
        # PostgreSQL believes every segment archived from here on, and the repository gets none.
        lab.sql("ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()")
        lab.archive_all()
        wrong = found(examined)
        assert re.search(r"the repository holds \w+: \d+ segments lost -> take a full backup", wrong["archive lag"]), (
            wrong
        )
    finally:
        lab.sql("ALTER SYSTEM RESET archive_command", "SELECT pg_reload_conf()")
    # The archiver takes the change up between two segments: from the first on that it archives truly, all is well.
    deadline = time.monotonic() + 60
    while wrong := found(examined):
        assert time.monotonic() < deadline, wrong
        lab.archive_all()


def test_doctor_finds_a_repository_that_does_not_answer_or_cannot_be_opened(examined: Cli, lab: Lab) -> None:
    with lab.vanished(ENVELOPE_KEY):
        wrong = found(examined)
        assert wrong.keys() == {"stanza", "repository"}
        assert all("no cipher envelope" in said for said in wrong.values())
    port = closed_port()
    examined.edit("endpoints.json", aws=f"https://localhost:{port}")
    wrong = found(examined)
    assert {"stanza", "repository", "archive lag", "backup bucket"} <= wrong.keys()
    assert "database" not in wrong
    assert all(str(port) in said for said in wrong.values())
