"""Provisions the sandbox: the one Pulumi program, made true by looking up, creating and correcting."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.names import PROJECT
from aivo_backup.stores.aws import translated
from sandbox import plan
from sandbox.provision.engine import Realising, merged
from sandbox.provision.kubernetes import PREFIX as KUBERNETES
from sandbox.provision.kubernetes import realise_manifest
from sandbox.provision.registry import invoke, realiser_for
from sandbox.provision.resources import Clients, Realised, Resource, realise
from sandbox.provision.summary import Entry, Summary
from sandbox.state import ACCOUNT, REGION, Sandbox

STACK = "local"

Progress = Callable[[Entry], None]


class Provisioner:
    """Realises the stack ``local`` in a running sandbox, as its administrator.

    Args:
        overrides: stack configuration by full key, on top of what only this machine knows
            (:func:`local_configuration`) and of the stack's file; nested objects are merged.
        progress: called with each resource once it is true.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        overrides: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._overrides = merged(local_configuration(sandbox), overrides or {})
        self._progress = progress

    def provision(self, now: datetime) -> Summary:
        """Makes everything true, then switches IAM enforcement on. Repeating it changes nothing.

        Args:
            now: when (UTC), for the summary and ``state.json``.

        Raises:
            ConfigurationError: the program has a resource that the sandbox cannot realise, or wrong settings.
            BackupError: the AWS API refused something.
            UnreachableError: the sandbox is not up.
        """
        sandbox = self._sandbox
        control = sandbox.aws_control
        instance = control.instance()
        by_region: dict[str, Clients] = {REGION: self._clients(REGION)}
        entries: list[Entry] = []

        def make_true(resource: Resource) -> tuple[str, dict[str, Any]]:
            region = resource.region or REGION
            aws = by_region[region] = by_region.get(region) or self._clients(region)
            realised = self._realise(aws, resource)
            entry = Entry(kind=resource.kind, name=realised.name, change=realised.change)
            entries.append(entry)
            if self._progress is not None:
                self._progress(entry)
            return realised.id, realised.outputs

        self._run_program(Realising(make_true, lambda token, _: invoke(by_region[REGION], token)))
        control.enforce_iam(True)
        # All AWS state dies with the API's process: this is how a later command knows that it has to provision again.
        sandbox.remember(provisioned={"at": format_time(now), "instance": instance})
        return Summary(at=now, entries=tuple(entries))

    def _run_program(self, realising: Realising) -> None:
        try:
            plan.register(STACK, realiser=realising, overrides=self._overrides)
        except Exception as error:
            cause = realising.failure or error
            if isinstance(cause, BackupError):
                raise cause from error
            raise BackupError(
                f"the Pulumi program failed: {type(cause).__name__}: {cause}", mend=f"try `make plan STACK={STACK}`"
            ) from cause

    def _realise(self, aws: Clients, resource: Resource) -> Realised:
        if resource.kind.startswith(KUBERNETES):
            return realise_manifest(self._sandbox.home / "kubernetes", resource)
        with translated(f"{resource.kind} {resource.logical}"):
            return realise(realiser_for(resource.kind), aws, resource)

    def _clients(self, region: str) -> Clients:
        session = self._sandbox.aws(region)
        with translated("the sandbox's administrator"):
            administrator = session.client("sts").get_caller_identity()["Arn"]
        return Clients(
            session,
            account=ACCOUNT,
            administrator=administrator,
            checkout=self._sandbox.checkout,
            secrets_folder=self._sandbox.secrets,
        )


def local_configuration(sandbox: Sandbox) -> dict[str, Any]:
    """The stack configuration that only this machine knows: where its OpenSearch and its PostgreSQL programs lie.

    Raises:
        ConfigurationError: the set-up has not run.
    """
    return {
        f"{PROJECT}:opensearch": {"fs_location": str(sandbox.home / "opensearch" / "snapshots")},
        f"{PROJECT}:postgres": {"bin_path": str(sandbox.tools.postgres_bin)},
    }


def is_provisioned(sandbox: Sandbox) -> bool:
    """Whether what the AWS API holds now was provisioned, that is, by this life of its process.

    Raises:
        UnreachableError: the sandbox is not up.
    """
    noted = sandbox.remembered().get("provisioned", {})
    return noted.get("instance") == sandbox.aws_control.instance()
