"""The Pulumi program is true in the AWS API, stays true, and its roles can do their work and nothing else."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import Component, Environment
from sandbox.provision import Change, Provisioner, is_provisioned, registry
from sandbox.provision.engine import stack_configuration
from sandbox.provision.kubernetes import realise_manifest
from sandbox.provision.resources import Clients, Document, Realiser, Resource, realise
from sandbox.state import ACCOUNT, CHECKOUT, Sandbox
from tests.sandbox.lone import NOW, Provisioned

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

LATER = NOW + timedelta(hours=1)
ROLE = "aivo-backup-local-minio-writer"


def provision_again(sandbox: Sandbox) -> dict[str, Change]:
    """What a further run changes, by type and physical name."""
    summary = Provisioner(sandbox).provision(LATER)
    return {
        f"{e.kind.rpartition(':')[2]} {e.name}": e.change for e in summary.entries if e.change is not Change.UNCHANGED
    }


def test_everything_is_created_once_and_then_left_alone(provisioned: Provisioned) -> None:
    first = provisioned.first
    assert first.at == NOW
    # A bucket with Object Lock is versioned from the start; everything else has to be made.
    found = {entry.kind for entry in first.entries if entry.change is Change.UNCHANGED}
    assert found <= {"aws:s3/bucketVersioning:BucketVersioning"}
    assert first.count(Change.CREATED) > 100
    assert first.count(Change.CORRECTED) == 0
    assert provision_again(provisioned.sandbox) == {}


def test_enforcement_is_on_and_this_life_of_the_api_is_known_as_provisioned(provisioned: Provisioned) -> None:
    assert provisioned.sandbox.aws_control.iam_enforced()
    assert is_provisioned(provisioned.sandbox)
    provisioned.sandbox.remember(provisioned={"at": "", "instance": "an earlier life"})
    assert not is_provisioned(provisioned.sandbox)


def test_what_vanished_comes_back_and_nothing_else_is_touched(provisioned: Provisioned) -> None:
    aws = provisioned.sandbox.aws()
    iam = aws.client("iam")
    aws.client("s3").delete_bucket_policy(Bucket="aivo-backup-compliance")
    aws.client("s3").delete_bucket_lifecycle(Bucket="aivo-backup-minio")
    iam.delete_role_policy(RoleName=ROLE, PolicyName="access")
    iam.delete_role(RoleName=ROLE)
    aws.client("kms").delete_alias(AliasName="alias/aivo-backup/local/postgres")
    aws.client("scheduler").delete_schedule(GroupName="aivo-backup-local", Name="verify-minio")
    aws.client("lambda").delete_function(FunctionName="aivo-backup-local-compliance-report")
    aws.client("ssm").delete_parameter(Name="/aivo-backup/local/settings")
    aws.client("secretsmanager").delete_secret(SecretId="aivo-backup/local/minio-source")
    (provisioned.sandbox.home / "kubernetes" / "cronjob-minio-backup.yaml").unlink()
    assert provision_again(provisioned.sandbox) == {
        "BucketPolicy aivo-backup-compliance": Change.CREATED,
        "BucketLifecycleConfiguration aivo-backup-minio": Change.CREATED,
        f"Role {ROLE}": Change.CREATED,
        f"RolePolicy {ROLE}:access": Change.CREATED,
        "Alias alias/aivo-backup/local/postgres": Change.CREATED,
        "Schedule aivo-backup-local/verify-minio": Change.CREATED,
        "Function aivo-backup-local-compliance-report": Change.CREATED,
        "FunctionEventInvokeConfig aivo-backup-local-compliance-report": Change.CREATED,
        "Parameter /aivo-backup/local/settings": Change.CREATED,
        "Secret aivo-backup/local/minio-source": Change.CREATED,
        "CronJob CronJob/minio-backup": Change.CREATED,
    }


def test_a_bucket_that_vanished_comes_back_with_all_that_belongs_to_it(provisioned: Provisioned) -> None:
    """Under its own name, locked, encrypted and versioned as before; no other bucket is written to."""
    bucket = "aivo-backup-dr-documents"
    s3 = provisioned.sandbox.aws().client("s3")
    lock = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    s3.delete_bucket_policy(Bucket=bucket)
    s3.delete_bucket(Bucket=bucket)
    changed = provision_again(provisioned.sandbox)
    assert f"Bucket {bucket}" in changed
    assert {name.partition(" ")[2].partition(":")[0] for name in changed} == {bucket}
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == lock
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"] == encryption
    assert s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"
    assert provision_again(provisioned.sandbox) == {}


def test_what_was_altered_is_put_right(provisioned: Provisioned) -> None:
    aws = provisioned.sandbox.aws()
    s3, kms, iam, scheduler = aws.client("s3"), aws.client("kms"), aws.client("iam"), aws.client("scheduler")
    bucket = "aivo-backup-postgres"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    rules: Any = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    rules[0]["NoncurrentVersionExpiration"]["NoncurrentDays"] = 1
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "Owner", "Value": "someone else"}]})
    key = kms.describe_key(KeyId="alias/aivo-backup/local/postgres")["KeyMetadata"]["KeyId"]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=ROLE, PolicyName="access", PolicyDocument=json.dumps(wide))
    iam.tag_role(RoleName=ROLE, Tags=[{"Key": "Left", "Value": "behind"}])
    held: Any = scheduler.get_schedule(GroupName="aivo-backup-local", Name="verify-minio")
    known = ("Name", "GroupName", "FlexibleTimeWindow", "Target", "Description", "KmsKeyArn")
    scheduler.update_schedule(**{name: held[name] for name in known}, ScheduleExpression="cron(0 0 1 1 ? *)")
    manifest = provisioned.sandbox.home / "kubernetes" / "cronjob-minio-backup.yaml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("0 3 * * *", "0 4 * * *"), encoding="utf-8")
    assert provision_again(provisioned.sandbox) == {
        f"BucketVersioning {bucket}": Change.CORRECTED,
        f"BucketLifecycleConfiguration {bucket}": Change.CORRECTED,
        f"Bucket {bucket}": Change.CORRECTED,
        "Key postgres-key": Change.CORRECTED,
        f"RolePolicy {ROLE}:access": Change.CORRECTED,
        f"Role {ROLE}": Change.CORRECTED,
        "Schedule aivo-backup-local/verify-minio": Change.CORRECTED,
        "CronJob CronJob/minio-backup": Change.CORRECTED,
    }
    assert kms.describe_key(KeyId=key)["KeyMetadata"].get("Enabled")
    assert provision_again(provisioned.sandbox) == {}


def test_the_settings_are_the_same_in_the_parameter_and_the_config_map(provisioned: Provisioned) -> None:
    sandbox = provisioned.sandbox
    ssm = sandbox.aws().client("ssm")
    parameter = ssm.get_parameter(Name="/aivo-backup/local/settings", WithDecryption=True)["Parameter"]
    manifest = yaml.safe_load((sandbox.home / "kubernetes" / "configmap-aivo-backup-settings.yaml").read_text())
    assert parameter.get("Value") == manifest["data"]["settings.json"]
    settings = Environment.from_json(json.loads(manifest["data"]["settings.json"]), where="settings")
    assert settings.opensearch.fs_location == str(sandbox.home / "opensearch" / "snapshots")
    assert settings.postgres.bin_path == str(sandbox.tools.postgres_bin)
    kms = sandbox.aws().client("kms")
    for component in Component:
        key = kms.describe_key(KeyId=f"alias/aivo-backup/local/{component}")["KeyMetadata"]
        assert settings.key(component) == key.get("Arn")


def test_the_second_region_has_the_settings_and_takes_copies_under_its_own_key(provisioned: Provisioned) -> None:
    sandbox = provisioned.sandbox
    name = "/aivo-backup/local/settings"
    here, there = (
        json.loads(aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"].get("Value", ""))
        for aws in (sandbox.aws(), sandbox.aws("us-west-2"))
    )
    assert here == there
    replica = there["replica"]
    assert ":us-west-2:" in replica["keys"]["minio"]
    s3 = sandbox.aws().client("s3")
    source, copy = here["buckets"]["minio"], replica["buckets"]["minio"]
    s3.put_object(Bucket=source, Key="k", Body=b"v", ServerSideEncryption="aws:kms", SSEKMSKeyId=here["keys"]["minio"])
    sandbox.aws_control.replicate()
    copied = sandbox.aws("us-west-2").client("s3").get_object(Bucket=copy, Key="k")
    assert copied["Body"].read() == b"v"
    assert copied["SSEKMSKeyId"] == replica["keys"]["minio"]
    assert s3.get_bucket_location(Bucket=copy)["LocationConstraint"] == "us-west-2"


def test_a_secret_holds_the_sandboxs_own_login(provisioned: Provisioned) -> None:
    sandbox = provisioned.sandbox
    held = sandbox.aws().client("secretsmanager").get_secret_value(SecretId="aivo-backup/local/minio-source")
    names = ("access-key", "secret-key")
    assert json.loads(held["SecretString"]) == {name: sandbox.secret("minio-source", name) for name in names}


def s3_of(sandbox: Sandbox, role: str, account: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> "S3Client":
    """S3 as a pod of a service account has it: by its web identity."""
    token = folder / "token"
    token.write_text(
        sandbox.web_identity_token(
            issuer="oidc.sandbox.invalid/id/LOCAL",
            subject=f"system:serviceaccount:aivo-system:{account}",
            now=datetime.now(UTC),
            life=timedelta(minutes=5),
        )
    )
    variables = {
        "AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/{role}",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL": sandbox.aws_url,
        "AWS_CA_BUNDLE": str(sandbox.ca_file),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return boto3.Session(region_name="us-east-1").client("s3", config=Config(s3={"addressing_style": "path"}))


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except ClientError as error:
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403
    return False


def test_a_job_can_do_its_work_under_its_role_and_nothing_else(
    provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3 = s3_of(provisioned.sandbox, ROLE, "aivo-backup-minio-writer", monkeypatch, tmp_path)
    evidence, record = "aivo-backup-compliance", "records/probe/dt=2026-11-23/test.json"
    s3.put_object(Bucket="aivo-backup-minio", Key="minio-data/bucket/key", Body=b"object")
    s3.put_object(Bucket=evidence, Key=record, Body=b"{}", IfNoneMatch="*")
    assert s3.get_object(Bucket="aivo-backup-minio", Key="minio-data/bucket/key")["Body"].read() == b"object"
    assert refused(lambda: s3.put_object(Bucket="aivo-backup-postgres", Key="backup/key", Body=b""))
    assert refused(lambda: s3.get_object(Bucket=evidence, Key=record))
    assert refused(lambda: s3.delete_object(Bucket=evidence, Key=record))
    suspended: Any = {"Status": "Suspended"}
    assert refused(lambda: s3.put_bucket_versioning(Bucket="aivo-backup-minio", VersioningConfiguration=suspended))


def test_a_role_is_given_to_its_own_service_account_only(
    provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3 = s3_of(provisioned.sandbox, ROLE, "aivo-backup-postgres-writer", monkeypatch, tmp_path)
    assert refused(lambda: s3.list_objects_v2(Bucket="aivo-backup-minio"))


def test_an_unknown_resource_type_is_named_and_nothing_is_accepted(
    provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {kind: realiser for kind, realiser in registry.REALISERS.items() if "iam/role:" not in kind}
    monkeypatch.setattr(registry, "REALISERS", known)
    with pytest.raises(ConfigurationError, match=r"cannot realise aws:iam/role:Role"):
        Provisioner(provisioned.sandbox).provision(LATER)
    monkeypatch.undo()
    assert provision_again(provisioned.sandbox) == {}


def test_a_wrong_setting_is_refused_before_anything_is_done(provisioned: Provisioned) -> None:
    overrides = {"aivo-backup:evidence": {"days": 36500}}
    with pytest.raises(ConfigurationError, match="days"):
        Provisioner(provisioned.sandbox, overrides=overrides).provision(LATER)


def test_overrides_are_merged_into_the_stacks_file() -> None:
    values = stack_configuration(CHECKOUT, "local", {"aivo-backup:minio": {"verify_share": 0.5}})
    minio = json.loads(values["aivo-backup:minio"])
    assert minio["verify_share"] == 0.5
    assert minio["endpoint"].startswith("https://")
    assert values["aivo-backup:region"] == "us-east-1"


def test_an_encrypted_value_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.local.yaml").write_text("config:\n  aivo-backup:token:\n    secure: abc\n")
    with pytest.raises(ConfigurationError, match="aivo-backup:token is encrypted"):
        stack_configuration(tmp_path, "local", {})


def test_a_manifest_is_written_only_when_it_changes(tmp_path: Path) -> None:
    inputs: Document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"b": "1", "a": "2"},
    }
    turned = {key: inputs[key] for key in reversed(inputs)} | {"data": {"a": "2", "b": "1"}}

    def change(properties: Document) -> Change:
        resource = Resource(kind="kubernetes:core/v1:ConfigMap", logical="c", inputs=properties)
        return realise_manifest(tmp_path, resource).change

    assert [change(inputs), change(turned)] == [Change.CREATED, Change.UNCHANGED]
    assert change({**inputs, "data": {}}) is Change.CORRECTED
    assert yaml.safe_load((tmp_path / "configmap-c.yaml").read_text()) == {**inputs, "data": {}}


class Forgetful(Realiser):
    """A realiser whose API takes a value and keeps another."""

    kind = "test:forgetful"
    held: Document | None = None

    def name(self, resource: Resource) -> str:
        return resource.logical

    def wanted(self, aws: Clients, resource: Resource) -> Document:
        return {"kept": 1, "forgotten": 2}

    def read(self, aws: Clients, resource: Resource) -> Document | None:
        return self.held

    def write(self, aws: Clients, resource: Resource, wanted: Document, current: Document | None) -> None:
        self.held = {**wanted, "forgotten": None}

    def identify(self, aws: Clients, resource: Resource) -> tuple[str, Document]:
        return resource.logical, {}


def test_a_property_that_the_api_does_not_hold_is_not_taken_for_done() -> None:
    session = boto3.Session(region_name="us-east-1")
    clients = Clients(session, account=ACCOUNT, administrator="", checkout=Path(), secrets_folder=Path())
    with pytest.raises(Exception, match="does not hold forgotten"):
        realise(Forgetful(), clients, Resource(kind="test:forgetful", logical="thing", inputs={}))
