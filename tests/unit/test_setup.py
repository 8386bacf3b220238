"""The set-up: takes what is there, names what is missing, changes nothing for good in the system."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.setup import debian, plan, tools
from sandbox.setup.common import CHECKOUT, VERSIONS_FILE, Context, ProblemError, at_least, run, version_of


def always(value: object) -> Callable[..., object]:
    """A function that answers the same to everything."""

    def answer(*_: object, **__: object) -> object:
        return value

    return answer


def path_to(name: str) -> str:
    return f"/usr/bin/{name}"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """The set-up of an empty checkout with an empty cache."""
    return replace(Context.of(tmp_path / "checkout", {"AIVO_BACKUP_TOOLS": str(tmp_path / "cache")}))


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a program that prints a text alone on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def put(name: str, says: str) -> Path:
        program = folder / name
        program.parent.mkdir(exist_ok=True, parents=True)
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}' >&2\n")
        program.chmod(0o755)
        return program

    return put


@pytest.mark.parametrize(
    ("found", "floor", "enough"),
    [
        ("go version go1.26.8 linux/amd64", "1.24", True),
        ("go version go1.19.8 linux/amd64", "1.24", False),
        ('openjdk version "21" 2023-09-19', "21", True),
        ('openjdk version "17.0.15" 2025-04-15', "21", False),
        ("pgBackRest 2.45", "2.45", True),
        ("nginx version: nginx/1.9.15", "1.18", False),
        ("", "1", False),
    ],
)
def test_versions_are_compared_as_numbers(found: str, floor: str, enough: bool) -> None:
    assert at_least(found, floor) is enough


def test_the_newest_postgres_that_meets_the_floor_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_POSTGRES", tmp_path)
    assert debian.postgres_bin("15") is None
    for version in ("9.6", "13"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert debian.postgres_bin("15") is None
    for version in ("15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert debian.postgres_bin("15") == tmp_path / "17" / "bin"


def test_an_old_java_on_path_is_passed_over_and_a_new_one_taken(
    context: Context, on_path: Callable[[str, str], Path]
) -> None:
    on_path("java", 'openjdk version "17.0.15" 2025-04-15')
    assert tools.find_java(context) is None
    program = on_path("java", 'openjdk version "21.0.4" 2024-07-16')
    assert tools.find_java(context) == program.parent.parent


@pytest.mark.parametrize(
    ("says", "taken"),
    [
        ("minio version RELEASE.2025-04-22T22-12-26Z (commit-id=x)", True),
        ("minio version RELEASE.2022-10-08T20-11-00Z (commit-id=x)", False),
        ("minio version DEVELOPMENT.GOGET", False),
    ],
)
def test_a_minio_on_path_is_taken_if_its_release_is_new_enough(
    context: Context, on_path: Callable[[str, str], Path], says: str, taken: bool
) -> None:
    program = on_path("minio", says)
    assert tools.find_minio(context) == (program if taken else None)


def test_what_this_version_compiled_is_found_in_the_cache_and_what_another_did_is_not(context: Context) -> None:
    pin = context.versions["minio"]["pin"]
    (context.cache / "minio-v0.0.0-older").mkdir(parents=True)
    (context.cache / "minio-v0.0.0-older" / "minio").touch()
    assert tools.find_minio(context) is None
    (context.cache / f"minio-{pin}").mkdir()
    (context.cache / f"minio-{pin}" / "minio").touch()
    assert tools.find_minio(context) == context.cache / f"minio-{pin}" / "minio"


def test_the_packages_behind_missing_parts_are_named(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: Callable[[str, str], Path]
) -> None:
    on_path("nginx", "nginx version: nginx/1.9.15")  # too old
    on_path("bwrap", "bubblewrap 0.8.0")
    monkeypatch.setattr(debian, "_POSTGRES", tmp_path)
    monkeypatch.setattr(debian, "_SYSTEM_PATH", str(tmp_path / "nothing"))
    packages = debian.missing(context, maven=True)
    assert {"postgresql", "pgbackrest", "nginx", "maven"} <= set(packages)
    assert "bubblewrap" not in packages
    assert "maven" not in debian.missing(context, maven=False)


def test_without_root_the_command_for_root_is_named(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", always(1000))
    monkeypatch.setattr("shutil.which", path_to)
    command = "apt-get update && apt-get install --no-install-recommends nginx pgbackrest"
    with pytest.raises(ProblemError, match=f"as root run: {command}$"):
        debian.install(context, ["nginx", "pgbackrest"])


def test_on_another_system_the_parts_are_named(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", always(None))
    with pytest.raises(ProblemError, match="missing: nginx, pgbackrest: this is not Debian"):
        debian.install(context, ["nginx", "pgbackrest"])


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up system folder, with an apt-get that notes what it was asked and what forbade services meanwhile."""
    etc = tmp_path / "system"
    etc.mkdir()
    monkeypatch.setattr(debian, "_POLICY", etc / "policy-rc.d")
    monkeypatch.setattr(debian, "_POLICY_SAVED", etc / "policy-rc.d.saved")
    monkeypatch.setattr(debian, "_CLUSTER_CONFIG", etc / "postgresql-common" / "createcluster.d" / "ours.conf")
    monkeypatch.setattr(debian, "_LISTS", etc)
    monkeypatch.setattr("os.geteuid", always(0))
    apt = tmp_path / "apt" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(
        f'#!/bin/sh\necho "$@" >> {etc}/asked\n'
        f"cat {etc}/policy-rc.d {etc}/postgresql-common/createcluster.d/ours.conf > {etc}/meanwhile 2>/dev/null\n"
        f'case "$*" in *broken*) echo "E: no package broken"; exit 100;; esac\nexit 0\n'
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:/usr/bin:/bin")
    return etc


def test_while_packages_are_installed_no_service_starts_and_afterwards_all_is_as_before(
    context: Context, system: Path
) -> None:
    debian.install(context, ["nginx"])
    asked = (system / "asked").read_text().splitlines()
    assert asked[0] == "update"
    assert asked[1].startswith("install --yes --no-install-recommends")
    assert asked[1].endswith(" nginx")
    assert "exit 101" in (system / "meanwhile").read_text()
    assert "create_main_cluster = false" in (system / "meanwhile").read_text()
    assert sorted(path.name for path in system.iterdir()) == ["asked", "meanwhile"]


@pytest.mark.parametrize("own", ["#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 101\n"])
def test_a_policy_that_was_there_is_there_again_even_after_a_failure(context: Context, system: Path, own: str) -> None:
    (system / "policy-rc.d").write_text(own)
    with pytest.raises(
        ProblemError, match="debian: apt-get failed: E: no package broken: try `apt-get install broken`"
    ):
        debian.install(context, ["broken"])
    assert "exit 101" in (system / "meanwhile").read_text()
    assert (system / "policy-rc.d").read_text() == own
    assert not (system / "policy-rc.d.saved").exists()
    assert not (system / "postgresql-common").exists()


def test_a_run_that_was_killed_while_installing_is_cleaned_up_by_the_next(context: Context, system: Path) -> None:
    own = "#!/bin/sh\nexit 0\n"
    (system / "policy-rc.d.saved").write_text(own)
    (system / "policy-rc.d").write_text(debian._POLICY_TEXT)  # pyright: ignore[reportPrivateUsage] - what a killed run leaves
    debian.install(context, ["nginx"])
    assert (system / "policy-rc.d").read_text() == own
    assert not (system / "policy-rc.d.saved").exists()


def test_with_all_packages_there_nothing_is_asked_of_apt(context: Context, system: Path) -> None:
    (system / "mirror_dists_bookworm_main_Packages").touch()
    debian.install(context, [])
    assert not (system / "asked").exists()


def test_half_of_a_tool_is_never_left_in_the_cache(context: Context) -> None:
    target = context.cache / "tool-1"

    def interrupted() -> None:
        with context.new_folder(target) as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(context.cache.iterdir()) == []
    with context.new_folder(target) as folder:
        (folder / "whole").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]


