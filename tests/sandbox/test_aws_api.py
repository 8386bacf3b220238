"""What the sandbox's AWS API does beyond moto: at-rest damage, replication, lifecycle, enforcement."""

import json
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, FlexibleChecksumError

from aivo_backup.errors import BackupError, UnreachableError
from sandbox.aws_api.control import AwsControl
from sandbox.state import ACCOUNT, Sandbox

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

MEBIBYTE = 1024 * 1024


@pytest.fixture
def s3(sandbox: Sandbox) -> "S3Client":
    return sandbox.aws().client("s3")


@pytest.fixture
def unchecking(sandbox: Sandbox) -> "S3Client":
    """A client that takes bytes as they come: it does not compare them with the stored checksum."""
    return sandbox.aws().client("s3", config=Config(response_checksum_validation="when_required"))


@pytest.fixture
def control(sandbox: Sandbox) -> Generator[AwsControl]:
    control = sandbox.aws_control
    was_enforced = control.iam_enforced()
    yield control
    control.enforce_iam(was_enforced)


def versioned_bucket(s3: "S3Client", *, locked: bool = False) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def history(s3: "S3Client", bucket: str) -> list[tuple[str, str, bool]]:
    """(key, version id, is a delete marker) of everything in a bucket."""
    page = s3.list_object_versions(Bucket=bucket)
    versions = [(v.get("Key", ""), v.get("VersionId", ""), False) for v in page.get("Versions", [])]
    return versions + [(m.get("Key", ""), m.get("VersionId", ""), True) for m in page.get("DeleteMarkers", [])]


def test_a_flipped_byte_is_in_that_version_alone_and_its_etag_and_date_stay(
    s3: "S3Client", unchecking: "S3Client", control: AwsControl
) -> None:
    bucket = versioned_bucket(s3)
    first = s3.put_object(Bucket=bucket, Key="file", Body=b"0123456789")
    second = s3.put_object(Bucket=bucket, Key="file", Body=b"abcdefghij")
    before = s3.head_object(Bucket=bucket, Key="file", VersionId=first["VersionId"])

    flipped = control.flip_byte(bucket, "file", version_id=first["VersionId"], offset=3)

    assert (flipped.before, flipped.after, flipped.version_id) == (ord("3"), ord("3") ^ 0xFF, first["VersionId"])
    damaged = unchecking.get_object(Bucket=bucket, Key="file", VersionId=first["VersionId"])["Body"].read()
    assert damaged == b"012" + bytes([ord("3") ^ 0xFF]) + b"456789"
    after = s3.head_object(Bucket=bucket, Key="file", VersionId=first["VersionId"])
    assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"abcdefghij"
    assert s3.head_object(Bucket=bucket, Key="file")["VersionId"] == second["VersionId"]


def test_a_reader_that_checks_sums_sees_the_damage(s3: "S3Client", control: AwsControl) -> None:
    bucket = versioned_bucket(s3)
    s3.put_object(Bucket=bucket, Key="file", Body=b"x" * 1000, ChecksumAlgorithm="SHA256")
    control.flip_byte(bucket, "file")
    with pytest.raises(FlexibleChecksumError):
        s3.get_object(Bucket=bucket, Key="file", ChecksumMode="ENABLED")["Body"].read()


def test_a_byte_of_a_multipart_object_flips(s3: "S3Client", unchecking: "S3Client", control: AwsControl) -> None:
    bucket = versioned_bucket(s3)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    sizes = (5 * MEBIBYTE, 1000)
    parts: list[Any] = []
    for number, size in enumerate(sizes, 1):
        part = s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=number, Body=b"z" * size)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": parts})

    control.flip_byte(bucket, "big", offset=5 * MEBIBYTE + 10)

    tail = unchecking.get_object(Bucket=bucket, Key="big", Range=f"bytes={5 * MEBIBYTE}-")["Body"].read()
    assert tail == b"z" * 10 + bytes([ord("z") ^ 0xFF]) + b"z" * 989


def test_flipping_what_is_not_there_is_refused_by_name(s3: "S3Client", control: AwsControl) -> None:
    bucket = versioned_bucket(s3)
    s3.put_object(Bucket=bucket, Key="file", Body=b"ab")
    for key, offset in (("other", None), ("file", 2)):
        with pytest.raises(BackupError, match=key):
            control.flip_byte(bucket, key, offset=offset)
    with pytest.raises(BackupError, match="no bucket nowhere"):
        control.flip_byte("nowhere", "file")


