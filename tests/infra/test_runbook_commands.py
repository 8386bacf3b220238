"""docs/runbook-commands.toml is complete, and what it says to type is what there is to type.

What is called supported and needs a server runs in tests/sandbox/test_runbook_commands.py.
"""

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from aivo_backup.cli.root import run
from aivo_backup.cli.runbook_variables import COMPARED, LOGINS
from aivo_backup.errors import ExitCode
from aivo_backup.policy import metrics, names
from aivo_backup.policy.environment import Component, OpenSearchSettings, PostgresSettings
from aivo_backup.policy.names import bucket_name
from sandbox import runbook_commands
from sandbox.runbook import production
from sandbox.runbook_commands import Part, Table, Verdict, blocks_in, digest, incomplete, page, table
from sandbox.state import CHECKOUT
from tests.infra.plans import Plan
from tests.infra.test_alert_rules import rules_of

ORIGINAL = CHECKOUT.parent / "shared" / "runbook.md"
SCRIPTS = CHECKOUT / "infra" / "backup"
_PGBACKREST = (SCRIPTS / "pgbackrest.sh").read_text()
TABLE = table()
SUPPORTED = [line for part in TABLE.parts if part.verdict is Verdict.SUPPORTED for line in part.lines]
CORRECTIONS = sorted({part.now for part in TABLE.parts if part.now})
# What a reason tells to type instead.
QUOTED = sorted(
    {quoted for part in TABLE.parts for quoted in re.findall(r"`((?:aivo-backup|kubectl) [^`]+)`", part.why)}
)

_LISTED = {
    Component.POSTGRES: (f"{names.BACKUP_PREFIX}{PostgresSettings(host='', sidecar_host='').stanza}/",),
    Component.MINIO: (names.MINIO_DATA_PREFIX, names.MINIO_MANIFEST_PREFIX),
    Component.OPENSEARCH: (f"{OpenSearchSettings(endpoint='').base_path}/",),
}
_PAGE = """# Title
```bash
# a remark
curl -X GET \\
  "https://x" \\
  -d '{
  "a": 1
}'

ls
```
text
```promql
up
```
"""


def test_no_command_is_missing() -> None:
    assert incomplete(TABLE) == []
    # The runbook is no part of the repository. Where it lies beside it, it is asked itself.
    if ORIGINAL.is_file():
        assert [digest(block) for block in blocks_in(ORIGINAL.read_text())] == [block.digest for block in TABLE.block]


def test_a_lost_command_and_a_lost_block_would_be_noticed() -> None:
    first = TABLE.block[0]
    shorter = replace(first, part=first.part[1:])
    assert incomplete(Table(digest=TABLE.digest, block=(shorter, *TABLE.block[1:]))) == [first.section]
    assert incomplete(Table(digest=TABLE.digest, block=TABLE.block[1:])) == ["the list of blocks"]


