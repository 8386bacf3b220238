"""Each role's real session against the AWS API with IAM enforced: its work is allowed, and no attack is.

What is asked is the table that the policy evaluator judges too (``tests/infra/asks.py``). Policies are enforced as the
sandbox holds them, widened where moto is narrower than AWS (``sandbox/provision/weakening.py``); what conditions, key
policies and bucket policies stop is therefore the evaluator's to judge, not this one's.
"""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from aivo_backup.observability.doctor import backup_checks, examine, minio_checks
from aivo_backup.policy import names
from aivo_backup.policy.environment import Component, MinioSettings
from aivo_backup.policy.names import Role
from infra.access import SECRET_READERS, SETTINGS_READERS
from infra.identity import FUNCTION_ROLES
from sandbox.plan import register
from sandbox.provision.weakening import weakened_permissions
from sandbox.state import ACCOUNT, REGION, Sandbox
from tests.infra.asks import ATTACKS, CIPHER, NEEDS, RECORD, USES, Ask
from tests.infra.plans import Plan, listed, statements
from tests.sandbox.lone import provision_lone

if TYPE_CHECKING:
    from types_boto3_kms.client import KMSClient
    from types_boto3_s3.client import S3Client

ELSEWHERE = {
    # The sandbox's OpenSearch has no S3 plug-in, and its account no second region: their roles exist in the others.
    "aivo-backup:opensearch": {"repository_type": "s3", "fs_location": ""},
    "aivo-backup:replica": {"region": "us-west-2"},
}
NO_CALL = {"s3:GetObjectVersionForReplication"}
"""What S3 asks of itself, by no call of its API."""

