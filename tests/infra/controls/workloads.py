"""Controls of functions, alarms, secrets and pods."""

from tests.infra.plans import Document, Plan, listed, statements

# Runtimes that AWS still mends at the end of 2026; whoever takes a newer one adds it here.
_MAINTAINED_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")


def functions_bounded(plan: Plan) -> list[str]:
    """CKV_AWS_115, CKV_AWS_116, CKV_AWS_117, CKV_AWS_173, Lambda.3, Lambda.5; and no event is lost."""
    findings: list[str] = []
    for function in plan.all(":Function"):
        inputs = function.inputs
        if not inputs.get("deadLetterConfig", {}).get("targetArn"):
            findings.append(f"{function.name}: no dead-letter queue")
        if not inputs.get("kmsKeyArn"):
            findings.append(f"{function.name}: variables under AWS's own key")
        if not plan.settings()["production"]:
            continue
        if len(inputs.get("vpcConfig", {}).get("subnetIds", [])) < 2:
            findings.append(f"{function.name}: not in two subnets of a VPC")
        if not inputs.get("reservedConcurrentExecutions"):
            findings.append(f"{function.name}: concurrency without bound")
    findings += [
        f"{schedule.name}: undelivered events are lost"
        for schedule in plan.all(":Schedule")
        if not schedule.inputs["target"].get("deadLetterConfig", {}).get("arn")
    ]
    return findings


def functions_not_public(plan: Plan) -> list[str]:
    """Lambda.1: nobody outside the account calls a function, neither by its policy nor by a URL of its own."""
    account = plan.settings()["account_id"]
    findings: list[str] = []
    for grant in plan.all("lambda/permission:Permission"):
        principal = grant.inputs["principal"]
        service = principal.endswith(".amazonaws.com") and grant.inputs.get("sourceAccount") == account
        if not (service or principal == account or principal.startswith(f"arn:aws:iam::{account}:")):
            findings.append(f"{grant.name}: {principal} may call")
    return findings + [
        f"{url.name}: anybody may call"
        for url in plan.all("lambda/functionUrl:FunctionUrl")
        if url.inputs.get("authorizationType") != "AWS_IAM"
    ]


def function_code_is_what_was_tested(plan: Plan) -> list[str]:
    """Lambda.2, CKV_AWS_272: a runtime that is mended, and code that nobody exchanges.

    AWS cannot sign an image's code, but its digest says which bytes run; of a zip, a signature does, or the hash that
    the program states, by which another zip is seen and replaced. The sandbox builds its image where it runs.
    """
    findings: list[str] = []
    for function in plan.all(":Function"):
        inputs = function.inputs
        if inputs["packageType"] == "Image":
            if plan.stack != "local" and "@sha256:" not in inputs.get("imageUri", ""):
                findings.append(f"{function.name}: image not pinned")
            continue
        if inputs.get("runtime") not in _MAINTAINED_RUNTIMES:
            findings.append(f"{function.name}: {inputs.get('runtime')} is not mended any more")
        if not inputs.get("codeSigningConfigArn") and not inputs.get("sourceCodeHash"):
            findings.append(f"{function.name}: any code is let in")
    return findings


def event_buses_are_guarded(plan: Plan) -> list[str]:
    """EventBridge.3: a bus of our own says who may put events on it, and that is not everybody."""
    guarded = {
        policy.inputs.get("eventBusName")
        for policy in plan.all(":EventBusPolicy")
        if not any(_everybody(statement) for statement in statements(policy.document()))
    }
    return [bus.name for bus in plan.all(":EventBus") if bus.inputs["name"] not in guarded]


def _everybody(statement: Document) -> bool:
    principal = statement["Principal"]
    named = listed(principal) if isinstance(principal, str) else listed(principal.get("AWS"))
    return statement["Effect"] == "Allow" and "*" in named and "Condition" not in statement


def logs_kept(plan: Plan) -> list[str]:
    """CKV_AWS_158, CKV_AWS_338: every function's log group is ours, encrypted, and kept for a year."""
    groups = {group.inputs["name"]: group for group in plan.all(":LogGroup")}
    findings: list[str] = []
    for function in plan.all(":Function"):
        group = groups.get(f"/aws/lambda/{function.inputs['name']}")
        if group is None or not group.inputs.get("kmsKeyId") or group.inputs["retentionInDays"] < 365:
            findings.append(function.name)
    return findings


