"""Controls of keys, roles and who trusts whom."""

from itertools import product

from tests.infra.plans import Document, Plan, listed, statements

_BUCKET = "s3/bucket:Bucket"
# Nobody who writes, reads or restores may do any of these.
SPOILING = (
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObjectVersion",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectLegalHold",
    "s3:PutReplicationConfiguration",
    "kms:CreateGrant",
    "kms:DisableKey",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "iam:PassRole",
    "iam:PutRolePolicy",
)


def keys_rotate(plan: Plan) -> list[str]:
    """KMS.4, CKV_AWS_7."""
    return [
        key.name
        for key in plan.all("kms/key:Key")
        if key.inputs.get("customerMasterKeySpec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT"
        and not key.inputs.get("enableKeyRotation")
    ]


def keys_not_public(plan: Plan) -> list[str]:
    """KMS.5, CKV_AWS_33."""

    def everybody(statement: Document) -> bool:
        principal = statement["Principal"]
        return "*" in (listed(principal) if isinstance(principal, str) else listed(principal.get("AWS")))

    return [
        f"{key.name}: {statement['Sid']}"
        for key in plan.all("kms/key:Key")
        for statement in statements(key.document())
        if statement["Effect"] == "Allow" and everybody(statement)
    ]


def keys_and_buckets_protected(plan: Plan) -> list[str]:
    """KMS.3: in a protected environment, neither Pulumi nor a hurried person removes a key or a bucket."""
    if not plan.settings()["production"] and plan.stack != "staging":
        return []
    findings = [
        f"{resource.name}: not protected"
        for resource in [*plan.all("kms/key:Key"), *plan.all(_BUCKET)]
        if not resource.options.get("protect")
    ]
    findings += [
        f"{key.name}: deleted after {key.inputs['deletionWindowInDays']} days"
        for key in plan.all("kms/key:Key")
        if key.inputs["deletionWindowInDays"] != 30
    ]
    return findings + [
        f"{bucket.name}: may be emptied" for bucket in plan.all(_BUCKET) if bucket.inputs.get("forceDestroy")
    ]


def administrators_use_no_key(plan: Plan) -> list[str]:
    """Administration and use are apart: no statement of a key policy has both."""
    use = {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:Sign"}
    administration = {"kms:ScheduleKeyDeletion", "kms:PutKeyPolicy", "kms:DisableKey"}
    return [
        f"{key.name}: {statement['Sid']}"
        for key in plan.all("kms/key:Key")
        for statement in statements(key.document())
        if "kms:*" in listed(statement["Action"])
        or (use & set(listed(statement["Action"])) and administration & set(listed(statement["Action"])))
    ]


def no_role_decrypts_everything(plan: Plan) -> list[str]:
    """KMS.1, KMS.2."""
    return [
        f"{policy.name}: {statement['Sid']}"
        for policy in plan.all(":RolePolicy")
        for statement in statements(policy.document())
        if any(action.startswith("kms:") for action in listed(statement["Action"]))
        and "*" in listed(statement["Resource"])
    ]


def no_wildcards(plan: Plan) -> list[str]:
    """No role may do every action, nor act on every resource where the action knows resources."""
    without_resources = ("xray:", "ec2:Describe", "cloudwatch:GetMetric")
    return [
        f"{policy.name}: {statement['Sid']}"
        for policy in plan.all(":RolePolicy")
        for statement in statements(policy.document())
        if any(action.endswith("*") for action in listed(statement["Action"]))
        or (
            "*" in listed(statement["Resource"])
            and not all(action.startswith(without_resources) for action in listed(statement["Action"]))
        )
    ]


def roles_cannot_spoil(plan: Plan) -> list[str]:
    """No role can remove a version, shorten or bypass a lock, change a lifecycle, or take a key away."""
    return [
        f"{policy.name}: {action}"
        for policy, action in product(plan.all(":RolePolicy"), SPOILING)
        if any(action in listed(statement["Action"]) for statement in statements(policy.document()))
    ]


def roles_keep_to_their_store(plan: Plan) -> list[str]:
    """A writer's role names its own store's bucket and key, the compliance bucket and key, and nothing else's."""
    findings: list[str] = []
    for policy in plan.all(":RolePolicy"):
        store, _, what = policy.name.partition("-")
        if what not in ("writer-policy", "archiver-policy", "store-policy"):
            continue
        others = {"postgres", "minio", "opensearch"} - {store}
        foreign = [plan.outputs["keys"][other] for other in others]
        foreign += [f"arn:aws:s3:::{plan.outputs['buckets'][other]}" for other in others]
        findings += [
            f"{policy.name}: {resource}"
            for statement in statements(policy.document())
            for resource in listed(statement["Resource"])
            if any(resource.startswith(arn) for arn in foreign)
        ]
    return findings


def no_confused_deputy(plan: Plan) -> list[str]:
    """Confused deputy: whoever lets an AWS service act says on whose behalf, by source or encryption context."""
    context = tuple(f"kms:EncryptionContext:aws:{what}" for what in ("logs:arn", "sns:topicArn"))
    wanted = ("aws:SourceAccount", "aws:SourceArn", *context)
    documents = [(role.name, role.document("assumeRolePolicy")) for role in plan.all("iam/role:Role")]
    documents += [
        (resource.name, resource.document())
        for suffix in (":BucketPolicy", ":TopicPolicy", ":QueuePolicy", "kms/key:Key")
        for resource in plan.all(suffix)
    ]
    return [
        f"{name}: {statement['Sid']}"
        for name, document in documents
        for statement in statements(document)
        if "Service" in statement["Principal"]
        and not any(key in wanted for keys in statement.get("Condition", {}).values() for key in keys)
    ]


def web_identity_names_one_account(plan: Plan) -> list[str]:
    """Roles for pods trust one service account and one audience, by equality."""
    findings: list[str] = []
    for role in plan.all("iam/role:Role"):
        for statement in statements(role.document("assumeRolePolicy")):
            if "Federated" not in statement["Principal"]:
                continue
            equal = statement.get("Condition", {}).get("StringEquals", {})
            subjects = [value for key, value in equal.items() if key.endswith(":sub")]
            audiences = [value for key, value in equal.items() if key.endswith(":aud")]
            if len(subjects) != 1 or "*" in subjects[0] or audiences != ["sts.amazonaws.com"]:
                findings.append(role.name)
    return findings


def touched_objects_are_recorded(plan: Plan) -> list[str]:
    """CloudTrail.1, CloudTrail.2, CloudTrail.4: every region, encrypted, digests, data events of all buckets."""
    if not plan.settings()["production"]:
        return []
    trails = plan.all(":Trail")
    if len(trails) != 1:
        return ["no trail"]
    inputs = trails[0].inputs
    findings = [
        f"trail: {name}"
        for name in ("isMultiRegionTrail", "enableLogFileValidation", "kmsKeyId")
        if not inputs.get(name)
    ]
    watched = {
        start
        for entry in inputs["advancedEventSelectors"]
        for fields in entry["fieldSelectors"]
        for start in fields.get("startsWiths", [])
    }
    wanted = {use: f"arn:aws:s3:::{name}/" for use, name in plan.outputs["buckets"].items()}
    return findings + [
        f"trail: {use} is not watched"
        for use, arn in wanted.items()
        if use not in ("audit", "logs") and arn not in watched
    ]
