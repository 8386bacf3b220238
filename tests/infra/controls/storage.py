"""Controls of buckets."""

from collections.abc import Callable

from aivo_backup.policy.retention import AUDIT_DAYS, COMPLIANCE_DAYS, DISASTER_RECOVERY_DOCUMENT_DAYS
from tests.infra.plans import Document, Plan, Resource, listed, statements

_BUCKET = "s3/bucket:Bucket"


def _uses(plan: Plan) -> list[str]:
    return [bucket.name.removesuffix("-bucket") for bucket in plan.all(_BUCKET)]


def _data_uses(plan: Plan) -> list[str]:
    return [use for use in _uses(plan) if not use.startswith("logs")]


def _each_bucket(plan: Plan, suffix: str, part: str, good: Callable[[Resource], bool], uses: list[str]) -> list[str]:
    found = {resource.name: resource for resource in plan.all(suffix)}
    return [f"{use}: {part}" for use in uses if f"{use}-{part}" not in found or not good(found[f"{use}-{part}"])]


_SWITCHES = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def account_closed_to_the_public(plan: Plan) -> list[str]:
    """S3.1: public access is refused for the account, and stays so when the environment is destroyed."""
    if plan.stack == "local":
        return []
    blocks = plan.all(":AccountPublicAccessBlock")
    good = [
        block
        for block in blocks
        if block.inputs["accountId"] == plan.settings()["account_id"]
        and all(block.inputs.get(switch) is True for switch in _SWITCHES)
        and block.options.get("retainOnDelete")
    ]
    return [] if len(blocks) == len(good) == 1 else ["the account lets the public in"]


def public_access_blocked(plan: Plan) -> list[str]:
    """S3.8, CKV_AWS_53, CKV_AWS_54, CKV_AWS_55, CKV_AWS_56."""
    return _each_bucket(
        plan,
        ":BucketPublicAccessBlock",
        "public-access",
        lambda block: all(block.inputs.get(switch) is True for switch in _SWITCHES),
        _uses(plan),
    )


def versioned(plan: Plan) -> list[str]:
    """S3.14, CKV_AWS_21."""
    return _each_bucket(
        plan,
        ":BucketVersioning",
        "versioning",
        lambda entry: entry.inputs["versioningConfiguration"]["status"] == "Enabled",
        _uses(plan),
    )


def encrypted_with_own_key(plan: Plan) -> list[str]:
    """S3.17, CKV_AWS_19, CKV_AWS_145: every bucket but that of access logs, which S3 cannot deliver to under KMS."""

    def good(entry: Resource) -> bool:
        (rule,) = entry.inputs["rules"]
        default = rule["applyServerSideEncryptionByDefault"]
        return default["sseAlgorithm"] == "aws:kms" and bool(default["kmsMasterKeyId"]) and rule["bucketKeyEnabled"]

    return _each_bucket(plan, ":BucketServerSideEncryptionConfiguration", "encryption", good, _data_uses(plan))


def access_logged(plan: Plan) -> list[str]:
    """S3.9."""
    return _each_bucket(
        plan, ":BucketLogging", "logging", lambda entry: bool(entry.inputs["targetBucket"]), _data_uses(plan)
    )


def no_acls(plan: Plan) -> list[str]:
    """S3.12."""
    return _each_bucket(
        plan,
        ":BucketOwnershipControls",
        "ownership",
        lambda entry: entry.inputs["rule"]["objectOwnership"] == "BucketOwnerEnforced",
        _uses(plan),
    )


def has_lifecycle(plan: Plan) -> list[str]:
    """S3.13, CKV_AWS_300: abandoned uploads end, superseded versions go."""

    def good(entry: Resource) -> bool:
        rules = entry.inputs["rules"]
        return any("abortIncompleteMultipartUpload" in rule for rule in rules) and any(
            "noncurrentVersionExpiration" in rule for rule in rules
        )

    return _each_bucket(plan, ":BucketLifecycleConfiguration", "lifecycle", good, _uses(plan))


