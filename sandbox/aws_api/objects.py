"""moto's stored objects, reached from inside its process. All knowledge of moto's own classes is here."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, LifecycleRule, s3_backends

Version: TypeAlias = FakeKey | FakeDeleteMarker


class NotFoundError(Exception):
    """No such bucket, key or version."""


def buckets() -> list[FakeBucket]:
    """Every bucket of every account and partition."""
    backends = [backend for account in s3_backends.values() for backend in account.values()]
    return [bucket for backend in backends for bucket in backend.buckets.values()]


def bucket(name: str) -> FakeBucket:
    """One bucket. Raises NotFoundError."""
    for found in buckets():
        if found.name == name:
            return found
    raise NotFoundError(f"there is no bucket {name}")


def histories(of: FakeBucket) -> Iterator[tuple[str, list[Version]]]:
    """Key and versions (oldest first, a copy) of every key in a bucket."""
    keys: list[str] = list(cast("dict[str, Any]", of.keys))
    for key in keys:
        versions: list[Version] = list(of.keys.getlist(key, []))
        if versions:
            yield key, versions


def set_history(of: FakeBucket, key: str, versions: list[Version]) -> None:
    """Puts these versions (oldest first) in place of what a key has; with none the key is gone."""
    of.keys.setlist(key, versions)
    if not versions:
        of.keys.pop(key)


def find_version(of: FakeBucket, key: str, version_id: str) -> FakeKey:
    """A version with content; the current one when ``version_id`` is empty. Raises NotFoundError."""
    versions: list[Version] = list(of.keys.getlist(key, []))
    if not version_id:
        versions = versions[-1:]
    for version in versions:
        if isinstance(version, FakeKey) and version_id in ("", version.version_id):
            return version
    raise NotFoundError(f"there is no version {version_id or '(current)'} of {key} in {of.name}")


def modified(version: Version) -> datetime:
    """When a version was written, UTC (moto keeps it without a zone)."""
    return version.last_modified.replace(tzinfo=UTC)


def tags(of: FakeKey) -> dict[str, str]:
    """The tags of a version."""
    backend = s3_backends[of.account_id][of.partition]
    return dict(backend.tagger.get_tag_dict_for_resource(of.arn))


def locked_at(version: FakeKey, moment: datetime) -> bool:
    """Whether Object Lock (retention or legal hold) keeps a version at ``moment`` (UTC)."""
    if version.lock_legal_status == "ON":
        return True
    if not version.lock_mode or not version.lock_until:
        return False
    until = datetime.fromisoformat(version.lock_until.replace("Z", "+00:00"))
    return until > moment


def delete_marker(key: FakeKey, moment: datetime) -> FakeDeleteMarker:
    """A new delete marker for a key, dated ``moment`` (UTC)."""
    marker = cast("FakeDeleteMarker", FakeDeleteMarker(key))  # moto types every construction as its base class
    marker.last_modified = moment.astimezone(UTC).replace(tzinfo=None)
    return marker


def copied(version: FakeKey, *, to: FakeBucket, kms_key_id: str | None) -> FakeKey:
    """A replica of a version: same id, date, content, metadata, tags, checksum and lock; its own encryption key."""
    made = FakeKey(
        name=version.name,
        value=version.value,
        account_id=to.account_id,
        region_name=to.region_name,
        storage=version.storage_class,
        etag=version.etag.strip('"'),
        is_versioned=True,
        version_id=version.version_id,
        bucket_name=to.name,
        encryption=version.encryption,
        kms_key_id=kms_key_id or version.kms_key_id,
        bucket_key_enabled=version.bucket_key_enabled,
        lock_mode=version.lock_mode,
        lock_legal_status=version.lock_legal_status,
        lock_until=version.lock_until,
        checksum_value=version.checksum_value,
        checksum_type=version.checksum_type,
        checksum_parts=version.checksum_parts,
    )
    replica = cast("FakeKey", made)
    replica.checksum_algorithm = version.checksum_algorithm
    replica.last_modified = version.last_modified
    replica.set_metadata(dict(version.metadata), replace=False)
    backend = s3_backends[to.account_id][to.partition]
    own_tags = tags(version)
    if own_tags:
        backend.tagger.tag_resource(replica.arn, backend.tagger.convert_dict_to_tags_input(own_tags))
    return replica


def flip_byte(version: FakeKey, offset: int | None) -> tuple[int, int, int]:
    """Inverts one byte of a version's content and nothing else. Returns offset, old and new value.

    Raises:
        NotFoundError: the object has no byte there.
    """
    _ = version.etag  # computed on first use: it must be that of the content before
    content = bytearray(version.value)
    position = len(content) // 2 if offset is None else offset
    if not 0 <= position < len(content):
        raise NotFoundError(f"{version.name} has {len(content)} bytes: none at {position}")
    before = content[position]
    content[position] = before ^ 0xFF
    with version.lock:
        stored: Any = version  # moto types the property's getter only
        stored.value = bytes(content)
    return position, before, content[position]


def lifecycle_rules(of: FakeBucket) -> list[LifecycleRule]:
    """The enabled lifecycle rules of a bucket."""
    return [rule for rule in of.rules if rule.status == "Enabled"]


def rule_covers(rule: LifecycleRule, version: Version) -> bool:
    """Whether a rule's prefix and tags select a version (a delete marker has no tags)."""
    prefix = rule.prefix or ""
    wanted: dict[str, str] = {}
    if rule.filter is not None:
        prefix = rule.filter.prefix or prefix
        if rule.filter.tag_key:
            wanted = {rule.filter.tag_key: rule.filter.tag_value or ""}
        if rule.filter.and_filter is not None:
            prefix = rule.filter.and_filter.prefix or prefix
            wanted = dict(rule.filter.and_filter.tags)
    if not version.name.startswith(prefix):
        return False
    if not wanted:
        return True
    return isinstance(version, FakeKey) and wanted.items() <= tags(version).items()