def replicated_pair(s3: "S3Client", *, markers: str = "Enabled") -> tuple[str, str]:
    source, target = versioned_bucket(s3), versioned_bucket(s3)
    rule: Any = {
        "ID": "all",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": markers},
        "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
        "Destination": {
            "Bucket": f"arn:aws:s3:::{target}",
            "EncryptionConfiguration": {"ReplicaKmsKeyID": "arn:aws:kms:us-west-2:123456789012:key/replica"},
        },
    }
    role = f"arn:aws:iam::{ACCOUNT}:role/replication"
    s3.put_bucket_replication(Bucket=source, ReplicationConfiguration={"Role": role, "Rules": [rule]})
    return source, target


def test_replication_keeps_version_ids_order_metadata_and_delete_markers(s3: "S3Client", control: AwsControl) -> None:
    source, target = replicated_pair(s3)
    s3.put_object(Bucket=source, Key="a", Body=b"one", Metadata={"origin": "test"}, ContentType="text/plain")
    s3.put_object(Bucket=source, Key="a", Body=b"two")
    s3.delete_object(Bucket=source, Key="a")
    s3.put_object(Bucket=source, Key="b", Body=b"bee")

    done = control.replicate()

    assert (done.versions, done.delete_markers) == (3, 1)
    assert history(s3, target) == history(s3, source)
    first = next(v for k, v, marker in reversed(history(s3, source)) if k == "a" and not marker)
    there = s3.get_object(Bucket=target, Key="a", VersionId=first)
    here = s3.get_object(Bucket=source, Key="a", VersionId=first)
    for field in ("ETag", "Metadata", "ContentType", "LastModified", "VersionId"):
        assert there[field] == here[field], field
    assert there["Body"].read() == here["Body"].read()
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=target, Key="a")  # the marker hides it there too
    again = control.replicate()
    assert (again.versions, again.delete_markers) == (0, 0)


def test_replicas_of_kms_objects_carry_the_key_of_the_rule(s3: "S3Client", control: AwsControl) -> None:
    source, target = replicated_pair(s3)
    s3.put_object(Bucket=source, Key="k", Body=b"k", ServerSideEncryption="aws:kms", SSEKMSKeyId="arn:source-key")
    control.replicate()
    head = s3.head_object(Bucket=target, Key="k")
    assert head.get("SSEKMSKeyId", "").endswith("key/replica")


def test_delete_markers_stay_behind_when_the_rule_says_so(s3: "S3Client", control: AwsControl) -> None:
    source, target = replicated_pair(s3, markers="Disabled")
    s3.put_object(Bucket=source, Key="a", Body=b"one")
    s3.delete_object(Bucket=source, Key="a")
    control.replicate()
    assert s3.get_object(Bucket=target, Key="a")["Body"].read() == b"one"


def set_lifecycle(s3: "S3Client", bucket: str, **rule: Any) -> None:
    complete: Any = {"ID": "rule", "Status": "Enabled", "Filter": {"Prefix": ""}, **rule}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [complete]})


def test_noncurrent_versions_go_days_after_they_were_superseded_and_not_earlier(
    s3: "S3Client", control: AwsControl
) -> None:
    bucket = versioned_bucket(s3)
    set_lifecycle(s3, bucket, NoncurrentVersionExpiration={"NoncurrentDays": 14})
    old = s3.put_object(Bucket=bucket, Key="a", Body=b"1")["VersionId"]
    new = s3.put_object(Bucket=bucket, Key="a", Body=b"2")["VersionId"]
    now = datetime.now(UTC)

    assert control.apply_lifecycle(now + timedelta(days=13), bucket=bucket) == []
    (action,) = control.apply_lifecycle(now + timedelta(days=16), bucket=bucket)

    assert (action.action, action.key, action.version_id) == ("expire-noncurrent", "a", old)
    assert history(s3, bucket) == [("a", new, False)]