def current_objects_stay(plan: Plan) -> list[str]:
    """No lifecycle expires a current object of a store's bucket: only the store knows what is still needed."""
    return _each_bucket(
        plan,
        ":BucketLifecycleConfiguration",
        "lifecycle",
        lambda entry: not any("days" in rule.get("expiration", {}) for rule in entry.inputs["rules"]),
        ["postgres", "minio", "opensearch"],
    )


def versions_outlive_points(plan: Plan) -> list[str]:
    """A superseded version stays for as long as a point that may need it."""
    settings = plan.settings()
    wanted = {
        "postgres": settings["postgres"]["recovery_window_days"],
        "minio": settings["minio"]["retention_days"],
        "opensearch": settings["opensearch"]["retention_days"],
    }
    findings: list[str] = []
    for use, days in wanted.items():
        rules = plan.one(":BucketLifecycleConfiguration", f"{use}-lifecycle").inputs["rules"]
        kept = [
            rule["noncurrentVersionExpiration"]["noncurrentDays"]
            for rule in rules
            if "noncurrentVersionExpiration" in rule
        ]
        if min(kept) < days:
            findings.append(f"{use}: superseded versions stay {min(kept)} days, points {days}")
    return findings


def _denies(policy: Document, action: str, operator: str, key: str, value: str) -> bool:
    return any(
        statement["Effect"] == "Deny"
        and statement["Principal"] == {"AWS": "*"}
        and action in listed(statement["Action"])
        and statement.get("Condition", {}).get(operator, {}).get(key) == value
        for statement in statements(policy)
    )


def _policy_control(plan: Plan, uses: list[str], what: str, good: Callable[[Document], bool]) -> list[str]:
    return [f"{use}: {what}" for use in uses if not good(plan.one(":BucketPolicy", f"{use}-policy").document())]


def only_over_tls(plan: Plan) -> list[str]:
    """S3.5, CKV_AWS_379."""
    return _policy_control(
        plan,
        _uses(plan),
        "plain HTTP is let in",
        lambda policy: (
            _denies(policy, "s3:*", "Bool", "aws:SecureTransport", "false")
            and _denies(policy, "s3:*", "NumericLessThan", "s3:TlsVersion", "1.2")
        ),
    )


def customer_keys_denied(plan: Plan) -> list[str]:
    """SSE-C: objects under a key that only an attacker has are lost to us."""
    header = "s3:x-amz-server-side-encryption-customer-algorithm"

    def good(policy: Document) -> bool:
        return _denies(policy, "s3:PutObject", "Null", header, "false")

    return _policy_control(plan, _data_uses(plan), "SSE-C is let in", good)


def wrong_key_denied(plan: Plan) -> list[str]:
    """A put that names another key, or none of ours, is refused; one that names no key is not."""
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"

    def good(use: str) -> bool:
        encryption = plan.one(":BucketServerSideEncryptionConfiguration", f"{use}-encryption")
        key = encryption.inputs["rules"][0]["applyServerSideEncryptionByDefault"]["kmsMasterKeyId"]
        policy = plan.one(":BucketPolicy", f"{use}-policy").document()
        return any(
            statement["Effect"] == "Deny"
            and statement["Condition"] == {"Null": {header: "false"}, "ArnNotEquals": {header: key}}
            for statement in statements(policy)
        )

    return [f"{use}: another key is let in" for use in _data_uses(plan) if not good(use)]


def no_foreign_principal(plan: Plan) -> list[str]:
    """S3.6, CKV_AWS_70: bucket policies allow nobody but log delivery, and that on our account's behalf."""
    findings: list[str] = []
    for use in _uses(plan):
        for statement in statements(plan.one(":BucketPolicy", f"{use}-policy").document()):
            account = statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")
            if statement["Effect"] == "Allow" and not ("Service" in statement["Principal"] and account):
                findings.append(f"{use}: {statement['Sid']} allows {statement['Principal']}")
    return findings


_LOCKED = {
    "compliance": COMPLIANCE_DAYS,
    "audit": AUDIT_DAYS,
    "dr-documents": DISASTER_RECOVERY_DOCUMENT_DAYS,
    "vault": COMPLIANCE_DAYS,
}


