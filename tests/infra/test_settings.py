"""Settings that cannot be used are refused before anything is registered, with the key, the value and the bound."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import LockMode
from aivo_backup.policy.retention import COMPLIANCE_DAYS
from infra import settings, validation
from sandbox.plan import ROOT, register
from sandbox.provision.engine import stack_configuration
from tests.infra.plans import STACKS


def _loaded(stack: str, overrides: Mapping[str, Any] | None = None) -> settings.Settings:
    loaded = settings.load(stack, stack_configuration(ROOT, stack, overrides or {}))
    validation.check(loaded)
    return loaded


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_is_valid(stack: str) -> None:
    assert _loaded(stack).environment == stack


REFUSED: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("unknown key", "prod", {"aivo-backup:regoin": "us-east-1"}, ("regoin", "not a known key")),
    ("unknown key inside", "prod", {"aivo-backup:postgres": {"hots": "x"}}, ("postgres.hots", "not a known key")),
    ("wrong type", "prod", {"aivo-backup:minio": {"transfers": "many"}}, ("minio.transfers", "'many'", "int")),
    ("not JSON", "prod", {"aivo-backup:protect": "perhaps"}, ("protect", "'perhaps'", "bool")),
    ("another environment", "prod", {"aivo-backup:environment": "dev"}, ("environment", "'dev'", "prod")),
    ("region", "prod", {"aivo-backup:region": "virginia"}, ("region", "'virginia'", "us-east-1")),
    ("account", "prod", {"aivo-backup:account_id": "12345"}, ("account_id", "'12345'", "123456789012")),
    ("ARN", "prod", {"aivo-backup:operators": ["role/ops"]}, ("operators", "'role/ops'", "arn:aws:iam::")),
    ("bucket suffix", "prod", {"aivo-backup:bucket_suffix": "-Prod"}, ("bucket_suffix", "'-Prod'")),
    ("long bucket", "prod", {"aivo-backup:bucket_suffix": "-" + "x" * 60}, ("bucket_suffix", "63")),
    ("shared bucket", "prod", {"aivo-backup:bucket_suffix": ""}, ("bucket_suffix", "''")),
    ("key window", "prod", {"aivo-backup:key_deletion_days": 7}, ("key_deletion_days", "7", "30 days")),
    ("key window of nothing", "dev", {"aivo-backup:key_deletion_days": 3}, ("key_deletion_days", "3", "7 to 30")),
    ("nobody administers", "prod", {"aivo-backup:administrators": []}, ("administrators", "production")),
    ("long lock", "dev", {"aivo-backup:evidence": {"days": 3650}}, ("evidence.days", "3650", "2557")),
    ("short lock", "prod", {"aivo-backup:evidence": {"days": 2556}}, ("evidence.days", "2556", "2557")),
    ("weak lock", "prod", {"aivo-backup:evidence": {"mode": "GOVERNANCE"}}, ("evidence.mode", "GOVERNANCE")),
    ("no lock", "prod", {"aivo-backup:evidence": {"mode": "NONE"}}, ("evidence.mode", "NONE", "COMPLIANCE")),
    (
        "old pgBackRest",
        "staging",
        {"aivo-backup:cluster": {"pgbackrest_version": "2.59"}},
        ("2.59.1 or newer", "expire"),
    ),
    (
        "untold pgBackRest",
        "prod",
        {"aivo-backup:cluster": {"pgbackrest_version": ""}},
        ("pgbackrest_version", "2.59.1"),
    ),
    ("moving image", "prod", {"aivo-backup:cluster": {"image": "repo:latest"}}, ("cluster.image", "sha256")),
    ("pull policy", "dev", {"aivo-backup:cluster": {"image_pull_policy": "Often"}}, ("image_pull_policy", "'Often'")),
    ("namespace", "dev", {"aivo-backup:cluster": {"namespace": "Aivo"}}, ("cluster.namespace", "'Aivo'")),
    ("issuer", "dev", {"aivo-backup:cluster": {"oidc_provider": "https://x"}}, ("oidc_provider", "https://x")),
    ("no image in an account", "dev", {"aivo-backup:functions": {"image": ""}}, ("functions.image", "''", "sha256")),
    ("zip in an account", "dev", {"aivo-backup:functions": {"zipped": True}}, ("functions.zipped", "True", "sandbox")),
    ("no image", "local", {"aivo-backup:functions": {"image": " "}}, ("functions.image", "' '", "name the image")),
    ("log days", "dev", {"aivo-backup:functions": {"log_retention_days": 30}}, ("log_retention_days", "30", "365")),
    ("memory", "dev", {"aivo-backup:functions": {"memory_megabytes": 64}}, ("memory_megabytes", "64", "512")),
    ("subnets alone", "prod", {"aivo-backup:functions": {"security_groups": []}}, ("security_groups", "together")),
    ("range", "prod", {"aivo-backup:network": {"aws_ranges": ["10.0.0.0/40"]}}, ("aws_ranges", "10.0.0.0/40")),
    (
        "API range",
        "prod",
        {"aivo-backup:network": {"cluster_api_ranges": []}},
        ("network.cluster_api_ranges", "()", "no Job without a pod"),
    ),
    (
        "restore range",
        "prod",
        {"aivo-backup:network": {"restore_cluster_ranges": ["ten"]}},
        ("network.restore_cluster_ranges", "'ten'"),
    ),
    ("VPC", "prod", {"aivo-backup:network": {"vpc": "main"}}, ("network.vpc", "'main'", "vpc-")),
    ("route table", "prod", {"aivo-backup:network": {"route_tables": ["main"]}}, ("route_tables", "'main'", "rtb-")),
    ("no route table", "prod", {"aivo-backup:network": {"route_tables": []}}, ("route_tables", "gateway to S3")),
    (
        "endpoints nowhere",
        "dev",
        {"aivo-backup:network": {"endpoints": True, "vpc": "vpc-00000000", "route_tables": ["rtb-00000000"]}},
        ("network.endpoints", "functions.subnets"),
    ),
    (
        "name of the cluster",
        "prod",
        {"aivo-backup:opensearch": {"verification_endpoint": "https://opensearch.aivo.svc.cluster.local:9200"}},
        ("opensearch.verification_endpoint", "opensearch.aivo.svc.cluster.local", "no name of the cluster"),
    ),
    (
        "no internal address",
        "prod",
        {"aivo-backup:opensearch": {"internal_endpoint": ""}},
        ("opensearch.internal_endpoint", "''", "address that the VPC resolves"),
    ),
    ("cluster's name", "prod", {"aivo-backup:cluster": {"name": "aivo prod"}}, ("cluster.name", "'aivo prod'")),
    ("priority", "prod", {"aivo-backup:cluster": {"priority_class": "High"}}, ("priority_class", "'High'")),
    (
        "scratch",
        "prod",
        {"aivo-backup:cluster": {"restore_test_scratch": "500Gi"}},
        ("cluster.restore_test_scratch", "'500Gi'", "582 GiB"),
    ),
    (
        "scratch's form",
        "prod",
        {"aivo-backup:cluster": {"restore_test_scratch": "much"}},
        ("cluster.restore_test_scratch", "'much'", "200Gi"),
    ),
    (
        "outgrown without a cluster",
        "prod",
        {"aivo-backup:cluster": {"name": ""}},
        ("cluster.name", "''", "restore test of postgres outgrows a function", "takes it"),
    ),
    ("nobody is told", "prod", {"aivo-backup:alerts": {"level3": []}}, ("alerts.level3", "escalation")),
    ("one region", "prod", {"aivo-backup:replica": {"region": ""}}, ("replica.region", "second region")),
    ("same region", "prod", {"aivo-backup:replica": {"region": "us-east-1"}}, ("replica.region", "us-east-1")),
    ("vault", "prod", {"aivo-backup:replica": {"account_id": "444444444444"}}, ("provisioning_role", "444444444444")),
    ("address", "prod", {"aivo-backup:alerts": {"level1": ["on-call"]}}, ("alerts.level1", "'on-call'")),
    (
        "telephone",
        "prod",
        {"aivo-backup:alerts": {"level2": ["+1-555-0124"]}},
        ("alerts.level2", "'+1-555-0124'", "+15"),
    ),
    ("weekly test", "prod", {"aivo-backup:verification_cron": "0 6 * * 1"}, ("verification_cron", "every day")),
    ("fulls", "prod", {"aivo-backup:postgres": {"full_backups_kept": 6}}, ("full_backups_kept", "6", "7")),
    ("window", "prod", {"aivo-backup:postgres": {"recovery_window_days": 13}}, ("recovery_window_days", "13", "14")),
    ("stanza", "prod", {"aivo-backup:postgres": {"stanza": "Aivo"}}, ("postgres.stanza", "'Aivo'")),
    ("port", "prod", {"aivo-backup:postgres": {"port": 0}}, ("postgres.port", "65535")),
    ("endpoint", "prod", {"aivo-backup:minio": {"endpoint": "minio:9000"}}, ("minio.endpoint", "'minio:9000'")),
    ("MinIO days", "prod", {"aivo-backup:minio": {"retention_days": 29}}, ("minio.retention_days", "29", "30")),
    ("share", "prod", {"aivo-backup:minio": {"verify_share": 0}}, ("minio.verify_share", "0.01")),
    ("snapshot days", "prod", {"aivo-backup:opensearch": {"retention_days": 1}}, ("opensearch.retention_days", "30")),
    (
        "folder in an account",
        "prod",
        {"aivo-backup:opensearch": {"repository_type": "fs", "fs_location": "/x"}},
        ("repository_type", "sandbox"),
    ),
    ("no folder", "local", {"aivo-backup:opensearch": {"fs_location": ""}}, ("fs_location", "''")),
    (
        "expiry meets a backup",
        "prod",
        {"aivo-backup:schedules": {"minio-prune": {"cron": "25 8 * * *"}}},
        ("schedules.minio-prune.cron", "25 8 * * *", "minio-backup-incr may become due"),
    ),
    (
        "no verified point kept",
        "prod",
        {"aivo-backup:minio": {"verified_points_kept": 0}},
        ("minio.verified_points_kept", "0", "1"),
    ),
    ("unknown job", "prod", {"aivo-backup:schedules": {"minio": {}}}, ("schedules.minio", "minio-backup-incr")),
    (
        "cron",
        "prod",
        {"aivo-backup:schedules": {"minio-backup": {"cron": "0 25 * * *"}}},
        ("schedules.minio-backup.cron", "'0 25 * * *'"),
    ),
    (
        "deadline",
        "prod",
        {"aivo-backup:schedules": {"minio-backup": {"start_deadline_seconds": 5}}},
        ("schedules.minio-backup.start_deadline_seconds", "5", "10"),
    ),
    ("test's cron", "prod", {"aivo-backup:verification_cron": "daily"}, ("verification_cron", "'daily'")),
    (
        "RPO",
        "prod",
        {"aivo-backup:schedules": {"minio-backup-incr": {"cron": "0 */6 * * *"}}},
        ("minio can lose", "RPO is 3600 s", "more often"),
    ),
    (
        "RTO",
        "prod",
        {"aivo-backup:opensearch": {"bytes_per_second": 20_000_000}},
        ("opensearch takes 10000 s", "RTO is 7200 s", "bytes_per_second"),
    ),
]


@pytest.mark.parametrize(
    ("stack", "overrides", "words"), [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in REFUSED]
)
def test_refused_with_key_value_and_bound(stack: str, overrides: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _loaded(stack, overrides)
    text = str(refused.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_the_program_refuses_before_it_registers_anything() -> None:
    with pytest.raises(ConfigurationError, match=r"^minio can lose .* RPO is 3600 s"):
        register("prod", overrides={"aivo-backup:schedules": {"minio-backup-incr": {"cron": "0 3 * * *"}}})


@hypothesis_settings(deadline=None, max_examples=30)
@given(days=st.integers(-10, 10_000), mode=st.sampled_from(LockMode))
def test_production_takes_exactly_the_promised_lock(days: int, mode: LockMode) -> None:
    overrides = {"aivo-backup:evidence": {"days": days, "mode": mode.value}}
    if days == COMPLIANCE_DAYS and mode is LockMode.COMPLIANCE:
        assert _loaded("prod", overrides).evidence.days == COMPLIANCE_DAYS
    else:
        with pytest.raises(ConfigurationError, match="evidence"):
            _loaded("prod", overrides)


@hypothesis_settings(deadline=None, max_examples=30)
@given(days=st.integers(1, COMPLIANCE_DAYS), mode=st.sampled_from(LockMode))
def test_development_takes_any_lock_within_the_promise(days: int, mode: LockMode) -> None:
    overrides = {"aivo-backup:evidence": {"days": days, "mode": mode.value}}
    assert _loaded("dev", overrides).evidence.mode is mode


def test_keys_of_other_namespaces_are_left_alone() -> None:
    assert _loaded("prod", {"kubernetes:context": "prod", "aws:profile": "prod"}).region == "us-east-1"
