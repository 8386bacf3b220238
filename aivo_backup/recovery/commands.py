"""The commands of each step for a person without this tool. Pure: settings in, shell lines out.

They are the runbook's own commands, corrected where those would not work, with the environment's names filled in.
"""

from collections.abc import Sequence

from aivo_backup.policy.environment import MinioSettings, OpenSearchSettings, PostgresSettings
from aivo_backup.policy.recovery import RecoverySettings
from aivo_backup.stores.postgres.targets import Target, TargetKind


def check_database(settings: PostgresSettings) -> tuple[str, ...]:
    """Looking at the repository."""
    return (
        f"pgbackrest info --stanza={settings.stanza}",
        f"pgbackrest info --stanza={settings.stanza} --output=json | jq '.[0].backup[-1], .[0].archive'",
        f"df -h {settings.data_path}",
    )


def stop_applications(namespaces: Sequence[str], selector: str) -> tuple[str, ...]:
    """Stopping by label, keeping the scales in a file."""
    form = '{range .items[*]}{.metadata.namespace} {.kind}/{.metadata.name} {.spec.replicas}{"\\n"}{end}'
    return (
        f"kubectl get deployments,statefulsets -A -l {selector} -o jsonpath='{form}' > former-scales.txt",
        *(
            line
            for namespace in namespaces
            for line in (
                f"kubectl scale deployments,statefulsets -n {namespace} -l {selector} --replicas=0",
                f"kubectl wait pods -n {namespace} -l {selector} --for=delete --timeout=300s",
            )
        ),
    )


def start_applications(selector: str) -> tuple[str, ...]:
    """Starting from that file."""
    return (
        'while read -r namespace workload replicas; do kubectl scale -n "$namespace" "$workload" '
        '--replicas="$replicas"; done < former-scales.txt',
        f"kubectl get deployments,statefulsets -A -l {selector}",
    )


def restore_database(settings: PostgresSettings, target: Target, recovery: RecoverySettings) -> tuple[str, ...]:
    """A restore in place that keeps the old directory."""
    data, where = settings.data_path, f"-n {recovery.store_namespace}"
    options = " ".join(_target_options(target))
    return (
        f"kubectl scale {where} statefulset/postgresql --replicas=0   # or: sudo systemctl stop postgresql",
        f"mv {data} {data}.before-$(date -u +%Y%m%dT%H%M%SZ)         # never rm -rf: it may be needed yet",
        f"pgbackrest restore --stanza={settings.stanza} --pg1-path={data} {options}",
        f"kubectl scale {where} statefulset/postgresql --replicas=1   # or: sudo systemctl start postgresql",
        f"psql -h {settings.host} -p {settings.port} -U postgres -c 'SELECT now(), pg_is_in_recovery();'",
    )


def _target_options(target: Target) -> tuple[str, ...]:
    chosen = (f"--set={target.label}",) if target.label else ()
    match target.kind:
        case TargetKind.TIME:
            moment = f"{target.time:%Y-%m-%d %H:%M:%S.%f+00}"
            return (*chosen, "--type=time", f"--target='{moment}'", "--target-action=promote")
        case TargetKind.SET:
            return (*chosen, "--type=immediate", "--target-action=promote")
        case _:
            return chosen


def verify_database(settings: PostgresSettings) -> tuple[str, ...]:
    """Looking at every page."""
    where = f"-h {settings.host} -p {settings.port} -U postgres"
    newest = "'SELECT max(at) FROM aivo_backup.heartbeat;'"
    return (
        f"pg_amcheck {where} --all --install-missing --heapallindexed",
        f"psql {where} -d {settings.database} -c {newest}",
        f"pgbackrest check --stanza={settings.stanza}",
    )


def restore_objects(settings: MinioSettings, bucket: str) -> tuple[str, ...]:
    """All objects of the newest state."""
    return (
        f"mc alias set target {settings.endpoint} ACCESS_KEY SECRET_KEY",
        f"aws s3 ls s3://{bucket}/metadata/minio/                     # the recovery points",
        f"aws s3 sync s3://{bucket}/minio-data/ /tmp/restore-staging/  # the newest state; keys as they were",
        "for bucket in /tmp/restore-staging/*/; do mc mb --ignore-existing target/$(basename $bucket); "
        "mc mirror $bucket target/$(basename $bucket)/; done",
    )


