"""The fourth chapter: the provisioned Lambda functions reconcile, restore, check and report."""

from typing import Any

from aivo_backup.catalog.records import Restore
from aivo_backup.policy.environment import Component
from sandbox import functions
from sandbox.demo.narrator import DemoError
from sandbox.demo.world import World


def registered(world: World) -> None:
    """`register_snapshot` compares the catalog with what the stores really hold."""
    for component in Component:
        answer = _invoke(world, f"register-{component.value}")
        world.narrator.expect(
            not answer["missing"] and not answer["recorded"],
            f"{component}: {len(answer['found'])} points found, none unknown to the catalog, none missing",
        )


def verified(world: World) -> None:
    """`verify_restore` restores each store's newest point into isolation and checks the data."""
    for component in Component:
        with world.narrator.step(f"restore test of {component}"):
            answer = _invoke(world, f"verify-{component.value}")
            record = next(each for each in world.app.catalog.restores(component) if each.id == answer["id"])
            world.restores.append(record)
            for check in record.checks:
                world.narrator.fact(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}")
            world.narrator.fact("; ".join(f"{phase.name} {phase.seconds:.1f} s" for phase in record.phases))
        world.narrator.expect(record.passed, f"{component} {record.recovery_point} passed {len(record.checks)} checks")
        _expect_measured_loss(world, record)


def reported(world: World) -> None:
    """`compliance_report` writes the report into the locked bucket; a copy goes to disk."""
    tell = world.narrator
    with tell.step("the daily compliance report"):
        answer = _invoke(world, "report-daily")
        world.output.mkdir(parents=True, exist_ok=True)
        for file in answer["files"]:
            body = world.app.s3.get_object(Bucket=file["location"], Key=file["key"])["Body"].read()
            target = world.output / file["key"].rsplit("/", 1)[1]
            target.write_bytes(body)
            tell.fact(f"s3://{file['location']}/{file['key']} → {target.relative_to(world.sandbox.checkout)}")
            head = world.app.s3.head_object(Bucket=file["location"], Key=file["key"])
            mode, until = (head.get(name) for name in ("ObjectLockMode", "ObjectLockRetainUntilDate"))
            tell.expect(
                mode == world.app.environment.evidence.lock_mode.value and until is not None,
                f"locked: {mode} until {until}",
            )


def _invoke(world: World, schedule: str) -> Any:
    world.narrator.fact(f"schedule {schedule}: its Input, to its function, under that function's role")
    outcome = functions.invoke_schedule(world.sandbox, schedule, scheduled_for=world.now())
    if outcome.error:
        raise DemoError(f"schedule {schedule}: the function failed: {outcome.error}")
    return outcome.answer


def _expect_measured_loss(world: World, record: Restore) -> None:
    bound = world.app.environment.objectives.rpo_seconds
    loss = record.loss_seconds
    world.narrator.expect(
        loss is not None and loss <= bound,
        f"loss measured from the restored heartbeat: {loss:.1f} s, objective {bound} s"
        if loss is not None
        else "a heartbeat came back, so that the loss can be measured",
    )