def test_a_failing_program_is_reported_by_its_last_line_and_its_log(context: Context) -> None:
    context.checkout.mkdir()
    script = "print('one'); print('certificate has expired'); raise SystemExit(9)"
    with pytest.raises(ProblemError) as failed:
        run(context, "minio", [sys.executable, "-c", script], mend="check the network")
    assert re.fullmatch(
        r"minio: python\S* failed: certificate has expired: check the network; see \S+/minio.log", str(failed.value)
    )


def test_one_failing_part_does_not_hide_another_and_what_builds_on_it_is_not_tried(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fail(part: str) -> Callable[[Context], None]:
        def step(_: Context) -> None:
            tried.append(part)
            raise ProblemError(part, "broken", "mend it")

        return step

    monkeypatch.setattr(debian, "missing", always([]))
    monkeypatch.setattr(debian, "install", always(None))
    monkeypatch.setattr("sandbox.setup.python.make_venv", fail("venv"))
    monkeypatch.setattr("sandbox.setup.python.install_packages", fail("packages"))
    monkeypatch.setattr(tools, "find_java", always(Path("/java")))
    monkeypatch.setattr(tools, "find_minio", always(None))
    monkeypatch.setattr(tools, "build_minio", fail("minio"))
    monkeypatch.setattr(tools, "find_opensearch", always(None))
    monkeypatch.setattr(tools, "install_opensearch", fail("opensearch"))
    assert plan.provide(context) == ["venv: broken: mend it", "opensearch: broken: mend it"]
    assert sorted(tried) == ["opensearch", "venv"]


def test_the_set_up_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    script = "import sandbox.setup.plan, sys; print([m for m in sys.modules if m.split('.')[0] in ('boto3', 'click')])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_locked_package_has_its_hash_and_no_file_names_a_host() -> None:
    text = (CHECKOUT / "requirements.txt").read_text()
    packages = re.findall(r"^([A-Za-z0-9._-]+)==.*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)) > 100
    for file in (CHECKOUT / "requirements.txt", CHECKOUT / "pyproject.toml", VERSIONS_FILE):
        assert "://" not in file.read_text(), file


def test_the_lock_covers_what_the_project_declares() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (CHECKOUT / "requirements.txt").read_text(), re.MULTILINE))
    for requirement in declared:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?(?:([>=]=)([\d.]+))?", requirement)
        assert found is not None
        name, how, version = found.groups()
        assert name.lower() in locked, requirement
        if how == "==":
            assert locked[name.lower()] == version
        elif version:
            assert version_of(locked[name.lower()]) >= version_of(version), requirement