def restore_indices(settings: OpenSearchSettings) -> tuple[str, ...]:
    """All indices of one snapshot."""
    url, repository = settings.endpoint, settings.repository
    return (
        f'curl -u admin:PASSWORD "{url}/_snapshot/{repository}/_all" | jq -r ".snapshots[-1].snapshot"',
        f'curl -u admin:PASSWORD -X POST "{url}/_snapshot/{repository}/SNAPSHOT/_restore" '
        '-H "Content-Type: application/json" '
        '-d \'{"indices": "*,-.*", "include_global_state": false, "ignore_unavailable": false}\'',
        f'curl -u admin:PASSWORD "{url}/_cluster/health?wait_for_status=yellow&timeout=600s"',
    )


def restore_staging(settings: PostgresSettings, target: Target) -> tuple[str, ...]:
    """A second server beside production that archives nothing."""
    data = f"{settings.data_path}-staging"
    options = " ".join(_target_options(target))
    return (
        f"pgbackrest restore --stanza={settings.stanza} --pg1-path={data} --archive-mode=off {options}",
        f"pg_ctl -D {data} -o '-p 5433 -c listen_addresses=localhost -c archive_mode=off' -w start",
        "# indices: restore them under other names, with rename_pattern (.+) and rename_replacement restored-$1",
    )


def rescue(settings: PostgresSettings, target: Target) -> tuple[str, ...]:
    """What production has and the target lacks, into a file."""
    rows = "SELECT * FROM SCHEMA.TABLE WHERE id IN (SELECT id FROM newer)"
    live = f"-h {settings.host} -p {settings.port} -U postgres -d {settings.database}"
    *both, _ = compare(settings)
    return (
        *restore_staging(settings, target)[:2],
        *both,
        "comm -13 then.txt now.txt   # newer; sort both with LC_ALL=C first; changed rows are not in it",
        f"psql {live} -c '\\copy ({rows}) TO newer-rows.csv (FORMAT csv, HEADER)'   # newer: a table of these ids",
        *remove_staging(),
    )


def compare(settings: PostgresSettings) -> tuple[str, ...]:
    """Keys of both sides, side by side."""
    query = "'SELECT id FROM SCHEMA.TABLE ORDER BY id'"
    keys = f"-d {settings.database} -Atc {query}"
    return (
        f"psql -h localhost -p 5433 -U postgres {keys} > then.txt",
        f"psql -h {settings.host} -p {settings.port} -U postgres {keys} > now.txt",
        "comm -23 then.txt now.txt   # lost; sort both with LC_ALL=C first",
    )


def extract(settings: PostgresSettings) -> tuple[str, ...]:
    """Lost rows into a file."""
    query = "SELECT * FROM SCHEMA.TABLE WHERE id IN (SELECT id FROM lost)"
    where = f"-h localhost -p 5433 -U postgres -d {settings.database}"
    return (
        f"psql {where} "
        f"-c '\\copy ({query}) TO lost-rows.csv (FORMAT csv, HEADER)'   # lost: a table loaded from the step before",
        f"pg_dump {where} -Fc -t SCHEMA.TABLE -t SCHEMA.VIEW -f gone.dump   # what is gone as a whole, and its views",
    )


def bring_back(postgres: PostgresSettings, minio: MinioSettings, opensearch: OpenSearchSettings) -> tuple[str, ...]:
    """Adding what is lost to each store."""
    where = f"-h {postgres.host} -p {postgres.port} -U postgres -d {postgres.database}"
    return (
        "pg_restore -l gone.dump | grep -v 'FK CONSTRAINT' > gone.list   # foreign keys come last, by ALTER TABLE",
        f"pg_restore {where} --single-transaction -L gone.list gone.dump",
        f"psql {where} -c '\\copy SCHEMA.TABLE FROM lost-rows.csv (FORMAT csv, HEADER)'",
        f"aws s3 cp s3://BACKUP_BUCKET/minio-data/BUCKET/KEY . && mc cp KEY target/BUCKET/KEY   # {minio.endpoint}",
        f'curl -u admin:PASSWORD -X POST "{opensearch.endpoint}/_reindex" -H "Content-Type: application/json" '
        '-d \'{"conflicts": "proceed", "source": {"index": "restored-INDEX"}, '
        '"dest": {"index": "INDEX", "op_type": "create"}}\'',
    )


def remove_staging() -> tuple[str, ...]:
    """Stopping the second server."""
    return ("pg_ctl -D DATA-staging -m fast stop", "rm -r DATA-staging   # the copy, not the data directory")