def test_commands_are_read_from_a_page_as_they_are_kept() -> None:
    assert blocks_in(_PAGE) == [["""curl -X GET "https://x" -d '{ "a": 1 }'""", "ls"], ["up"]]


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    text = runbook_commands.PAGE.read_text(encoding="utf-8")
    assert text == page(TABLE.block), "run `make runbook`"
    runbook_commands.main(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("part", TABLE.parts, ids=lambda part: part.lines[0])
def test_each_verdict_has_what_it_needs(part: Part) -> None:
    assert bool(part.now) is (part.verdict is Verdict.CORRECTED)
    assert part.why or part.verdict is Verdict.SUPPORTED


def _script(line: str) -> bool:
    (name,) = re.findall(r"[a-z-]+\.sh", line)
    kind = re.match(r"BACKUP_TYPE=(\w+) ", line)
    return os.access(SCRIPTS / name, os.X_OK) and (kind is None or kind[1] in ("full", "incr"))


def _variable(line: str) -> bool:
    ((name, value),) = re.findall(r'^export (\w+)="(.*)"$', line)
    environment = production()
    compared = {each.variable: each.of for each in COMPARED if each.variable != "KMS_KEY_ID"}
    if name in compared and name.endswith("BUCKET"):
        # A real environment's names bear its suffix; what counts is that the component is the one that is meant.
        return compared[name](environment).startswith(value)
    if name in compared:
        return compared[name](environment) == value
    logins = {variable for login in LOGINS for variable in login.keys}
    return name in logins | {"KMS_KEY_ID"} or name.startswith("AWS_") or f"${{{name}:-}}" in _PGBACKREST


def _listing(line: str) -> bool:
    bucket, prefix = re.findall(r"s3://([^/ ]+)/?(\S*)", line)[0]
    (component,) = (each for each in Component if bucket == bucket_name(each.value, ""))
    return not prefix or prefix in _LISTED[component]


def _query(line: str) -> bool:
    return re.split(r"\W", line)[0] in metrics.METRICS


def _in_namespace(line: str) -> bool:
    return f"-n {production().namespace}" in line


def _elsewhere(line: str) -> bool:
    """Runs against real servers, in the sandbox's tests, which take it from the table as well."""
    return bool(line)


JUDGES: dict[str, Callable[[str], bool]] = {
    r"(BACKUP_TYPE=\w+ )?\./[a-z-]+\.sh|chmod \+x [a-z-]+\.sh": _script,
    r"cd /path/to/aivo-virtual-brains/infra/backup": lambda _line: SCRIPTS.is_dir(),
    r"export .*": _variable,
    r"aws s3 ls .*": _listing,
    r"\w+\{.*\}": _query,
    r"kubectl get (cronjobs|jobs) .*": _in_namespace,
    r"(curl|psql|df) .*": _elsewhere,
}


@pytest.mark.parametrize("line", SUPPORTED)
def test_what_is_called_supported_is(line: str) -> None:
    (judge,) = (judge for pattern, judge in JUDGES.items() if re.fullmatch(pattern, line))
    assert judge(line)


def _parses(command: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the command line takes it: the first thing that it misses are the settings."""
    monkeypatch.setenv("AIVO_BACKUP_SETTINGS", "/no/such/settings.json")
    return run(shlex.split(command)[1:]) in (ExitCode.CONFIGURATION, ExitCode.DONE)


def _of_a_cronjob(command: str, plan: Plan) -> bool:
    (name,) = re.findall(r"(?:job|cronjob)/([a-z-]+?)(?:-<timestamp>| |$)", command)
    return name in [job.name for job in plan.all(":CronJob")] and f"-n {production().namespace}" in command


def _recorded(plan: Plan) -> set[str]:
    rules = yaml.safe_load(rules_of(plan))["groups"]
    return {rule["record"] for group in rules for rule in group["rules"] if "record" in rule}


@pytest.mark.parametrize("command", [*CORRECTIONS, *QUOTED])
def test_what_is_to_be_typed_instead_exists(command: str, prod: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    match command.split()[0]:
        case "aivo-backup":
            assert _parses(command, monkeypatch)
        case "kubectl" if "postgresql-0" in command:
            assert f"-c {names.SIDECAR}" in command
        case "kubectl":
            assert _of_a_cronjob(command, prod)
        case "apt-get":
            assert command.split()[-1] == "pgbackrest"
        case "curl":
            assert "/_recovery" in command  # runs in the sandbox's tests
        case recorded:
            assert recorded in _recorded(prod)


def test_a_command_that_there_is_not_would_be_noticed(prod: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _parses("aivo-backup restore minio --bucket b --day yesterday", monkeypatch)
    assert not _parses("aivo-backup rewind", monkeypatch)
    assert not _of_a_cronjob("kubectl logs -n aivo-system job/postgresql-backup-<timestamp>", prod)
    assert not _listing("aws s3 ls s3://aivo-backup-minio/minio/")
    assert not _variable('export BACKUP_BUCKET="aivo-backup-minio"')
    assert not _variable('export PGBACKREST_REPO="aivo"')
    assert not _query("backups_total{}")
