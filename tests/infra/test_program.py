"""What the program registers, for every stack: the runbook's jobs, the pod contract, one settings object."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aivo_backup.policy import names
from aivo_backup.policy.environment import BackupKind, Component, Environment
from aivo_backup.policy.names import Function, restore_test_job
from aivo_backup.stores.postgres.envelope import ENVELOPE_KEY
from infra.functions import NEEDS_IMAGE
from infra.packages import built, path_of
from sandbox.plan import ROOT, main, register, write
from tests.infra.conftest import PlanOf
from tests.infra.plans import STACKS, Plan, Resource

CRONJOBS = {
    "postgresql-backup-full": ("0 1 * * 0", ["backup", "postgres", "--type", "full"]),
    "postgresql-backup-incr": ("0 2 * * *", ["backup", "postgres", "--type", "incr"]),
    "minio-backup": ("0 3 * * *", ["backup", "minio", "--type", "full"]),
    "minio-backup-incr": ("*/30 * * * *", ["backup", "minio", "--type", "incr"]),
    "opensearch-snapshot": ("0 4 * * *", ["backup", "opensearch", "--type", "full"]),
    "opensearch-snapshot-incr": ("*/30 * * * *", ["backup", "opensearch", "--type", "incr"]),
}
EXPIRIES = {
    "postgresql-expire": ("10 8 * * *", ["expire", "postgres", "--wait", "1800"]),
    "minio-prune": ("10 8 * * *", ["prune", "minio", "--wait", "360"]),
    "opensearch-prune": ("10 8 * * *", ["prune", "opensearch", "--wait", "360"]),
}
SECRETS = {
    "postgresql-backup": ["pgbackrest-client"],
    "postgresql-expire": [],
    "minio-backup": ["minio-source"],
    "minio-prune": [],
    "opensearch-snapshot": ["opensearch"],
    "opensearch-prune": ["opensearch-expirer"],
}
ROLES = {
    "postgresql-backup": "postgres-writer",
    "postgresql-expire": "postgres-expirer",
    "minio-backup": "minio-writer",
    "minio-prune": "minio-expirer",
    "opensearch-snapshot": "opensearch-writer",
    "opensearch-prune": "opensearch-expirer",
}


def _kind(job: str) -> str:
    """The job's name without the kind of backup that it takes."""
    return "-".join(job.split("-")[:2])


def scheduled(plan: Plan) -> list[Resource]:
    """The CronJobs of backups and expiries; the others are templates, and drills (test_drills.py)."""
    own = (job for job in plan.all(":CronJob") if not job.inputs["spec"].get("suspend"))
    return [job for job in own if not job.name.startswith("drill-")]


def test_restore_tests_that_outgrow_a_function_have_a_template(plan: Plan) -> None:
    templates = {job.name: job.inputs["spec"] for job in plan.all(":CronJob") if job.inputs["spec"].get("suspend")}
    assert set(templates) == {restore_test_job(component) for component in Component}
    for component in Component:
        job = templates[restore_test_job(component)]["jobTemplate"]["spec"]
        pod = job["template"]["spec"]
        (container,) = pod["containers"]
        assert (container["command"], container["args"]) == (["aivo-backup"], ["verify", component.value])
        assert pod["serviceAccountName"] == "aivo-backup-restore-tester"
        assert job["activeDeadlineSeconds"] >= plan.settings()["objectives"]["rto_seconds"]
        (scratch,) = (volume for volume in pod["volumes"] if volume["name"] == "scratch")
        assert ("ephemeral" in scratch) == (component is Component.POSTGRES)
        # A volume as large as the database is paid for until the Job is removed.
        assert ("ephemeral" in scratch) == (job["ttlSecondsAfterFinished"] <= 3600)