# An answer that comes after the permission: the thing asked for is not there, or there already.
_PERMITTED = {"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "PreconditionFailed"}


@dataclass(frozen=True, kw_only=True)
class World:
    """The account as attackers find it: every bucket holds something, and the record is locked."""

    sandbox: Sandbox
    versions: dict[str, str]
    cipher: dict[tuple[str, bool], bytes]


@dataclass(frozen=True)
class Session:
    """A role's own session."""

    world: World
    aws: boto3.Session

    @cached_property
    def s3(self) -> "S3Client":
        return self.client("s3")

    @cached_property
    def kms(self) -> "KMSClient":
        return self.client("kms")

    def client(self, service: Any) -> Any:
        sandbox = self.world.sandbox
        aws: Any = self.aws  # the stubs know one overload for each of AWS's services
        return aws.client(service, endpoint_url=sandbox.aws_url, verify=str(sandbox.ca_file))

    def asks(self, ask: Ask) -> bool:
        """Whether it is allowed. Any other failure than a refusal is the test's own."""
        try:
            CALLS[ask.action](self, ask)
        except ClientError as error:
            if not _refused(error) and error.response.get("Error", {}).get("Code") not in _PERMITTED:
                raise
            return not _refused(error)
        return True


def _refused(error: ClientError) -> bool:
    # JSON services answer a refusal with 400.
    code = error.response.get("Error", {}).get("Code", "")
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403 or code.startswith("AccessDenied")


def _bucket(ask: Ask) -> str:
    return f"aivo-backup-{ask.use}"


def _key(ask: Ask) -> str:
    return names.key_alias("local", names.key_of(ask.use))


def _put(session: Session, ask: Ask) -> object:
    once: dict[str, Any] = {"IfNoneMatch": "*"} if "s3:if-none-match" in ask.context else {}
    return session.s3.put_object(
        Bucket=_bucket(ask), Key=ask.key, Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId=_key(ask), **once
    )


def _get_version(session: Session, ask: Ask) -> object:
    return session.s3.get_object(Bucket=_bucket(ask), Key=ask.key, VersionId=session.world.versions[ask.use])


def _retain(session: Session, ask: Ask) -> object:
    until = datetime.now(UTC) + timedelta(days=2)
    lock: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    return session.s3.put_object_retention(Bucket=_bucket(ask), Key=ask.key, Retention=lock)


def _abort(session: Session, ask: Ask) -> object:
    return session.s3.abort_multipart_upload(Bucket=_bucket(ask), Key=ask.key, UploadId="none")


def _delete_version(session: Session, ask: Ask, **more: Any) -> object:
    version = session.world.versions[ask.use]
    return session.s3.delete_object(Bucket=_bucket(ask), Key=ask.key, VersionId=version, **more)


def _decrypt(session: Session, ask: Ask) -> object:
    wrapped = CIPHER.items() <= ask.context.items()
    context = names.CIPHER_CONTEXT if wrapped else {}
    return session.kms.decrypt(CiphertextBlob=session.world.cipher[ask.use, wrapped], EncryptionContext=context)


def _anybody() -> str:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


_RULE: Any = {"ID": "gone", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
_PLAIN: Any = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
_NO_LOCK: Any = {"ObjectLockEnabled": "Enabled"}

CALLS: dict[str, Callable[[Session, Ask], object]] = {
    "s3:ListBucket": lambda it, ask: it.s3.list_objects_v2(Bucket=_bucket(ask), MaxKeys=1),
    "s3:GetObject": lambda it, ask: it.s3.get_object(Bucket=_bucket(ask), Key=ask.key),
    "s3:GetObjectVersion": _get_version,
    "s3:PutObject": _put,
    "s3:PutObjectRetention": _retain,
    "s3:AbortMultipartUpload": _abort,
    "s3:DeleteObject": lambda it, ask: it.s3.delete_object(Bucket=_bucket(ask), Key=ask.key),
    "s3:DeleteObjectVersion": _delete_version,
    "s3:BypassGovernanceRetention": lambda it, ask: _delete_version(it, ask, BypassGovernanceRetention=True),
    "s3:PutObjectAcl": lambda it, ask: it.s3.put_object_acl(Bucket=_bucket(ask), Key=ask.key, ACL="public-read"),
    "s3:PutObjectLegalHold": lambda it, ask: it.s3.put_object_legal_hold(
        Bucket=_bucket(ask), Key=ask.key, LegalHold={"Status": "OFF"}
    ),
    "s3:DeleteBucket": lambda it, ask: it.s3.delete_bucket(Bucket=_bucket(ask)),
    "s3:DeleteBucketPolicy": lambda it, ask: it.s3.delete_bucket_policy(Bucket=_bucket(ask)),
    "s3:PutBucketPolicy": lambda it, ask: it.s3.put_bucket_policy(Bucket=_bucket(ask), Policy=_anybody()),
    "s3:PutBucketObjectLockConfiguration": lambda it, ask: it.s3.put_object_lock_configuration(
        Bucket=_bucket(ask), ObjectLockConfiguration=_NO_LOCK
    ),
    "s3:PutBucketVersioning": lambda it, ask: it.s3.put_bucket_versioning(
        Bucket=_bucket(ask), VersioningConfiguration={"Status": "Suspended"}
    ),
    "s3:PutEncryptionConfiguration": lambda it, ask: it.s3.put_bucket_encryption(
        Bucket=_bucket(ask), ServerSideEncryptionConfiguration=_PLAIN
    ),
    "s3:PutLifecycleConfiguration": lambda it, ask: it.s3.put_bucket_lifecycle_configuration(
        Bucket=_bucket(ask), LifecycleConfiguration={"Rules": [_RULE]}
    ),
    "kms:Decrypt": _decrypt,
    "kms:Encrypt": lambda it, ask: it.kms.encrypt(
        KeyId=_key(ask), Plaintext=b"pass", EncryptionContext=names.CIPHER_CONTEXT
    ),
    "kms:GenerateDataKey": lambda it, ask: it.kms.generate_data_key(KeyId=_key(ask), KeySpec="AES_256"),
    "kms:DescribeKey": lambda it, ask: it.kms.describe_key(KeyId=_key(ask)),
    "kms:ListGrants": lambda it, ask: it.kms.list_grants(KeyId=_key(ask)),
    "kms:CreateGrant": lambda it, ask: it.kms.create_grant(
        KeyId=_key(ask), GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:root", Operations=["Decrypt"]
    ),
    "kms:DisableKey": lambda it, ask: it.kms.disable_key(KeyId=_key(ask)),
    "kms:PutKeyPolicy": lambda it, ask: it.kms.put_key_policy(KeyId=_key(ask), PolicyName="default", Policy=_anybody()),
    "kms:ScheduleKeyDeletion": lambda it, ask: it.kms.schedule_key_deletion(KeyId=_key(ask), PendingWindowInDays=7),
}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """An account of these tests' own: what roles write here (leases, records) is no lease and no record."""
    home = tmp_path_factory.mktemp("attacked")
    try:
        yield provision_lone(home).sandbox
    finally:
        Sandbox(home=home).processes.stop_all()


@pytest.fixture(scope="module")
def world(attacked: Sandbox) -> World:
    sandbox = attacked
    aws = sandbox.aws()
    s3, kms = aws.client("s3"), aws.client("kms")
    versions: dict[str, str] = {}
    cipher: dict[tuple[str, bool], bytes] = {}
    for use in USES:
        answer = s3.put_object(Bucket=f"aivo-backup-{use}", Key="any/key", Body=b"backup")
        versions[use] = answer.get("VersionId", "")
        for wrapped in (False, True):
            context = names.CIPHER_CONTEXT if wrapped else {}
            key = names.key_alias("local", use)
            cipher[use, wrapped] = kms.encrypt(KeyId=key, Plaintext=b"pass", EncryptionContext=context)[
                "CiphertextBlob"
            ]
    s3.put_object(Bucket="aivo-backup-compliance", Key=RECORD, Body=b"{}")
    return World(sandbox=sandbox, versions=versions, cipher=cipher)


@pytest.fixture(scope="module")
def plan(world: World) -> Generator[Plan]:
    """The program with every role there is; those that the sandbox has no subject for are added to its account."""
    plan = Plan.of("local", register("local", overrides=ELSEWHERE))
    iam = world.sandbox.aws().client("iam")
    there = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    added = [name for name in (names.role_name("local", role) for role in Role) if name not in there]
    for name in added:
        iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        )
        role = name.removeprefix(names.role_name("local", Role.AGENT).removesuffix(Role.AGENT.value))
        document = weakened_permissions(plan.one(":RolePolicy", f"{role}-policy").document())
        iam.put_role_policy(RoleName=name, PolicyName="access", PolicyDocument=json.dumps(document))
    yield plan
    for name in added:
        iam.delete_role_policy(RoleName=name, PolicyName="access")
        iam.delete_role(RoleName=name)


@pytest.fixture(scope="module")
def session(world: World, plan: Plan) -> Callable[[Role], Session]:
    """Opens a role's session as its subject does: a pod with its service account's token, others through STS."""
    sandbox = world.sandbox
    issuer = "oidc.sandbox.invalid/id/LOCAL"
    sts = sandbox.aws().client("sts")
    there = {role["RoleName"]: role for role in sandbox.aws().client("iam").list_roles()["Roles"]}

    def open_session(role: Role) -> Session:
        name = names.role_name("local", role)
        arn = names.role_arn(ACCOUNT, "local", role)
        held: Any = there[name].get("AssumeRolePolicyDocument")
        (trust,) = statements(held)
        answer: Any
        if "Federated" in trust["Principal"]:
            subject = trust["Condition"]["StringEquals"][f"{issuer}:sub"]
            token = sandbox.web_identity_token(
                issuer=issuer, subject=subject, now=datetime.now(UTC), life=timedelta(minutes=10)
            )
            answer = sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="test", WebIdentityToken=token)
        else:
            answer = sts.assume_role(RoleArn=arn, RoleSessionName="test")
        found = answer["Credentials"]
        aws = boto3.Session(
            aws_access_key_id=found["AccessKeyId"],
            aws_secret_access_key=found["SecretAccessKey"],
            aws_session_token=found["SessionToken"],
            region_name=REGION,
        )
        return Session(world, aws)

    return open_session


