"""Runs the demo: `python -m sandbox.demo`, which `make demo` calls."""

import argparse
import sys

from aivo_backup.cli.verify import failures, restore_row
from aivo_backup.errors import BackupError, ExitCode
from sandbox import servers
from sandbox.demo import backups, disasters, prepare, proof, rot
from sandbox.demo.narrator import DemoError, Narrator
from sandbox.demo.world import World
from sandbox.state import Sandbox


def main() -> int:
    """Tells the whole story.

    Returns:
        0 when every step did what it must; else 1, and the sandbox stays up for a look.
    """
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the sandbox up at the end")
    keep = parser.parse_args().keep
    sandbox, tell = Sandbox(), Narrator()
    world = World(sandbox, tell)
    try:
        _tell(world)
    except (BackupError, DemoError) as error:
        tell.failure(str(error))
        tell.fact(f"The sandbox is up: logs in {sandbox.logs}; end it with `aivo-backup sandbox down`.")
        return ExitCode.FAILED
    if not keep:
        with tell.step("stop the sandbox"):
            servers.down(sandbox)
    tell.success(
        f"Everything was restored and proven in {tell.elapsed_seconds:.0f} s. "
        f"The report: {(world.output / 'report.html').relative_to(sandbox.checkout)}"
    )
    return ExitCode.DONE


def _tell(world: World) -> None:
    tell = world.narrator
    tell.chapter("1. Real stores, provisioned by the Pulumi program")
    prepare.fresh_sandbox(world)
    prepare.provisioned(world)
    prepare.initialised(world)
    prepare.loaded(world)
    tell.chapter("2. Backups, by the provisioned CronJobs' own commands")
    taken = backups.take_all(world)
    tell.chapter("3. Disasters, and restores to exactly the moment asked for")
    disasters.dropped_table(world)
    disasters.deleted_objects(world, taken)
    disasters.deleted_indices(world, taken)
    tell.chapter("4. Proof, by the provisioned functions")
    proof.registered(world)
    proof.verified(world)
    proof.reported(world)
    tell.chapter("5. The proof can fail: one byte flipped at rest")
    rot.damaged(world)
    tell.table(
        "What was restored",
        ["component", "recovery point", "loss measured", "time to restore", "checks", "result"],
        [restore_row(record) for record in world.restores],
    )
    wrong = [f"{record.component} {line}" for record in world.restores for line in failures(record)]
    tell.expect(not wrong, "every restore above passed all of its checks" if not wrong else "; ".join(wrong))


if __name__ == "__main__":
    sys.exit(main())