def _locked_uses(plan: Plan) -> dict[str, int]:
    return {
        use: _LOCKED[use.removesuffix("-replica")] for use in _uses(plan) if use.removesuffix("-replica") in _LOCKED
    }


def records_written_once(plan: Plan) -> list[str]:
    """What is locked is created, never overwritten and never hidden by a delete marker."""
    findings: list[str] = []
    for use in _locked_uses(plan):
        policy = plan.one(":BucketPolicy", f"{use}-policy").document()
        # Replication writes the copies, and CloudTrail the audit log: neither asks for write-once.
        if use in ("compliance", "dr-documents", "vault") and not _denies(
            policy, "s3:PutObject", "Null", "s3:if-none-match", "true"
        ):
            findings.append(f"{use}: an object can be overwritten")
        markers = [
            statement
            for statement in statements(policy)
            if statement["Effect"] == "Deny" and "s3:DeleteObject" in listed(statement["Action"])
        ]
        if not any("Condition" not in statement for statement in markers):
            findings.append(f"{use}: an object can be hidden by a delete marker")
    return findings


def locked(plan: Plan) -> list[str]:
    """S3.15, CKV_AWS_143: each class is locked, in production for good and for exactly what is promised."""
    findings: list[str] = []
    locks = {
        entry.name: entry.inputs["rule"]["defaultRetention"] for entry in plan.all(":BucketObjectLockConfiguration")
    }
    evidence = plan.settings()["evidence"]
    for use, promised in _locked_uses(plan).items():
        lock = locks.get(f"{use}-lock")
        if lock is None or not plan.one(_BUCKET, f"{use}-bucket").inputs.get("objectLockEnabled"):
            findings.append(f"{use}: no object lock")
            continue
        if lock["days"] > promised:
            findings.append(f"{use}: locked for {lock['days']} days, promised are {promised}")
        if plan.settings()["production"] and (lock["mode"], lock["days"]) != ("COMPLIANCE", promised):
            findings.append(f"{use}: {lock['mode']} for {lock['days']} days in production")
        if use == "compliance" and (lock["mode"], lock["days"]) != (evidence["lock_mode"], evidence["lock_days"]):
            findings.append("compliance: the default lock is not the one that writers set")
    return findings


def locked_objects_go_when_their_class_is_over(plan: Plan) -> list[str]:
    """COPPA: no lock and no lifecycle keeps anything beyond its class, and none ends it early."""
    findings: list[str] = []
    for use, promised in _locked_uses(plan).items():
        rules = plan.one(":BucketLifecycleConfiguration", f"{use}-lifecycle").inputs["rules"]
        ends = [rule["expiration"]["days"] for rule in rules if "days" in rule.get("expiration", {})]
        if ends != [promised]:
            findings.append(f"{use}: ends after {ends} days, promised are {promised}")
    return findings


def replicated(plan: Plan) -> list[str]:
    """CKV_AWS_144: in production every backup bucket has a copy in another region, under a key of that region."""
    if not plan.settings()["production"] and not plan.settings()["replica"]["region"]:
        return []
    rules = {entry.name: entry.inputs["rules"] for entry in plan.all(":BucketReplicationConfig")}
    findings: list[str] = []
    for use in _data_uses(plan):
        if use.endswith("-replica"):
            continue
        rule = rules.get(f"{use}-replication", [{}])[0]
        target = rule.get("destination", {})
        key = target.get("encryptionConfiguration", {}).get("replicaKmsKeyId", "")
        if rule.get("status") != "Enabled" or not target.get("bucket", "").endswith("-replica"):
            findings.append(f"{use}: not replicated")
        elif "-replica-key" not in key or rule["deleteMarkerReplication"]["status"] != "Enabled":
            findings.append(f"{use}: replicated without a key of its own, or without deletions")
    return findings


def only_replication_writes_copies(plan: Plan) -> list[str]:
    """A copy is written by S3 alone."""
    return [
        use
        for use in _data_uses(plan)
        if use.endswith("-replica")
        and not any(
            statement["Effect"] == "Deny"
            and {"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"} <= set(listed(statement["Action"]))
            and "Condition" not in statement
            for statement in statements(plan.one(":BucketPolicy", f"{use}-policy").document())
        )
    ]
