"""The packages import each other only as docs/adr/0001-package-boundaries.md says, and the check would notice.

The contracts are in ``.importlinter``. Each mutant below adds one forbidden import to a copy of the tree; a contract
that lets its mutant pass protects nothing.
"""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("aivo_backup", "infra", "lambdas", "sandbox")

POLICY_LIBRARIES = {"cronsim"}
"""What policy may use besides the standard library."""

# Contract, module that is changed, what it is made to import.
MUTANTS = [
    ("product", "aivo_backup/jobs/backup.py", "import pulumi"),
    ("product", "aivo_backup/policy/names.py", "import infra.settings"),
    ("product", "aivo_backup/evidence/build.py", "import lambdas.invocation"),
    ("product", "aivo_backup/cli/context.py", "import sandbox.state"),
    ("composition", "aivo_backup/recovery/restores.py", "import aivo_backup.composition"),
    ("stores", "aivo_backup/stores/minio/store.py", "import aivo_backup.recovery.plan"),
    ("policy", "aivo_backup/policy/slo.py", "import aivo_backup.catalog.records"),
    ("policy", "aivo_backup/policy/schedules.py", "import boto3"),
    ("infra", "infra/settings.py", "import aivo_backup.stores.process"),
    ("infra", "infra/program.py", "import sandbox.state"),
    ("functions", "lambdas/invocation.py", "import aivo_backup.cli"),
    ("composition", "aivo_backup/jobs/verify.py", "import aivo_backup.composition"),
    ("stores", "aivo_backup/stores/port.py", "import aivo_backup.jobs.verify"),
    ("independent", "aivo_backup/stores/minio/store.py", "import aivo_backup.stores.postgres.store"),
    ("clients", "aivo_backup/jobs/report.py", "import boto3"),
    ("evidence", "aivo_backup/evidence/build.py", "import aivo_backup.catalog.catalog"),
]


def contracts() -> dict[str, str]:
    """Name of each contract by its key."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    prefix = "importlinter:contract:"
    return {name.removeprefix(prefix): parser[name]["name"] for name in parser.sections() if name.startswith(prefix)}


def lint(tree: Path, *, contract: str = "") -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    only = ("--contract", contract) if contract else ()
    return subprocess.run(
        [str(program), "--config", str(tree / ".importlinter"), "--no-cache", *only],
        cwd=tree,
        # The copy must win over the installed package.
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tree)
    return tree


def test_every_contract_is_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert f"Contracts: {len(contracts())} kept, 0 broken." in done.stdout


@pytest.mark.parametrize(("contract", "module", "statement"), MUTANTS)
def test_a_forbidden_import_is_caught(copy: Path, contract: str, module: str, statement: str) -> None:
    file = copy / module
    text = file.read_text()
    try:
        file.write_text(f"{text}\n\n{statement}\n")
        done = lint(copy, contract=contract)
    finally:
        file.write_text(text)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contracts()[contract]} BROKEN" in done.stdout


def test_every_contract_has_a_mutant() -> None:
    assert {contract for contract, _, _ in MUTANTS} == set(contracts())


def imports(module_prefix: str) -> set[str]:
    """Every module that a package imports from outside itself, at any level."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    own = [one for one in graph.modules if one == module_prefix or one.startswith(f"{module_prefix}.")]
    assert own
    found = {imported for module in own for imported in graph.find_modules_directly_imported_by(module)}
    return {one for one in found if not f"{one}.".startswith(f"{module_prefix}.")}


def test_policy_uses_the_standard_library_one_cron_library_and_the_errors() -> None:
    foreign = {one for one in imports("aivo_backup.policy") if one.split(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {*POLICY_LIBRARIES, "aivo_backup", "aivo_backup.errors"}


def test_infra_takes_policy_and_errors_from_the_product() -> None:
    taken = {one for one in imports("infra") if one.split(".")[0] == "aivo_backup"}
    assert {one for one in taken if not one.startswith(("aivo_backup.policy", "aivo_backup.errors"))} <= {"aivo_backup"}
    assert any(one.startswith("aivo_backup.policy") for one in taken)
