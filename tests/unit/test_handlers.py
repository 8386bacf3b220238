"""The functions as Lambda calls them: with the schedule's event, settings from SSM, and AWS in this process.

MinIO serves as the component, because its restore test needs nothing but S3.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import Lease
from aivo_backup.catalog.records import RunStatus
from aivo_backup.composition import utc_now
from aivo_backup.errors import UsageError, VerificationError
from aivo_backup.jobs.backup import run_backup
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import BackupKind, Component, Environment
from aivo_backup.policy.names import Function
from aivo_backup.stores.minio.s3 import S3ObjectStore
from aivo_backup.stores.minio.store import MinioStore
from aivo_backup.stores.port import silent
from lambdas.compliance_report.handler import handler as compliance_report
from lambdas.register_snapshot.handler import handler as register_snapshot
from lambdas.verify_restore.handler import handler as verify_restore
from tests.unit.evidence.generated import environment as generated_environment

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

Handler = Callable[[Mapping[str, object], LambdaContext], dict[str, Any]]

HANDLERS: dict[Function, Handler] = {
    Function.VERIFY_RESTORE: verify_restore,
    Function.REGISTER_SNAPSHOT: register_snapshot,
    Function.COMPLIANCE_REPORT: compliance_report,
}
EVENTS = Path(__file__).parents[1] / "events"
BUCKET = "aivo-backup-minio"
PARAMETER = "/aivo-backup/prod/settings"


class Context(LambdaContext):
    """What Lambda hands over."""

    def __init__(self) -> None:
        self._aws_request_id = "7c0f8d0e-0000-4000-8000-000000000001"
        self._function_name = "aivo-backup-prod-test"


def event(function: Function) -> dict[str, object]:
    data: dict[str, object] = json.loads((EVENTS / f"{function.value}.json").read_text())
    return data


@pytest.fixture
def deployed(s3: "S3Client", endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """An environment as the Pulumi program publishes it, and the variables that the function has."""
    plain = generated_environment()
    settings = replace(
        plain,
        keys=dict.fromkeys((*Component, "compliance"), "alias/aws/s3"),
        # Every byte in every test: which tenth a day's test reads depends on the day.
        minio=replace(plain.minio, buckets=("media", "aivo-heartbeat"), source_secret="minio-source", verify_share=1.0),
    )
    boto3.client("ssm", region_name="us-east-1").put_parameter(
        Name=PARAMETER, Value=json.dumps(settings.to_json()), Type="String"
    )
    boto3.client("secretsmanager", region_name="us-east-1").create_secret(
        Name="minio-source", SecretString=json.dumps({"access-key": "reader", "secret-key": "read-and-list"})
    )
    for bucket in (BUCKET, "media", "aivo-heartbeat"):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AIVO_BACKUP_SETTINGS", f"ssm:{PARAMETER}")
    monkeypatch.setenv("AIVO_BACKUP_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("AIVO_BACKUP_SECRETS", raising=False)
    monkeypatch.delenv("AIVO_BACKUP_ENDPOINTS", raising=False)
    return settings


@pytest.fixture
def backed_up(deployed: Environment, s3: "S3Client", catalog: Catalog) -> str:
    """One recovery point of two objects and a heartbeat; its id."""
    s3.put_object(Bucket="media", Key="a/lesson.txt", Body=b"first lesson" * 100)
    s3.put_object(Bucket="media", Key="b/pupil.txt", Body=b"a pupil" * 100)
    heartbeat = json.dumps({"at": format_time(datetime.now(UTC))})
    s3.put_object(Bucket="aivo-heartbeat", Key="heartbeat.json", Body=heartbeat.encode())
    store = MinioStore(
        settings=deployed.minio,
        source=S3ObjectStore(s3),
        target=S3ObjectStore(s3, encryption_key="alias/aws/s3"),
        bucket=BUCKET,
        clock=utc_now,
    )
    lease = Lease(s3=s3, bucket=BUCKET, component=Component.MINIO, kms_key="alias/aws/s3", clock=utc_now)
    result = run_backup(
        store,
        BackupKind.FULL,
        catalog=catalog,
        lease=lease,
        job="minio-backup",
        clock=utc_now,
        progress=silent,
        sleep=time.sleep,
    )
    assert result.run.status is RunStatus.SUCCEEDED
    assert result.point is not None
    return result.point.id


def test_a_restore_test_restores_the_newest_point_and_files_it(backed_up: str, catalog: Catalog) -> None:
    answer = verify_restore(event(Function.VERIFY_RESTORE), Context())
    filed = catalog.restores(Component.MINIO)
    assert [one.id for one in filed] == [answer["id"]]
    assert filed[0].recovery_point == backed_up
    assert filed[0].passed
    assert filed[0].loss_seconds is not None
    assert filed[0].loss_seconds < 3600
    assert json.dumps(answer)


def test_a_flipped_byte_raises_after_the_failed_record_is_filed(
    backed_up: str, catalog: Catalog, s3: "S3Client"
) -> None:
    key = "minio-data/media/a/lesson.txt"
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    _overwrite_at_rest(BUCKET, key, bytes([body[0] ^ 1]) + body[1:])
    with pytest.raises(VerificationError, match=r"a/lesson\.txt"):
        verify_restore(event(Function.VERIFY_RESTORE), Context())
    filed = catalog.restores(Component.MINIO)
    assert [one.passed for one in filed] == [False]
    assert filed[0].recovery_point == backed_up


@pytest.mark.usefixtures("deployed")
def test_a_component_without_a_point_is_an_error_that_names_the_mend() -> None:
    with pytest.raises(UsageError, match="minio has no recovery point yet: take one with"):
        verify_restore(event(Function.VERIFY_RESTORE), Context())


def test_registration_files_one_record_per_scheduled_time(backed_up: str, catalog: Catalog) -> None:
    first = register_snapshot(event(Function.REGISTER_SNAPSHOT), Context())
    again = register_snapshot(event(Function.REGISTER_SNAPSHOT), Context())
    assert first == again
    assert first["found"] == [backed_up]
    assert [one.id for one in catalog.registrations(Component.MINIO)] == [first["id"]]


def test_registration_raises_when_a_recorded_point_is_gone(backed_up: str, catalog: Catalog, s3: "S3Client") -> None:
    for listed in s3.list_objects_v2(Bucket=BUCKET, Prefix="metadata/").get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=listed.get("Key", ""))
    with pytest.raises(VerificationError, match=backed_up):
        register_snapshot(event(Function.REGISTER_SNAPSHOT), Context())
    assert catalog.registrations(Component.MINIO)[0].missing == (backed_up,)


def test_the_report_covers_what_was_just_restored(backed_up: str, catalog: Catalog, s3: "S3Client") -> None:
    verify_restore(event(Function.VERIFY_RESTORE), Context())
    now = format_time(datetime.now(UTC))
    answer = compliance_report({"period": "daily", "scheduled_for": now}, Context())
    assert [one.id for one in catalog.reports()] == [answer["id"]]
    assert answer["objectives_met"] is False
    body = json.loads(s3.get_object(Bucket="aivo-backup-compliance", Key=answer["files"][0]["key"])["Body"].read())
    assert [one["restore"]["recovery_point"] for one in body["restores"]] == [backed_up]


@pytest.mark.parametrize("function", HANDLERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduled_for": None}, r"event\.scheduled_for must be a time, not None"),
        ({"scheduled_for": "tomorrow"}, r"event\.scheduled_for: .*tomorrow"),
        ({"extra": 1}, r"event\.extra is not a known key: known here: "),
    ],
)
def test_a_bad_event_is_one_clear_error_and_nothing_is_opened(
    function: Function, change: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIVO_BACKUP_SETTINGS", raising=False)
    with pytest.raises(UsageError, match=message) as raised:
        HANDLERS[function]({**event(function), **change}, Context())
    assert "\n" not in str(raised.value)


def test_an_event_of_another_function_is_refused_by_key() -> None:
    with pytest.raises(UsageError, match=r"event\.component is not a known key"):
        compliance_report(event(Function.VERIFY_RESTORE), Context())
    with pytest.raises(UsageError, match=r"component"):
        verify_restore({"scheduled_for": "2026-11-23T06:00:00Z"}, Context())
    with pytest.raises(UsageError, match=r"postgres, minio, opensearch"):
        verify_restore({**event(Function.VERIFY_RESTORE), "component": "redis"}, Context())


def test_each_function_of_the_stack_has_its_handler_where_lambda_looks_for_it() -> None:
    assert {function.handler: HANDLERS[function] for function in Function} == {
        f"{handler.__module__}.{handler.__name__}": handler for handler in HANDLERS.values()
    }


@pytest.mark.usefixtures("deployed")
def test_the_log_is_one_json_line_with_the_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One logger per service lives as long as the process, and keeps the output that it found first.
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "verify_restore")
    with pytest.raises(UsageError):
        verify_restore(event(Function.VERIFY_RESTORE), Context())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["level"] for line in lines] == ["ERROR"]
    assert lines[0]["component"] == "minio"
    assert lines[0]["request_id"] == "7c0f8d0e-0000-4000-8000-000000000001"
    assert lines[0]["exit_code"] == 2


def _overwrite_at_rest(bucket: str, key: str, body: bytes) -> None:
    """Changes the stored bytes of an object's newest version behind the API's back, as decay on a disk would."""
    from moto.s3.models import s3_backends

    found = s3_backends["123456789012"]["aws"].get_object(bucket, key)
    assert found is not None
    found.value = body