Open = Callable[[Role], Session]


def test_what_is_enforced_differs_from_what_was_written_only_where_moto_is_narrower(world: World, plan: Plan) -> None:
    iam = world.sandbox.aws().client("iam")
    for role in Role:
        written = statements(plan.one(":RolePolicy", f"{role.value}-policy").document())
        held: Any = iam.get_role_policy(RoleName=names.role_name("local", role), PolicyName="access")["PolicyDocument"]
        originals = {statement["Sid"]: statement for statement in written}
        for statement in statements(held):
            original = originals[statement["Sid"].removesuffix("Widened")]
            actions, resources = set(listed(statement["Action"])), set(listed(statement["Resource"]))
            assert statement["Effect"] == original["Effect"]
            assert statement.get("Condition") == original.get("Condition")
            assert {action for action in actions if not action.startswith("monitoring:")} <= set(
                listed(original["Action"])
            )
            if any(action.startswith(("s3:", "sqs:", "sts:", "iam:")) for action in actions):
                # The bucket beside its keys, for a request that deletes several; nothing else.
                buckets = {resource.partition("/")[0] for resource in listed(original["Resource"])}
                added = resources - set(listed(original["Resource"]))
                assert added <= (buckets if "s3:DeleteObject" in actions else set())
        assert {statement["Sid"].removesuffix("Widened") for statement in statements(held)} == set(originals)


@pytest.mark.parametrize("role", Role)
def test_a_role_may_do_its_work(session: Open, role: Role) -> None:
    own = session(role)
    assert [ask for ask in NEEDS[role] if ask.action not in NO_CALL and not own.asks(ask)] == []


