"""Registers the Pulumi program in this process, without Pulumi's CLI, a cloud or a cluster.

``python -m sandbox.plan prod`` (``make plan STACK=prod``) writes ``build/plan/prod.json``, every resource with its
type, name, inputs, parent and options, and ``build/plan/prod/*.yaml``, every Kubernetes object.
"""

import asyncio
import contextvars
import json
import runpy
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml
from pulumi.runtime import mocks, rpc, set_all_config, stack
from pulumi.runtime import settings as runtime_settings

from aivo_backup.errors import BackupError, ConfigurationError, ExitCode
from aivo_backup.policy.names import PROJECT
from infra import functions, settings
from sandbox import packages
from sandbox.provision.engine import stack_configuration

ROOT = Path(__file__).resolve().parent.parent
_STACK_TYPE = "pulumi:pulumi:Stack"
_KUBERNETES = "kubernetes:"
# Options that change what happens to a resource; the rest of a request is the engine's own business.
_OPTIONS = ("protect", "retainOnDelete", "deleteBeforeReplace", "ignoreChanges", "provider", "dependencies")


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One resource as the program registered it.

    Attributes:
        parent: URN of the parent.
        options: Pulumi's resource options, only those that are set.
        id: what the realiser called it.
        state: what the realiser answered.
    """

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    parent: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: str = ""
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Everything that one run of the program registered, in order, and what it exported."""

    resources: tuple[Registered, ...]
    outputs: Mapping[str, Any]

    def of_type(self, resource_type: str) -> tuple[Registered, ...]:
        """The resources of one type, for example ``aws:s3/bucket:Bucket``."""
        return tuple(resource for resource in self.resources if resource.type == resource_type)


class Planned(mocks.Mocks):
    """Answers as a provider would, from the inputs alone: nothing is created anywhere."""

    def __init__(self, *, region: str, account_id: str) -> None:
        self._region = region
        self._account_id = account_id

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """An id, and the inputs with the outputs that the program reads."""
        inputs = cast("dict[str, Any]", args.inputs)
        name = str(inputs.get("bucket") or inputs.get("name") or args.name)
        service, _, kind = args.typ.partition(":")[2].partition("/")
        if service == "s3":
            arn = f"arn:aws:s3:::{name}"
        elif service == "iam":
            arn = f"arn:aws:iam::{self._account_id}:{kind.partition(':')[0]}/{name}"
        else:
            arn = f"arn:aws:{service}:{self._region}:{self._account_id}:{kind.partition(':')[0]}/{name}"
        return name, {**inputs, "arn": arn, "keyId": name, "url": f"https://{service}.invalid/{name}"}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """The program looks nothing up: a plan must not depend on what an account happens to hold."""
        raise NotImplementedError(f"the program must not call {args.token}")


class _Recorder(mocks.MockMonitor):
    """Keeps parent and options too, which the plain mocks do not pass on."""

    def __init__(self, realiser: mocks.Mocks) -> None:
        super().__init__(realiser)
        self.registered: list[Registered] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name of the engine's call
        answer = super().RegisterResource(request)
        if request.type != _STACK_TYPE:
            known = self.resources[answer.urn]
            self.registered.append(
                Registered(
                    urn=answer.urn,
                    type=request.type,
                    name=request.name,
                    inputs=cast("dict[str, Any]", _whole(rpc.deserialize_properties(request.object))),
                    parent=request.parent,
                    options=_options(request),
                    id=str(known.id or ""),
                    state=cast("dict[str, Any]", known.state),
                )
            )
        return answer


