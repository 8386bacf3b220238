"""What those who restore may do to workloads and Jobs, in CEL, as the API server evaluates it."""

import json
import re
from collections.abc import Sequence

from aivo_backup.policy.database_pod import sidecar_variables
from aivo_backup.policy.environment import DatabasePod, PostgresSettings
from aivo_backup.policy.names import PROJECT, SETTINGS_CONFIG_MAP
from aivo_backup.policy.restore_job import COMMAND, RESTORE_LABEL, SUBCOMMAND, claim
from aivo_backup.policy.workloads import FORMER
from infra.admission import Rule

# Every field of a Deployment's and a StatefulSet's spec but the scale and the template. One of them says whether
# scaling to nothing deletes the volumes.
_KEPT = (
    "minReadySeconds",
    "ordinals",
    "paused",
    "persistentVolumeClaimRetentionPolicy",
    "podManagementPolicy",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
    "selector",
    "serviceName",
    "strategy",
    "updateStrategy",
    "volumeClaimTemplates",
)
_METADATA = ("labels", "ownerReferences", "finalizers")
# What `kubectl rollout restart` writes into the template, so that new pods are made of it.
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
_EQUALITY = re.compile(r"\s*([^\s=!,()]+)\s*==?\s*([^\s=!,()]*)\s*")


def scale_rules(database: DatabasePod, selector: str, store_namespace: str) -> list[Rule]:
    """Of the database, of applications and of what is ours, the scale is changed, with the note of the former one, or
    their pods are made anew.

    Args:
        selector: of the applications. One that is no list of equalities cannot be told here: then it is any workload of
            the two namespaces.
    """
    rules = [
        Rule(
            expression=" && ".join(
                (
                    *(_same("spec", field) for field in _KEPT),
                    _same("spec.template", "spec"),
                    _same("spec.template.metadata", "labels"),
                    _same_annotations("spec.template.metadata", but=_RESTARTED),
                )
            ),
            message="those who restore change a workload's scale, or have its pods made anew, and nothing else of it",
        ),
        Rule(
            expression=" && ".join(
                (*(_same("metadata", it) for it in _METADATA), _same_annotations("metadata", but=FORMER))
            ),
            message=f"those who restore note a workload's former scale ({FORMER}), and nothing else at it",
        ),
    ]
    if labels := _labels(selector):
        is_database = (
            f"(request.namespace == {_text(store_namespace)} && request.resource.resource == 'statefulsets' "
            f"&& object.metadata.name == {_text(database.stateful_set)})"
        )
        theirs = " && ".join(_has_label(key, value) for key, value in labels)
        told = f"those who restore scale the database, what is labelled {selector}, and what is ours"
        ours = _has_label("app.kubernetes.io/part-of", PROJECT)
        rules.append(Rule(expression=f"{is_database} || ({theirs}) || {ours}", message=told))
    return rules


def job_rules(settings: PostgresSettings) -> list[Rule]:
    """A Job is that of a restore: our program on the database's volume, with nothing else mounted or read."""
    pod, spec = settings.pod, "object.spec.template.spec"
    one = f"{spec}.containers"
    variables = "{" + ", ".join(f"{_text(key)}: {_text(value)}" for key, value in sidecar_variables().items()) + "}"
    volumes = (
        "has(v.emptyDir)",
        f"(has(v.configMap) && v.configMap.name == {_text(SETTINGS_CONFIG_MAP)})",
        f"(has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName == {_text(claim(pod))})",
    )
    subcommand = " && ".join(f"c.args[{number}] == {_text(word)}" for number, word in enumerate(SUBCOMMAND))
    spaces = ("hostNetwork", "hostPID", "hostIPC")
    hooks = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
    return [
        Rule(
            expression=f"{spec}.serviceAccountName == {_text(pod.service_account)} "
            f"&& {spec}.?automountServiceAccountToken == optional.of(false) "
            f"&& {_has_label(RESTORE_LABEL, pod.stateful_set)}",
            message=f"a restore's Job runs as {pod.service_account}, without a token of the cluster, and has its label",
        ),
        Rule(
            expression=f"size({one}) == 1 && !has({spec}.initContainers) && {one}.all(c, "
            f"c.image == {_text(pod.image)} && c.?command == optional.of({_list(COMMAND)}) "
            f"&& has(c.args) && size(c.args) >= {len(SUBCOMMAND)} && {subcommand} "
            f"&& {' && '.join(f'!has(c.{hook})' for hook in hooks)})",
            message=f"a restore's Job runs `{' '.join((*COMMAND, *SUBCOMMAND))}` from the environment's image",
        ),
        Rule(
            expression=f"{one}.all(c, !has(c.envFrom) && c.?env.orValue([]).all(e, !has(e.valueFrom) "
            f"&& e.name in {variables} && e.value == {variables}[e.name]))",
            message="a restore's Job has the environment's variables, and reads no secret into any",
        ),
        Rule(
            expression=f"{spec}.?volumes.orValue([]).all(v, {' || '.join(volumes)})",
            message=f"a restore's Job mounts {claim(pod)}, the settings and folders of its own",
        ),
        Rule(
            expression=" && ".join(f"!{spec}.?{space}.orValue(false)" for space in spaces)
            + f" && {one}.all(c, c.?securityContext.?allowPrivilegeEscalation == optional.of(false) "
            f"&& !c.?securityContext.?privileged.orValue(false) && !c.?securityContext.?capabilities.?add.hasValue() "
            f"&& c.?securityContext.?runAsUser == optional.of({pod.user_id}))",
            message=f"a restore's Job runs as user {pod.user_id}, on its own, without privileges",
        ),
    ]


def removal_rules() -> list[Rule]:
    """A Job that is removed is a restore's."""
    return [
        Rule(
            expression=f"oldObject.metadata.?labels[?{_text(RESTORE_LABEL)}].hasValue()",
            message="those who restore remove Jobs of restores, and no other",
        )
    ]


def _same(path: str, field: str) -> str:
    return f"object.{path}.?{field} == oldObject.{path}.?{field}"


def _same_annotations(path: str, *, but: str) -> str:
    new, old = (f"{which}.{path}.?annotations.orValue({{}})" for which in ("object", "oldObject"))
    kept = f"{new}.all(k, k == {_text(but)} || (k in {old} && {old}[k] == {new}[k]))"
    return f"{kept} && {old}.all(k, k == {_text(but)} || k in {new})"


def _has_label(key: str, value: str) -> str:
    return f"object.metadata.?labels[?{_text(key)}] == optional.of({_text(value)})"


def _labels(selector: str) -> list[tuple[str, str]]:
    """The labels of a selector that is a list of equalities; none of any other."""
    found = [_EQUALITY.fullmatch(term) for term in selector.split(",")]
    return [(it[1], it[2]) for it in found if it] if all(found) else []


def _text(value: str) -> str:
    # CEL's escapes in double quotes are those of JSON.
    return json.dumps(value)


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"
