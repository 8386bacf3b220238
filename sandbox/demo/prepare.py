"""The first chapter: servers, provisioning, `init`, real data, heartbeats."""

from sandbox import lifecycle, servers
from sandbox.data.minio import load_minio
from sandbox.data.opensearch import load_opensearch
from sandbox.data.postgres import load_postgres, start_writer
from sandbox.demo.world import World
from sandbox.provision import Change

HEARTBEAT_SECONDS = 2.0
"""A demo is short: a heartbeat a minute, as in production, would measure every loss as nothing or as a minute."""


def fresh_sandbox(world: World) -> None:
    """Brings up the servers with empty stores."""
    tell, sandbox = world.narrator, world.sandbox
    with tell.step("remove what an earlier run left in the sandbox"):
        servers.reset(sandbox)
    with tell.step("start PostgreSQL, MinIO, OpenSearch (behind TLS and a login) and the AWS API on loopback"):
        servers.up(
            sandbox,
            report=lambda row: tell.fact(f"{row.name:<17} {row.address:<28} {row.state} in {row.seconds:.1f} s"),
        )


def provisioned(world: World) -> None:
    """Realises the Pulumi program twice: the second time must find everything true."""
    tell = world.narrator
    with tell.step("provision the Pulumi program, stack local, into the AWS API"):
        first = lifecycle.provision(world.sandbox)
        tell.fact(f"{len(first.entries)} resources: {first}")
    with tell.step("provision it again"):
        second = lifecycle.provision(world.sandbox)
        tell.fact(f"{len(second.entries)} resources: {second}")
    tell.expect(second.count(Change.UNCHANGED) == len(second.entries), "the second run changed nothing")
    tell.expect(world.sandbox.aws_control.iam_enforced(), "IAM is enforced: jobs and functions have their roles only")


def initialised(world: World) -> None:
    """`aivo-backup init`, with the sidecar started as soon as its envelope exists."""
    tell = world.narrator
    with tell.step("prepare the stores: cipher envelope, stanza, snapshot repository, homes of the heartbeats"):
        tell.command(["aivo-backup", "init"], where="and the pgBackRest sidecar beside PostgreSQL")
        lifecycle.initialise(world.sandbox, progress=tell.fact)


def loaded(world: World) -> None:
    """Real data in all three stores, live writes, and the agent's heartbeats."""
    tell, sandbox = world.narrator, world.sandbox
    with tell.step("PostgreSQL: pgbench at scale 20, and reference tables from Debian's iso-codes"):
        rows = load_postgres(world.dsn, postgres_bin=sandbox.tools.postgres_bin)
        tell.fact(f"{rows.total:,} rows in {len(rows.rows)} tables")
    with tell.step("MinIO: real files from this machine, odd keys, an object in parts"):
        objects = load_minio(world.app.minio_source)
        tell.fact(f"{objects.total:,} objects in {len(objects.objects)} buckets, {objects.size_bytes / 2**20:.0f} MiB")
    with tell.step("OpenSearch: the descriptions of Debian's packages, and their maintainers"):
        documents = load_opensearch(world.opensearch_client)
        tell.fact(f"{documents.total:,} documents in {len(documents.documents)} indices")
    with tell.step("start live writes (pgbench) and the agent's heartbeats"):
        start_writer(sandbox.processes, world.dsn, postgres_bin=sandbox.tools.postgres_bin, log=world.log("writer"))
        lifecycle.start_agent(sandbox, heartbeat_seconds=HEARTBEAT_SECONDS)
        world.wait_for_heartbeats()
