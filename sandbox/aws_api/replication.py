"""S3 replication: carries out the rules that moto only stores."""

from collections.abc import Mapping, Sequence
from typing import Any

from moto.s3.models import FakeBucket, FakeKey

from sandbox.aws_api import objects
from sandbox.aws_api.control import Replicated
from sandbox.aws_api.objects import Version

_Rule = Mapping[str, Any]


def replicate() -> Replicated:
    """Applies every bucket's enabled rules. A replica keeps its version id, date, metadata and lock.

    As in S3: permanent deletions are not replicated; delete markers are if the rule says so; objects under KMS only
    if the rule selects them, and then under the key that it names.

    Raises:
        NotFoundError: a rule's destination does not exist.
    """
    versions, markers = 0, 0
    for source in objects.buckets():
        for rule in _rules(source):
            name = str(rule["Destination"]["Bucket"]).rpartition(":")[2]
            target = objects.bucket(name)
            for key, history in objects.histories(source):
                if key.startswith(_prefix(rule)):
                    new = _merge(history, list(target.keys.getlist(key, [])), rule, target)
                    versions += sum(isinstance(version, FakeKey) for version in new)
                    markers += sum(not isinstance(version, FakeKey) for version in new)
    return Replicated(versions=versions, delete_markers=markers)


def _merge(history: Sequence[Version], there: list[Version], rule: _Rule, target: FakeBucket) -> list[Version]:
    known = {version.version_id for version in there}
    new: list[Version] = []
    for version in history:
        if version.version_id in known or not _selected(version, rule):
            continue
        if isinstance(version, FakeKey):
            new.append(objects.copied(version, to=target, kms_key_id=_replica_key(rule)))
        else:
            new.append(version)
    if new:
        # The order of versions decides which one is current: by date, as in the source.
        objects.set_history(target, history[0].name, sorted([*there, *new], key=objects.modified))
    return new


def _rules(source: FakeBucket) -> list[_Rule]:
    # moto sets this attribute only once a configuration was put.
    stored: Mapping[str, Any] = getattr(source, "replication", None) or {}
    rules: list[_Rule] = stored.get("Rule", [])
    return [rule for rule in rules if rule.get("Status") == "Enabled"]


def _prefix(rule: _Rule) -> str:
    selection: Mapping[str, Any] = rule.get("Filter") or {}
    combined: Mapping[str, Any] = selection.get("And") or {}
    return str(combined.get("Prefix") or selection.get("Prefix") or rule.get("Prefix") or "")


def _selected(version: Version, rule: _Rule) -> bool:
    if not isinstance(version, FakeKey):
        # Rules without a Filter are of the first kind, which always replicates delete markers.
        switch: Mapping[str, Any] = rule.get("DeleteMarkerReplication") or {}
        return "Filter" not in rule or switch.get("Status") == "Enabled"
    if version.encryption == "aws:kms":
        criteria: Mapping[str, Any] = rule.get("SourceSelectionCriteria") or {}
        under_kms: Mapping[str, Any] = criteria.get("SseKmsEncryptedObjects") or {}
        return under_kms.get("Status") == "Enabled"
    return True


def _replica_key(rule: _Rule) -> str | None:
    encryption: Mapping[str, Any] = rule["Destination"].get("EncryptionConfiguration") or {}
    key: str | None = encryption.get("ReplicaKmsKeyID")
    return key