def queues_and_topics_encrypted(plan: Plan) -> list[str]:
    """SNS.1, and the same for queues, secrets and the settings parameter."""
    findings = [
        entry.name for entry in [*plan.all(":Queue"), *plan.all(":Topic")] if not entry.inputs.get("kmsMasterKeyId")
    ]
    findings += [entry.name for entry in plan.all(":Secret") if not entry.inputs.get("kmsKeyId")]
    return findings + [entry.name for entry in plan.all(":Parameter") if entry.inputs["type"] != "SecureString"]


def absence_alarms(plan: Plan) -> list[str]:
    """Every function has an alarm that goes off when it is not called at all."""
    watched = {
        alarm.inputs["dimensions"]["FunctionName"]
        for alarm in plan.all(":MetricAlarm")
        if alarm.inputs.get("treatMissingData") == "breaching"
        and alarm.inputs["metricName"] == "Invocations"
        and alarm.inputs.get("alarmActions")
    }
    return [function.name for function in plan.all(":Function") if function.inputs["name"] not in watched]


def alarms_watch_what_is_published(plan: Plan) -> list[str]:
    """Each alarm names a metric that AWS publishes of a function, a rule or a queue of ours.

    A metric that nobody publishes is either always breaching or never, and tells nothing.
    """
    published = {
        "AWS/Lambda": ("FunctionName", {entry.inputs["name"] for entry in plan.all(":Function")}),
        "AWS/Events": ("RuleName", {entry.inputs["name"] for entry in plan.all(":EventRule")}),
        "AWS/SQS": ("QueueName", {entry.inputs["name"] for entry in plan.all(":Queue")}),
    }
    findings: list[str] = []
    for alarm in plan.all(":MetricAlarm"):
        dimension, existing = published.get(alarm.inputs["namespace"], ("", set()))
        if alarm.inputs.get("dimensions", {}).get(dimension) not in existing:
            findings.append(f"{alarm.name}: nobody publishes {alarm.inputs['namespace']}")
    return findings


def no_secret_values(plan: Plan) -> list[str]:
    """Secrets are named, never held: no value in Pulumi's state, no Kubernetes secret."""
    return [f"{entry.type} {entry.name}" for entry in [*plan.all(":SecretVersion"), *plan.all("core/v1:Secret")]]


def pods_restricted(plan: Plan) -> list[str]:
    """Every pod fits the *restricted* Pod Security level, with a read-only root and limited memory."""
    findings: list[str] = []
    for workload in [*plan.all(":CronJob"), *plan.all(":Deployment")]:
        spec = workload.inputs["spec"]
        pod = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]["spec"]
        outer = pod.get("securityContext", {})
        good = outer.get("runAsNonRoot") and outer.get("runAsUser") == 1000
        good = good and outer.get("seccompProfile", {}).get("type") == "RuntimeDefault"
        # The agent alone asks the cluster's API.
        calls = workload.type.endswith(":Deployment") and pod["serviceAccountName"] == "aivo-backup-agent"
        good = good and pod.get("automountServiceAccountToken") is calls and not pod.get("hostNetwork")
        good = good and not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            inner = container.get("securityContext", {})
            good = good and inner.get("allowPrivilegeEscalation") is False and inner.get("readOnlyRootFilesystem")
            good = good and inner.get("capabilities", {}).get("drop") == ["ALL"]
            good = good and bool(container["resources"]["limits"].get("memory"))
        if not good:
            findings.append(workload.name)
    return findings


def pods_have_network_policy(plan: Plan) -> list[str]:
    """Every pod is selected by a policy that closes both directions."""
    policies = [policy.inputs["spec"] for policy in plan.all(":NetworkPolicy")]
    findings: list[str] = []
    for workload in [*plan.all(":CronJob"), *plan.all(":Deployment")]:
        spec = workload.inputs["spec"]
        template = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
        own = template["metadata"]["labels"].items()
        if not any(
            policy["podSelector"]["matchLabels"].items() <= own and set(policy["policyTypes"]) == {"Ingress", "Egress"}
            for policy in policies
        ):
            findings.append(workload.name)
    return findings


def images_scanned_and_immutable(plan: Plan) -> list[str]:
    """ECR.1, ECR.2, CKV_AWS_51, CKV_AWS_136, CKV_AWS_163: tags never move, and pushes are scanned."""
    return [
        repository.name
        for repository in plan.all("ecr/repository:Repository")
        if repository.inputs.get("imageTagMutability") != "IMMUTABLE"
        or not repository.inputs.get("imageScanningConfiguration", {}).get("scanOnPush")
        or repository.inputs["encryptionConfigurations"][0]["encryptionType"] != "KMS"
    ]