def test_a_function_that_may_hand_over_may_do_just_that(plan: Plan) -> None:
    """It is let in where a cluster is named, reads the templates and makes Jobs, which are bound in what they run."""
    if plan.stack == "local":
        assert not plan.all(":AccessEntry")
        return
    entry = plan.one(":AccessEntry", "restore-test-dispatch")
    (role,), (binding,) = (
        [it for it in plan.all(kind) if it.name == "aivo-backup-restore-test-dispatch"]
        for kind in ("rbac.authorization.k8s.io/v1:Role", ":RoleBinding")
    )
    assert entry.inputs["principalArn"] == plan.outputs["roles"]["verifier"]
    assert binding.inputs["subjects"][0]["name"] in entry.inputs["kubernetesGroups"]
    assert binding.inputs["roleRef"]["name"] == role.inputs["metadata"]["name"]
    allowed = {
        (resource, verb) for rule in role.inputs["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert allowed == {("cronjobs", "get"), ("jobs", "create")}
    guard = plan.one(":ValidatingAdmissionPolicy", "aivo-backup-restore-test-dispatch")
    bound = plan.one(":ValidatingAdmissionPolicyBinding", "aivo-backup-restore-test-dispatch")
    assert guard.inputs["spec"]["failurePolicy"] == "Fail"
    assert entry.inputs["kubernetesGroups"][0] in guard.inputs["spec"]["matchConditions"][0]["expression"]
    full = f"aivo-backup-{plan.stack}-restore-test-dispatch"
    assert guard.inputs["metadata"]["name"] == full, "cluster-wide: two environments in one cluster have their own"
    (here,) = guard.inputs["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert here["values"] == [role.inputs["metadata"]["namespace"]]
    assert bound.inputs["spec"] == {"policyName": full, "validationActions": ["Deny"]}


def test_the_agent_reads_which_jobs_came_to_nothing_and_no_more(plan: Plan) -> None:
    (role,), (binding,) = (
        [it for it in plan.all(kind) if it.name == "aivo-backup-agent-jobs"]
        for kind in ("rbac.authorization.k8s.io/v1:Role", ":RoleBinding")
    )
    allowed = {
        (resource, verb) for rule in role.inputs["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert allowed == {("jobs", "list"), ("events", "list")}
    assert binding.inputs["roleRef"]["name"] == role.inputs["metadata"]["name"]
    (subject,) = binding.inputs["subjects"]
    (agent,) = plan.all(":Deployment")
    assert subject["name"] == agent.inputs["spec"]["template"]["spec"]["serviceAccountName"]


def test_a_run_is_not_pushed_off_its_node_and_has_the_priority_that_is_set(plan: Plan) -> None:
    for job in plan.all(":CronJob"):
        template = job.inputs["spec"]["jobTemplate"]["spec"]["template"]
        assert template["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
        assert template["spec"].get("priorityClassName") == ("backups" if plan.stack == "prod" else None)


def test_cronjobs_are_the_runbooks(plan: Plan) -> None:
    found = {job.name: job.inputs["spec"] for job in scheduled(plan)}
    assert set(found) == {*CRONJOBS, *EXPIRIES}
    for name, (cron, arguments) in {**CRONJOBS, **EXPIRIES}.items():
        spec = found[name]
        (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (cron, "Etc/UTC", "Forbid")
        assert (container["command"], container["args"]) == (["aivo-backup"], arguments)
        assert spec["startingDeadlineSeconds"] >= 10
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
        assert spec["jobTemplate"]["spec"]["backoffLimit"] >= 0
        assert spec["successfulJobsHistoryLimit"] > 0
        assert spec["failedJobsHistoryLimit"] > 0


def test_pods_find_their_settings_secrets_and_state(plan: Plan) -> None:
    claims = {claim.inputs["metadata"]["name"] for claim in plan.all(":PersistentVolumeClaim")}
    for job in scheduled(plan):
        pod = job.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        assert variables["AIVO_BACKUP_SETTINGS"] == "/etc/aivo-backup/settings.json"
        assert variables["AIVO_BACKUP_SECRETS"] == "/etc/aivo-backup-secrets"
        assert variables["AIVO_BACKUP_STATE"] == "/var/lib/aivo-backup"
        assert variables["AIVO_BACKUP_JOB"] == job.name
        assert volumes[mounts["/etc/aivo-backup"]]["configMap"]["name"] == "aivo-backup-settings"
        secrets = {path: name for path, name in mounts.items() if path.startswith("/etc/aivo-backup-secrets/")}
        assert sorted(secrets) == [f"/etc/aivo-backup-secrets/{secret}" for secret in SECRETS[_kind(job.name)]]
        for path, name in secrets.items():
            assert volumes[name]["secret"]["secretName"] == path.rpartition("/")[2]
        assert volumes[mounts["/var/lib/aivo-backup"]]["persistentVolumeClaim"]["claimName"] in claims
        assert "emptyDir" in volumes[mounts["/tmp"]]


def test_pods_run_under_an_account_with_its_role(plan: Plan) -> None:
    accounts = {
        account.inputs["metadata"]["name"]: account.inputs["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        for account in plan.all(":ServiceAccount")
    }
    roles = {role.inputs["name"] for role in plan.all("iam/role:Role")}
    for job in scheduled(plan):
        name = job.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
        assert accounts[name].rpartition("/")[2] in roles
        assert accounts[name].endswith(f"-{plan.stack}-{ROLES[_kind(job.name)]}")


def test_the_settings_are_the_same_everywhere_and_can_be_read_back(plan: Plan) -> None:
    config_map = plan.one(":ConfigMap", "settings")
    exported = plan.outputs["settings"]
    assert config_map.inputs["data"]["settings.json"] == exported
    environment = Environment.from_json(json.loads(exported), where="settings.json")
    assert environment.name == plan.stack
    parameters = plan.all(":Parameter")
    # In the second region too: who restores from there must not have to ask a region that is gone.
    assert len({parameter.options["provider"] for parameter in parameters}) == (2 if environment.replica.region else 1)
    for parameter in parameters:
        assert parameter.inputs["value"] == exported
        assert parameter.inputs["name"] == f"/aivo-backup/{plan.stack}/settings"
        assert parameter.inputs["type"] == "SecureString"
    buckets = {bucket.inputs["bucket"] for bucket in plan.all("s3/bucket:Bucket")}
    assert {environment.bucket(component) for component in Component} | {environment.evidence.bucket} <= buckets
    assert {row.name for row in environment.backups} == set(CRONJOBS)
    assert all(environment.key(use).startswith("arn:aws:kms:") for use in (*Component, "compliance"))
    if environment.replica.region:
        there = environment.in_second_region()
        assert {there.bucket(component) for component in Component} | {there.evidence.bucket} <= buckets
        assert all(there.key(use) != environment.key(use) for use in (*Component, "compliance"))


def test_every_exported_name_is_one_of_a_registered_resource(plan: Plan) -> None:
    registered = {str(entry.inputs.get("name") or entry.inputs.get("bucket")) for entry in plan.resources}
    outputs = plan.outputs
    arns = [*outputs["roles"].values(), *outputs["functions"].values(), *outputs["topics"].values()]
    assert {arn.rpartition(":")[2].rpartition("/")[2] for arn in arns} <= registered
    ((group, schedules),) = outputs["schedules"].items()
    assert {group, *schedules, *outputs["buckets"].values()} <= registered
    assert set(outputs["functions"]) == {function.value for function in Function}
    # The sandbox's stand-in keeps no trail that could tell the Security team anything.
    security = [] if plan.stack == "local" else ["security"]
    assert sorted(outputs["topics"]) == ["level1", "level2", "level3", *security]


def test_the_sandbox_has_the_runbooks_names(plan_of: PlanOf) -> None:
    names_of = {bucket.inputs["bucket"] for bucket in plan_of("local").all("s3/bucket:Bucket")}
    wanted = {f"aivo-backup-{use}" for use in ("postgres", "minio", "opensearch", "compliance", "logs")}
    assert wanted <= names_of


def test_bucket_names_differ_between_environments(plan_of: PlanOf) -> None:
    found = [bucket.inputs["bucket"] for stack in STACKS for bucket in plan_of(stack).all("s3/bucket:Bucket")]
    assert len(found) == len(set(found))
    assert all(len(name) <= 63 for name in found)


def test_schedules_call_functions_that_exist_with_an_event_that_names_the_time(plan: Plan) -> None:
    arns = set(plan.outputs["functions"].values())
    found = {schedule.name: schedule.inputs for schedule in plan.all(":Schedule")}
    assert {name for name, inputs in found.items() if inputs["scheduleExpression"] == "cron(0 6 * * ? *)"} == {
        f"verify-{component.value}" for component in Component
    }
    for inputs in found.values():
        event = json.loads(inputs["target"]["input"])
        assert inputs["target"]["arn"] in arns
        assert event["scheduled_for"] == "<aws.scheduler.scheduled-time>"
        assert inputs["scheduleExpressionTimezone"] == "UTC"
        assert inputs["flexibleTimeWindow"]["mode"] == "OFF"


def test_functions_know_where_the_settings_are(plan: Plan) -> None:
    for function in plan.all(":Function"):
        variables = function.inputs["environment"]["variables"]
        assert variables["AIVO_BACKUP_SETTINGS"] == f"ssm:/aivo-backup/{plan.stack}/settings"
        assert variables["POWERTOOLS_SERVICE_NAME"]
        handler = function.inputs.get("handler") or function.inputs["imageConfig"]["commands"][0]
        assert (ROOT / Path(*handler.split(".")[:-1])).with_suffix(".py").is_file()


def test_a_function_runs_from_the_image_by_digest_or_from_the_package_by_hash(plan: Plan) -> None:
    made = built()
    for function in plan.all(":Function"):
        which = Function(function.inputs["environment"]["variables"]["POWERTOOLS_SERVICE_NAME"])
        if "code" in function.inputs:
            assert plan.stack == "local"
            assert function.inputs["code"].path == path_of(which)
            assert function.inputs["sourceCodeHash"] == made.packages[which.value].source_code_hash
            assert (function.inputs["packageType"], function.inputs["runtime"]) == ("Zip", made.runtime)
        else:
            assert which in NEEDS_IMAGE
            assert ("@sha256:" in function.inputs["imageUri"]) == (plan.stack != "local")
            assert function.inputs["imageConfig"]["entryPoints"][-1] == "awslambdaric"


def test_what_a_failed_call_comes_to_is_said(plan: Plan) -> None:
    """Retries and the age of events, at Lambda and at the scheduler; then the queue."""
    (queue,) = plan.all(":Queue")
    functions = {function.inputs["name"]: function for function in plan.all(":Function")}
    limits = {entry.inputs["functionName"]: entry.inputs for entry in plan.all(":FunctionEventInvokeConfig")}
    assert set(limits) == set(functions)
    for name, inputs in limits.items():
        assert inputs["maximumRetryAttempts"] <= 2
        assert inputs["maximumEventAgeInSeconds"] <= 2 * 3600
        assert functions[name].inputs["deadLetterConfig"]["targetArn"].endswith(queue.inputs["name"])
    for schedule in plan.all(":Schedule"):
        assert schedule.inputs["target"]["retryPolicy"]["maximumRetryAttempts"] > 0
        assert schedule.inputs["target"]["deadLetterConfig"]["arn"].endswith(queue.inputs["name"])


def test_alarms_know_the_schedule_and_climb_the_escalation_path(plan: Plan) -> None:
    """A day without proof tells the first level, a second one the manager, a third the CTO; silence counts as one."""
    alarms = {alarm.name.removeprefix(f"aivo-backup-{plan.stack}-"): alarm.inputs for alarm in plan.all(":MetricAlarm")}
    told = {name: [topic.rpartition("-")[2] for topic in inputs["alarmActions"]] for name, inputs in alarms.items()}
    first, second, third = (alarms[f"verify-restore-missing{after}"] for after in ("", "-for-2-days", "-for-3-days"))
    assert told["verify-restore-missing"] == ["level1"]
    assert told["verify-restore-missing-for-2-days"] == ["level1", "level2"]
    assert told["verify-restore-missing-for-3-days"] == ["level1", "level2", "level3"]
    assert {inputs["treatMissingData"] for inputs in (first, second, third)} == {"breaching"}
    assert [inputs["evaluationPeriods"] for inputs in (first, second, third)] == [1, 2, 3]
    assert first["threshold"] == alarms["register-snapshot-missing"]["threshold"] == len(Component)
    assert alarms["compliance-report-missing"]["threshold"] == 1


def test_more_restore_tests_a_day_are_expected_by_the_alarm_too() -> None:
    plan = Plan.of("dev", register("dev", overrides={"aivo-backup:verification_cron": "0 6,18 * * *"}))
    assert plan.one(":MetricAlarm", "aivo-backup-dev-verify-restore-missing").inputs["threshold"] == 2 * len(Component)


def test_the_runbooks_contacts_are_told_by_mail_and_by_text(prod: Plan) -> None:
    found = [(entry.inputs["protocol"], entry.inputs["endpoint"]) for entry in prod.all(":TopicSubscription")]
    assert ("sms", "+15550123") in found
    assert ("email", "data-reliability@aivo.com") in found
    assert ("email", "security@aivo.com") in found


def test_only_made_namespaces_are_made_restricted(plan: Plan) -> None:
    adopted = plan.stack in ("staging", "prod")
    namespaces = plan.all(":Namespace")
    assert len(namespaces) == (0 if adopted else 1)
    for namespace in namespaces:
        assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_everything_belongs_to_a_component_of_the_program(plan: Plan) -> None:
    for resource in plan.resources:
        own = resource.type.startswith(("aivo:backup:", "pulumi:providers:"))
        assert "aivo:backup:" in resource.parent or own, resource.name


def test_every_resource_that_can_carries_tags_or_labels(plan: Plan) -> None:
    for resource in plan.resources:
        if "tags" in resource.inputs:
            assert resource.inputs["tags"]["Environment"] == plan.stack
            assert resource.inputs["tags"]["Owner"]
        if resource.type.startswith("kubernetes:"):
            labels = resource.inputs["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "aivo-backup"
            assert labels["app.kubernetes.io/instance"] == plan.stack
    untagged = {"s3/bucket:Bucket", "kms/key:Key", "iam/role:Role", ":Function", ":LogGroup", ":Topic", ":Queue"}
    assert all("tags" in resource.inputs for suffix in untagged for resource in plan.all(suffix))


def test_where_the_cipher_pass_is_kept_is_what_roles_may_read() -> None:
    assert ENVELOPE_KEY.startswith(names.CIPHER_PREFIX)


def test_schedules_can_be_overridden_and_reach_cron_job_and_settings() -> None:
    # The pruning has to fit between two of them.
    prune = {"cron": "5 8 * * *", "start_deadline_seconds": 60, "longest_run_seconds": 480}
    changed = {"minio-backup-incr": {"cron": "*/15 * * * *"}, "minio-prune": prune}
    registration = register("local", overrides={"aivo-backup:schedules": changed})
    plan = Plan.of("local", registration)
    assert plan.one(":CronJob", "minio-backup-incr").inputs["spec"]["schedule"] == "*/15 * * * *"
    assert plan.one(":CronJob", "minio-prune").inputs["spec"]["startingDeadlineSeconds"] == 60
    environment = Environment.from_json(json.loads(plan.outputs["settings"]), where="settings.json")
    assert [row.cron for row in environment.backups if row.kind is BackupKind.INCREMENTAL][1] == "*/15 * * * *"


def test_the_plan_is_written_and_says_the_same_twice(tmp_path: Path) -> None:
    texts: list[str] = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        file, objects = write(register("prod"), folder, "prod")
        manifests = sorted((folder / "prod").iterdir())
        texts.append("\n".join(path.read_text() for path in (file, *manifests)))
        assert objects == len(list((folder / "prod").glob("*.yaml")))
    assert texts[0] == texts[1]
    resource = json.loads((tmp_path / "a" / "prod.json").read_text())["resources"][0]
    assert set(resource) == {"urn", "type", "name", "inputs", "parent", "options"}


def test_an_unknown_stack_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prd"]) == 3
    written = capsys.readouterr()
    assert written.err.splitlines() == ["stack 'prd' does not exist: known: dev, local, prod, staging"]
    assert not written.out


def test_registering_prod_is_quick() -> None:
    register("prod")
    begun = time.process_time()
    register("prod")
    # Processor time: on a busy machine, the clock on the wall tells about the neighbours.
    assert time.process_time() - begun <= 3.0


def test_importing_the_program_stays_lazy() -> None:
    """pulumi_aws has hundreds of modules; importing the program may load those it uses, and no more."""
    script = (
        "import sys, infra.program\n"
        "names = [name for name in sys.modules if name.startswith('pulumi_aws.') and name.count('.') == 1]\n"
        "print(sum(type(sys.modules[name]).__name__ != '_LazyModule' for name in names), len(names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded, known = map(int, done.stdout.split())
    assert loaded < 40 < known, "the whole provider was imported"
