"""The zip packages are what they claim to be, and their handlers run from them over Lambda's Runtime API."""

import json
import shutil
import zipfile
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from aivo_backup.errors import ConfigurationError, ExitCode
from aivo_backup.policy.names import Function, function_name
from infra import packages as built_packages
from infra.packages import FOLDER, LARGEST_BYTES, PACKAGED, ROOT, path_of
from sandbox import functions, packages, pods
from sandbox.state import REGION, Sandbox
from tests.sandbox.lone import Provisioned
from tests.sandbox.runtime_api import RuntimeApi, function_process

DUE = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
EVENT = {"component": "minio", "scheduled_for": "2026-11-23T06:00:00Z"}


@pytest.fixture(scope="module")
def made() -> built_packages.Packages:
    return packages.ensure()


def content(function: Function) -> set[str]:
    with zipfile.ZipFile(ROOT / path_of(function)) as archive:
        return set(archive.namelist())


def test_a_package_holds_what_its_handler_imports_and_no_more(made: built_packages.Packages) -> None:
    assert set(made.packages) == {function.value for function in PACKAGED}
    for function in PACKAGED:
        names = content(function)
        assert {f"lambdas/{function.value}/handler.py", "lambdas/invocation.py", "aivo_backup/composition.py"} <= names
        others = {other.value for other in Function} - {function.value}
        assert not [name for name in names if name.split("/")[1:2] and name.split("/")[1] in others]
        tops = {name.split("/")[0] for name in names}
        assert not tops & {"infra", "sandbox", "tests", "pulumi", "moto", "matplotlib", "numpy", "grpc"}
        assert not [name for name in names if name.startswith(("aivo_backup/cli/", "aivo_backup/evidence/"))]
        assert made.packages[function.value].size_bytes <= LARGEST_BYTES


def test_one_source_gives_the_same_bytes_twice(made: built_packages.Packages, tmp_path: Path) -> None:
    again = packages.build(folder=tmp_path)
    assert again == made
    for function in PACKAGED:
        assert (tmp_path / f"{function.value}.zip").read_bytes() == (ROOT / path_of(function)).read_bytes()


