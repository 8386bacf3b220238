"""S3 lifecycle, as of a given time: what moto stores as configuration and never does.

S3 acts at midnight UTC: an age of N days is reached at the first midnight that is at least N days after the moment
counted from. Transitions between storage classes are left out: they change what an object costs, not what it is.
"""

from datetime import UTC, datetime, time, timedelta
from weakref import WeakKeyDictionary

from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, FakeMultipart, LifecycleRule

from sandbox.aws_api import objects
from sandbox.aws_api.control import LifecycleAction
from sandbox.aws_api.objects import Version

# moto does not date multipart uploads; the application notes each one's begin.
_uploads_begun: WeakKeyDictionary[FakeMultipart, datetime] = WeakKeyDictionary()


def note_uploads(now: datetime) -> None:
    """Dates the uploads that are new since the last call; called after each request that can begin one."""
    for bucket in objects.buckets():
        for upload in list(bucket.multiparts.values()):
            _uploads_begun.setdefault(upload, now)


def apply(as_of: datetime, only_bucket: str = "") -> list[LifecycleAction]:
    """Applies the stored rules as S3 would have done by ``as_of`` (UTC). Returns what was done, or held by a lock."""
    buckets = [objects.bucket(only_bucket)] if only_bucket else objects.buckets()
    return [action for bucket in buckets for action in _apply_to_bucket(bucket, as_of)]


def _apply_to_bucket(bucket: FakeBucket, as_of: datetime) -> list[LifecycleAction]:
    rules = objects.lifecycle_rules(bucket)
    actions: list[LifecycleAction] = []
    if not rules:
        return actions
    for key, versions in objects.histories(bucket):
        before = list(versions)
        versions = _expire_current(bucket, versions, rules, as_of, actions)
        versions = _expire_noncurrent(bucket, versions, rules, as_of, actions)
        versions = _expire_lone_marker(bucket, versions, rules, as_of, actions)
        if versions != before:
            objects.set_history(bucket, key, versions)
    _abort_uploads(bucket, rules, as_of, actions)
    return actions


def _expire_current(
    bucket: FakeBucket,
    versions: list[Version],
    rules: list[LifecycleRule],
    as_of: datetime,
    done: list[LifecycleAction],
) -> list[Version]:
    current = versions[-1]
    if not isinstance(current, FakeKey):
        return versions
    moments = [
        moment
        for rule in rules
        if objects.rule_covers(rule, current) and (moment := _expiry(rule, objects.modified(current))) is not None
    ]
    if not moments or min(moments) > as_of:
        return versions
    done.append(_action("expire", bucket, current))
    if not bucket.is_versioned:
        return versions[:-1]
    return [*versions, objects.delete_marker(current, min(moments))]


def _expire_noncurrent(
    bucket: FakeBucket,
    versions: list[Version],
    rules: list[LifecycleRule],
    as_of: datetime,
    done: list[LifecycleAction],
) -> list[Version]:
    kept: list[Version] = []
    for position, version in enumerate(versions[:-1]):
        # A version's days count from the moment its successor took its place.
        superseded = objects.modified(versions[position + 1])
        days = [
            int(rule.nve_noncurrent_days)
            for rule in rules
            if rule.nve_noncurrent_days and objects.rule_covers(rule, version)
        ]
        if not days or _midnight_after(superseded, min(days)) > as_of:
            kept.append(version)
        elif isinstance(version, FakeKey) and objects.locked_at(version, as_of):
            kept.append(version)
            done.append(_action("locked", bucket, version))
        else:
            done.append(_action("expire-noncurrent", bucket, version))
    return [*kept, versions[-1]] if versions else kept


def _expire_lone_marker(
    bucket: FakeBucket,
    versions: list[Version],
    rules: list[LifecycleRule],
    as_of: datetime,
    done: list[LifecycleAction],
) -> list[Version]:
    if len(versions) != 1 or not isinstance(versions[0], FakeDeleteMarker):
        return versions
    marker = versions[0]
    for rule in rules:
        expiry = _expiry(rule, objects.modified(marker))
        # S3 clears a delete marker that hides nothing when told so, and also under a rule that expires by age.
        told = str(rule.expired_object_delete_marker).lower() == "true"
        if objects.rule_covers(rule, marker) and (told or (expiry is not None and expiry <= as_of)):
            done.append(_action("expire-marker", bucket, marker))
            return []
    return versions


def _abort_uploads(
    bucket: FakeBucket, rules: list[LifecycleRule], as_of: datetime, done: list[LifecycleAction]
) -> None:
    for upload_id, upload in list(bucket.multiparts.items()):
        begun = _uploads_begun.get(upload)
        for rule in rules:
            prefix = (rule.filter.prefix if rule.filter else rule.prefix) or ""
            if begun is None or not rule.aimu_days or not upload.key_name.startswith(prefix):
                continue
            if _midnight_after(begun, int(rule.aimu_days)) <= as_of:
                del bucket.multiparts[upload_id]
                done.append(
                    LifecycleAction(
                        action="abort-upload", bucket=bucket.name, key=upload.key_name, version_id=str(upload_id)
                    )
                )
                break


def _expiry(rule: LifecycleRule, written: datetime) -> datetime | None:
    if rule.expiration_days:
        return _midnight_after(written, int(rule.expiration_days))
    if rule.expiration_date:
        return datetime.fromisoformat(rule.expiration_date.replace("Z", "+00:00")).astimezone(UTC)
    return None


def _midnight_after(moment: datetime, days: int) -> datetime:
    due = moment + timedelta(days=days)
    midnight = datetime.combine(due.date(), time(tzinfo=UTC))
    return midnight if midnight == due else midnight + timedelta(days=1)


def _action(what: str, bucket: FakeBucket, version: Version) -> LifecycleAction:
    return LifecycleAction(action=what, bucket=bucket.name, key=version.name, version_id=version.version_id)