def _options(request: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in _OPTIONS:
        value = getattr(request, name)
        if value:
            # A set on its way here: its order says nothing and differs from run to run.
            options[name] = value if isinstance(value, bool | str) else sorted(str(entry) for entry in value)
    return options


def register(
    name: str, *, realiser: mocks.Mocks | None = None, overrides: Mapping[str, object] | None = None
) -> Registration:
    """Runs the program for one stack. May be called any number of times in one process.

    Args:
        realiser: what is asked for each resource's id and state, in the order in which they can be created; by
            default nothing is created.
        overrides: values in place of the stack file's, by full key; nested objects are merged.

    Raises:
        ConfigurationError: there is no such stack, or its configuration is refused.
    """
    known = sorted(file.name.split(".")[1] for file in (ROOT / "stacks").glob("Pulumi.*.yaml"))
    if name not in known:
        raise ConfigurationError(f"stack {name!r} does not exist", mend=f"known: {', '.join(known)}")
    configuration = stack_configuration(ROOT, name, overrides or {})
    if functions.needs_packages(settings.load(name, configuration)):
        # Before Pulumi's CLI comes `make lambdas`, or the program refuses; here it is done on the way.
        packages.ensure(ROOT)
    if realiser is None:
        realiser = Planned(region=configuration[f"{PROJECT}:region"], account_id=configuration[f"{PROJECT}:account_id"])
    # Pulumi keeps its state in context variables: a context of its own makes the next run start from nothing.
    return contextvars.Context().run(_run, name, configuration, realiser)


def _run(name: str, configuration: dict[str, str], realiser: mocks.Mocks) -> Registration:
    recorder = _Recorder(realiser)
    loop = asyncio.new_event_loop()
    # What fails comes out of the run itself; asyncio would report it once more for every resource that waited for it.
    loop.set_exception_handler(lambda _loop, _context: None)
    # Pulumi asks for the thread's loop while the mocks are set, so it has to be there before.
    asyncio.set_event_loop(loop)
    try:
        # The one part of Pulumi's state that set_mocks leaves alone: outputs of an earlier run that failed.
        cast("Any", runtime_settings.SETTINGS).outputs = set[object]()
        set_all_config(configuration)
        mocks.set_mocks(realiser, project=PROJECT, stack=name, preview=False, monitor=recorder)
        loop.run_until_complete(stack.run_pulumi_func(_program))
        root = cast("stack.Stack", runtime_settings.get_root_resource())
        outputs = loop.run_until_complete(pulumi.Output.from_input(root.outputs).future())
    except pulumi.RunError as error:
        raise ConfigurationError(str(error)) from error
    finally:
        _end_tasks(loop)
        asyncio.set_event_loop(None)
        loop.close()
    return Registration(resources=tuple(recorder.registered), outputs=outputs or {})


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Ends what a failed run left waiting."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _program() -> None:
    runpy.run_path(str(ROOT / "__main__.py"))


def write(registration: Registration, folder: Path, name: str) -> tuple[Path, int]:
    """Writes ``<folder>/<name>.json`` and ``<folder>/<name>/*.yaml``; what was there for the stack is replaced.

    Returns:
        the JSON file and the number of Kubernetes objects.
    """
    manifests = folder / name
    if manifests.exists():
        shutil.rmtree(manifests)
    manifests.mkdir(parents=True)
    resources = sorted(registration.resources, key=lambda resource: resource.urn)
    plan = {
        "stack": name,
        "resources": [
            {
                "urn": resource.urn,
                "type": resource.type,
                "name": resource.name,
                "inputs": resource.inputs,
                "parent": resource.parent,
                "options": resource.options,
            }
            for resource in resources
        ],
        "outputs": registration.outputs,
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(plan, indent=1, sort_keys=True, default=_plain) + "\n")
    objects = [resource for resource in resources if resource.type.startswith(_KUBERNETES)]
    for resource in objects:
        kind, label = resource.inputs["kind"], resource.inputs["metadata"]["name"]
        (manifests / f"{kind.lower()}-{label}.yaml").write_text(_manifest(resource.inputs))
    return file, len(objects)


def _manifest(body: Mapping[str, Any]) -> str:
    """YAML with what a reader looks for first on top, and the rest in an order that is the same at every run."""
    first = ("apiVersion", "kind", "metadata")
    parts = [{key: body[key]} for key in (*first, *sorted(set(body) - set(first))) if key in body]
    return "".join(yaml.safe_dump(part, sort_keys=True, allow_unicode=True) for part in parts)


def _whole(value: object) -> object:
    """The values themselves: secrets unwrapped, and whole numbers, which protocol buffers do not know, made int.

    What is unwrapped is what the provider marks, like the settings parameter; the program itself holds no secret.
    """
    if rpc.is_rpc_secret(value):
        return _whole(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_whole(item) for item in cast("list[object]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _plain(value: object) -> object:
    """A package by its path; its digest is an input of its own, and the bytes are no part of a plan."""
    if isinstance(value, pulumi.FileArchive):
        return {"path": value.path}
    raise TypeError(f"{type(value).__name__} has no place in a plan")


def main(arguments: list[str]) -> int:
    """The command behind ``make plan``; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sandbox.plan STACK (make plan STACK=prod)\n")
        return ExitCode.USAGE
    name = arguments[0]
    try:
        registration = register(name)
    except BackupError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    file, objects = write(registration, ROOT / "build" / "plan", name)
    sys.stdout.write(
        f"{file.relative_to(ROOT)}: {len(registration.resources)} resources; "
        f"{file.parent.relative_to(ROOT)}/{name}/: {objects} Kubernetes objects\n"
    )
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