def test_a_package_of_another_source_is_refused(tmp_path: Path) -> None:
    """A copy of the source with its packages is taken; after one changed byte it is not, nor without a package."""
    for name in ("aivo_backup/one.py", "lambdas/two.py", *built_packages.RECIPE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    with pytest.raises(ConfigurationError, match="not packaged: run `make lambdas`"):
        built_packages.built(tmp_path)
    (tmp_path / FOLDER).mkdir(parents=True)
    manifest: dict[str, object] = {"source": built_packages.fingerprint(tmp_path), "python": "3.11", "packages": {}}
    (tmp_path / FOLDER / "packages.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigurationError, match=r"verify_restore\.zip is missing"):
        built_packages.built(tmp_path)
    for function in PACKAGED:
        (tmp_path / path_of(function)).write_bytes(b"")
    assert built_packages.built(tmp_path).runtime == "python3.11"
    (tmp_path / "lambdas" / "two.py").write_text("x = 2\n")
    with pytest.raises(ConfigurationError, match="another source: run `make lambdas`"):
        built_packages.built(tmp_path)


def test_an_unpinned_distribution_is_named() -> None:
    with pytest.raises(ConfigurationError, match="does not pin left-pad"):
        packages.pinned("boto3==1 \\\n    --hash=sha256:00\n", frozenset({"boto3", "left-pad"}))


@pytest.fixture(scope="module")
def sandbox(provisioned: Provisioned) -> Sandbox:
    """A sandbox with one MinIO recovery point, taken by the CronJob's own pod."""
    sandbox = provisioned.sandbox
    s3 = boto3.Session().client(
        "s3",
        endpoint_url=sandbox.minio_url,
        verify=str(sandbox.ca_file),
        region_name=REGION,
        aws_access_key_id=sandbox.secret("minio-source", "access-key"),
        aws_secret_access_key=sandbox.secret("minio-source", "secret-key"),
    )
    s3.create_bucket(Bucket="documents")
    s3.put_object(Bucket="documents", Key="letter.txt", Body=b"Dear auditor")
    done = pods.run_cronjob(sandbox, "minio-backup")
    assert done.exit_code == 0, done.stderr
    return sandbox


def running(sandbox: Sandbox, function: Function, scratch: Path) -> Generator[RuntimeApi]:
    """The provisioned function's own variables and role, its package unpacked, and Lambda's runtime client."""
    aws = sandbox.aws()
    name = function_name("local", function)
    held: dict[str, Any] = dict(aws.client("lambda").get_function_configuration(FunctionName=name))
    role = aws.client("sts").assume_role(RoleArn=held["Role"], RoleSessionName=name)["Credentials"]
    variables = {
        **held["Environment"]["Variables"],
        "AIVO_BACKUP_STATE": str(scratch / "state"),
        "AIVO_BACKUP_ENDPOINTS": str(sandbox.endpoints_file),
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(held["MemorySize"]),
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": role["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": role["SecretAccessKey"],
        "AWS_SESSION_TOKEN": role["SessionToken"],
        "TMPDIR": str(scratch),
    }
    package = scratch / "task"
    with zipfile.ZipFile(ROOT / path_of(function)) as archive:
        archive.extractall(package)
    with function_process(package, scratch, held["Handler"], variables, arn=held["FunctionArn"]) as api:
        yield api


@pytest.fixture
def registration(sandbox: Sandbox, tmp_path: Path) -> Generator[RuntimeApi]:
    yield from running(sandbox, Function.REGISTER_SNAPSHOT, tmp_path)


@pytest.fixture
def verification(sandbox: Sandbox, tmp_path: Path) -> Generator[RuntimeApi]:
    yield from running(sandbox, Function.VERIFY_RESTORE, tmp_path)


def test_registration_runs_from_its_package(registration: RuntimeApi) -> None:
    first = registration.call(EVENT)
    assert first.what == "response", first.body
    assert first.body["id"] == "minio-registration-20261123T060000Z"
    assert first.body["found"]
    # A retry of the same schedule in the same, now warm, process finds the first one's record.
    assert registration.call(EVENT) == first


def test_a_restore_test_runs_from_its_package(verification: RuntimeApi) -> None:
    outcome = verification.call(EVENT)
    # No heartbeat beats here, so its loss cannot be known: that, and nothing else, is what the test finds.
    assert outcome.what == "error"
    assert outcome.body["errorType"] == "VerificationError"
    assert "loss: the restored data holds no heartbeat" in outcome.body["errorMessage"]
    refused = verification.call({"component": "minio"})
    assert (refused.what, refused.body["errorType"]) == ("error", "UsageError")


def test_a_handler_that_is_not_in_the_package_is_said_at_the_start(tmp_path: Path) -> None:
    package = tmp_path / "task"
    with zipfile.ZipFile(ROOT / path_of(Function.REGISTER_SNAPSHOT)) as archive:
        archive.extractall(package)
    handler = Function.COMPLIANCE_REPORT.handler
    with function_process(package, tmp_path, handler, {}) as api:
        outcome = api.call({})
    assert outcome.what == "init/error"
    assert "compliance_report" in outcome.body["errorMessage"]


def test_the_sandbox_runs_a_function_from_its_package_and_from_nothing_else(sandbox: Sandbox) -> None:
    done = functions.invoke_schedule(sandbox, "register-minio", scheduled_for=DUE)
    assert done.error is None, done.log
    (folder,) = (sandbox.home / "packages").iterdir()
    assert (folder / "lambdas" / "register_snapshot" / "handler.py").is_file()
    (folder / "lambdas" / "register_snapshot" / "handler.py").unlink()
    broken = functions.invoke_schedule(sandbox, "register-minio", scheduled_for=DUE)
    assert broken.error is not None
    assert broken.error.type == "ModuleNotFoundError"
    shutil.rmtree(folder)  # the next call unpacks it anew


def test_a_template_of_a_restore_test_holds_it_in_a_pod_of_its_own(sandbox: Sandbox) -> None:
    """What a function would start through the EKS API, started from the same manifest."""
    done = pods.run_cronjob(sandbox, "restore-test-minio")
    # As in the function: everything is restored and checked, and only the heartbeat is missing here.
    assert done.exit_code == ExitCode.VERIFICATION_FAILED, done.stderr
    assert "the restored data holds no heartbeat" in done.stdout
    s3 = sandbox.aws().client("s3")
    filed = s3.list_objects_v2(Bucket="aivo-backup-compliance", Prefix="records/restore/").get("Contents", [])
    assert filed