def test_current_objects_expire_into_a_marker_and_lone_markers_are_cleared(s3: "S3Client", control: AwsControl) -> None:
    bucket = versioned_bucket(s3)
    set_lifecycle(
        s3,
        bucket,
        Filter={"Prefix": "old/"},
        Expiration={"Days": 30},
        NoncurrentVersionExpiration={"NoncurrentDays": 5},
    )
    s3.put_object(Bucket=bucket, Key="old/a", Body=b"1")
    kept = s3.put_object(Bucket=bucket, Key="new/a", Body=b"1")["VersionId"]
    now = datetime.now(UTC)

    (expired,) = control.apply_lifecycle(now + timedelta(days=32), bucket=bucket)
    assert (expired.action, expired.key) == ("expire", "old/a")
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="old/a")

    later = control.apply_lifecycle(now + timedelta(days=75), bucket=bucket)
    assert [action.action for action in later] == ["expire-noncurrent", "expire-marker"]
    assert history(s3, bucket) == [("new/a", kept, False)]


def test_a_lock_gets_longer_and_is_shortened_by_the_bypass_of_governance_alone(s3: "S3Client") -> None:
    bucket = versioned_bucket(s3, locked=True)
    now = datetime.now(UTC)

    def retain(key: str, mode: str, days: float, *, bypass: bool = False) -> bool:
        lock: Any = {"Mode": mode, "RetainUntilDate": now + timedelta(days=days)} if mode else {}
        try:
            s3.put_object_retention(Bucket=bucket, Key=key, Retention=lock, BypassGovernanceRetention=bypass)
        except ClientError as error:
            return error.response.get("Error", {}).get("Code") != "AccessDenied"
        return True

    for key, mode in (("g", "GOVERNANCE"), ("c", "COMPLIANCE")):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
        assert retain(key, mode, 1)
        assert retain(key, mode, 2)
        assert not retain(key, mode, 1)
    assert retain("g", "GOVERNANCE", 1, bypass=True)
    assert retain("g", "COMPLIANCE", 1)
    for days, mode in ((1.0, "COMPLIANCE"), (3.0, "GOVERNANCE"), (0.0, "")):
        assert not retain("c", mode, days, bypass=True)


def test_lifecycle_leaves_locked_versions_until_their_lock_ends(s3: "S3Client", control: AwsControl) -> None:
    bucket = versioned_bucket(s3, locked=True)
    set_lifecycle(s3, bucket, NoncurrentVersionExpiration={"NoncurrentDays": 1})
    now = datetime.now(UTC)
    until = now + timedelta(days=20)
    old = s3.put_object(
        Bucket=bucket, Key="a", Body=b"1", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    s3.put_object(Bucket=bucket, Key="a", Body=b"2")

    (held,) = control.apply_lifecycle(now + timedelta(days=10), bucket=bucket)
    assert (held.action, held.version_id) == ("locked", old)
    assert len(history(s3, bucket)) == 2
    (gone,) = control.apply_lifecycle(now + timedelta(days=21), bucket=bucket)
    assert (gone.action, gone.version_id) == ("expire-noncurrent", old)


def test_forgotten_uploads_are_aborted(s3: "S3Client", control: AwsControl) -> None:
    bucket = versioned_bucket(s3)
    set_lifecycle(s3, bucket, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    now = datetime.now(UTC)
    assert control.apply_lifecycle(now + timedelta(days=6), bucket=bucket) == []
    (action,) = control.apply_lifecycle(now + timedelta(days=9), bucket=bucket)
    assert (action.action, action.version_id) == ("abort-upload", upload)
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_of_many_conditional_writes_at_once_exactly_one_wins(s3: "S3Client", sandbox: Sandbox) -> None:
    bucket = versioned_bucket(s3)
    client = sandbox.aws().client("s3", config=Config(max_pool_connections=16, retries={"total_max_attempts": 1}))

    def claim(number: int) -> bool:
        try:
            client.put_object(Bucket=bucket, Key="lease", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                raise
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(claim, range(48))) == 1
    assert len(history(s3, bucket)) == 1


ISSUER = "oidc.example/id/TEST"
SUBJECT = "system:serviceaccount:aivo-system:test"


def make_role(sandbox: Sandbox, *actions: str) -> str:
    iam = sandbox.aws().client("iam")
    name = f"test-{uuid.uuid4().hex[:8]}"
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{ISSUER}:sub": SUBJECT, f"{ISSUER}:aud": "sts.amazonaws.com"}},
    }
    arn = iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(allowed))
    return arn