@pytest.mark.parametrize("role", Role)
def test_no_role_may_do_what_is_on_the_list_of_attacks(session: Open, role: Role) -> None:
    own = session(role)
    assert [ask for ask in ATTACKS if own.asks(ask)] == []


def test_the_administrator_may_so_the_list_is_refused_for_the_roles_sake(world: World) -> None:
    """Every call of the list is one that the API answers: a typing error must not pass for a refusal."""
    administrator = Session(world, world.sandbox.aws())
    kept = [*NEEDS[Role.INITIALISER], Ask(action="s3:DeleteObjectVersion", use="minio", key="any/key")]
    for ask in kept:
        assert administrator.asks(ask)
    assert {ask.action for ask in (*ATTACKS, *(ask for asks in NEEDS.values() for ask in asks))} - NO_CALL == set(CALLS)


@pytest.mark.parametrize("role", Role)
def test_no_role_shortens_bypasses_or_lifts_the_lock_of_a_record(session: Open, world: World, role: Role) -> None:
    s3 = session(role).s3
    record: Any = {"Bucket": "aivo-backup-compliance", "Key": RECORD}
    before = world.sandbox.aws().client("s3").head_object(**record).get("ObjectLockRetainUntilDate")
    for lock in ({}, {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=5)}):
        for bypass in (False, True):
            retention: Any = lock
            with pytest.raises(ClientError) as refusal:
                s3.put_object_retention(**record, Retention=retention, BypassGovernanceRetention=bypass)
            assert _refused(refusal.value)
    assert world.sandbox.aws().client("s3").head_object(**record).get("ObjectLockRetainUntilDate") == before


@pytest.mark.parametrize("role", Role)
def test_no_role_deletes_versions_by_the_dozen(session: Open, world: World, role: Role) -> None:
    """Deleting several objects at once is another request than deleting one; a writer may do it for markers only."""
    for use in USES:
        objects: Any = [{"Key": "any/key", "VersionId": world.versions[use]}]
        answer: Any
        try:
            answer = session(role).s3.delete_objects(Bucket=f"aivo-backup-{use}", Delete={"Objects": objects})
        except ClientError as error:
            answer = {"Errors": [error.response]}
        assert answer.get("Errors"), use
        assert not answer.get("Deleted")


@pytest.mark.parametrize("role", Role)
def test_settings_secrets_and_calls_are_for_those_who_need_them(session: Open, role: Role) -> None:
    own = session(role)

    def allowed(call: Callable[[], object]) -> bool:
        try:
            call()
        except ClientError as error:
            return not _refused(error)
        return True

    parameter = names.settings_parameter("local")
    assert allowed(lambda: own.client("ssm").get_parameter(Name=parameter)) is (role in SETTINGS_READERS)
    for secret in (names.SECRET_MINIO_SOURCE, names.SECRET_OPENSEARCH):
        named = names.secret_name("local", secret)
        reads = allowed(lambda: own.client("secretsmanager").get_secret_value(SecretId=named))  # noqa: B023
        assert reads is (secret in SECRET_READERS.get(role, ()))
    sqs = own.client("sqs")
    queue = f"{own.world.sandbox.aws_url}/{ACCOUNT}/{names.failed_events_queue('local')}"
    sends = role is Role.SCHEDULER or role in FUNCTION_ROLES.values()
    assert allowed(lambda: sqs.send_message(QueueUrl=queue, MessageBody="{}")) is sends
    iam = own.client("iam")
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    name = names.role_name("local", role)
    assert not allowed(lambda: iam.put_role_policy(RoleName=name, PolicyName="more", PolicyDocument=json.dumps(wide)))


def test_doctor_tells_what_is_denied_from_what_is_away(session: Open) -> None:
    """Under a role that may do nothing with data, and at a source that keeps one of two buckets from its reader."""
    nobody, reader = session(Role.SCHEDULER), session(Role.MINIO_WRITER)
    key = names.key_alias("local", "postgres")
    checks = backup_checks(Component.POSTGRES, nobody.s3, nobody.kms, bucket="aivo-backup-postgres", key=key)
    for buckets in (("aivo-backup-minio",), ("aivo-backup-minio", "aivo-backup-postgres")):
        checks += minio_checks(lambda: reader.s3, MinioSettings(endpoint="https://s3", buckets=buckets))[1:]
    assert [check.name for check in checks[-2:]] == ["permissions", "permissions"]
    denied = [finding for finding in examine(checks) if not finding.passed]
    assert [finding.check for finding in denied] == ["backup bucket", "key state", "key grants", "permissions"]
    assert {finding.mend for finding in denied} == {"check the credentials and the role's policy"}
    assert "aivo-backup-postgres: access denied" in denied[-1].evidence