def test_under_enforcement_a_pod_gets_its_roles_rights_and_no_others(
    sandbox: Sandbox, s3: "S3Client", control: AwsControl
) -> None:
    bucket = versioned_bucket(s3)
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    role = make_role(sandbox, "s3:GetObject")
    control.enforce_iam(True)

    unsigned = sandbox.aws().client("sts", config=Config(signature_version=UNSIGNED))
    token = sandbox.web_identity_token(issuer=ISSUER, subject=SUBJECT, now=datetime.now(UTC), life=timedelta(minutes=5))
    answer = unsigned.assume_role_with_web_identity(RoleArn=role, RoleSessionName="pod", WebIdentityToken=token)
    credentials = answer["Credentials"]
    pod = sandbox.aws().client(
        "s3",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    assert pod.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
    with pytest.raises(ClientError, match="AccessDenied"):
        pod.put_object(Bucket=bucket, Key="a", Body=b"2")
    stranger = sandbox.aws().client("s3", aws_access_key_id="AKIAUNKNOWN", aws_secret_access_key="x")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        stranger.get_object(Bucket=bucket, Key="a")
    s3.put_object(Bucket=bucket, Key="a", Body=b"3")  # the administrator still may

    control.enforce_iam(False)
    pod.put_object(Bucket=bucket, Key="a", Body=b"2")


@pytest.mark.parametrize(
    ("issuer", "subject", "age_minutes", "why"),
    [
        (ISSUER, "system:serviceaccount:aivo-system:other", 0, "does not name system:serviceaccount:aivo-system:other"),
        ("oidc.example/id/OTHER", SUBJECT, 0, "of oidc.example/id/OTHER"),
        (ISSUER, SUBJECT, 10, "expired"),
    ],
)
def test_a_role_is_refused_to_a_service_account_that_it_does_not_trust(
    sandbox: Sandbox, control: AwsControl, issuer: str, subject: str, age_minutes: int, why: str
) -> None:
    role = make_role(sandbox, "s3:*")
    control.enforce_iam(True)
    begun = datetime.now(UTC) - timedelta(minutes=age_minutes)
    token = sandbox.web_identity_token(issuer=issuer, subject=subject, now=begun, life=timedelta(minutes=5))
    unsigned = sandbox.aws().client("sts", config=Config(signature_version=UNSIGNED))
    with pytest.raises(ClientError, match=why) as refused:
        unsigned.assume_role_with_web_identity(RoleArn=role, RoleSessionName="pod", WebIdentityToken=token)
    assert refused.value.response.get("Error", {}).get("Code") == "AccessDenied"


def test_a_forged_token_and_an_unknown_role_are_refused(sandbox: Sandbox, control: AwsControl) -> None:
    role = make_role(sandbox, "s3:*")
    control.enforce_iam(True)
    token = sandbox.web_identity_token(issuer=ISSUER, subject=SUBJECT, now=datetime.now(UTC), life=timedelta(minutes=5))
    forged = token.rpartition(".")[0] + ".AAAA"
    unsigned = sandbox.aws().client("sts", config=Config(signature_version=UNSIGNED))
    for arn, presented, why in ((role, forged, "not this sandbox's"), (f"{role}-none", token, "no role")):
        with pytest.raises(ClientError, match=why):
            unsigned.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="pod", WebIdentityToken=presented)


def test_metadata_keys_keep_their_underscores_also_when_signatures_are_checked(
    s3: "S3Client", control: AwsControl
) -> None:
    bucket = versioned_bucket(s3)
    control.enforce_iam(True)
    metadata = {"under_score": "1", "da-sh": "2", "both_a-b": "3"}
    s3.put_object(Bucket=bucket, Key="a", Body=b"", Metadata=metadata)
    assert s3.head_object(Bucket=bucket, Key="a")["Metadata"] == metadata


def test_the_control_interface_is_closed_without_the_token(sandbox: Sandbox) -> None:
    stranger = AwsControl(url=sandbox.aws_url, token="guess", ca_file=sandbox.ca_file)
    with pytest.raises(BackupError, match="token"):
        stranger.instance()


def test_motos_own_reset_cannot_be_reached(sandbox: Sandbox, s3: "S3Client") -> None:
    bucket = versioned_bucket(s3)
    at_reset = AwsControl(url=f"{sandbox.aws_url}/moto-api/reset?", token="", ca_file=sandbox.ca_file)
    with pytest.raises(BackupError):
        at_reset.enforce_iam(False)
    s3.head_bucket(Bucket=bucket)


def test_an_api_that_is_not_there_is_unreachable(sandbox: Sandbox) -> None:
    nowhere = AwsControl(url="https://localhost:1", token="", ca_file=sandbox.ca_file)
    with pytest.raises(UnreachableError, match="sandbox up"):
        nowhere.instance()
