"""Makes one compliance report: reads the catalog, writes the files where nobody can change them, files the record."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Artefact, Report
from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.evidence.build import Records, build_report, report_id, year_start
from aivo_backup.evidence.model import ComplianceReport
from aivo_backup.evidence.periods import Period, window
from aivo_backup.evidence.render import HTML_TYPE, JSON_TYPE, html_bytes, json_bytes, parse_report
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.names import REPORTS_PREFIX
from aivo_backup.stores.aws import translated
from aivo_backup.stores.port import Clock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

JSON_NAME = "report.json"
HTML_NAME = "report.html"


@dataclass(frozen=True, kw_only=True)
class MadeReport:
    """A report, the record that names its files, and the files that were also put on disk (if a folder was given)."""

    record: Report
    report: ComplianceReport
    on_disk: tuple[Path, ...] = ()


def make_report(
    *,
    catalog: Catalog,
    s3: "S3Client",
    environment: Environment,
    period: Period,
    scheduled_for: datetime,
    clock: Clock,
    folder: Path | None = None,
) -> MadeReport:
    """Makes the report of a period, once per scheduled time: a second call finds the first one's files and record.

    The JSON is written first and read back if it is there already, and the page is drawn from it: so an attempt that
    follows one that died half way completes the same report and does not make a second truth.

    Args:
        scheduled_for: the schedule's own time, UTC; with ``period`` it says what is covered.
        folder: where copies are put on disk, besides the locked bucket.

    Raises:
        UnreachableError, AccessDeniedError: the bucket does not answer, or refuses.
        ConfigurationError: the folder cannot be written (the report itself is filed by then).
    """
    catalog.deliver_spooled()
    bucket, name = environment.evidence.bucket, report_id(period, scheduled_for)
    prefix = f"{REPORTS_PREFIX}{period.value}/{name}/"

    def build() -> bytes:
        return json_bytes(
            build_report(
                _records(catalog, period, scheduled_for),
                environment=environment,
                period=period,
                scheduled_for=scheduled_for,
                now=clock(),
            )
        )

    data, data_file = _written_once(catalog, s3, bucket, f"{prefix}{JSON_NAME}", JSON_TYPE, build)
    report = parse_report(data, where=f"s3://{bucket}/{prefix}{JSON_NAME}")
    page, page_file = _written_once(catalog, s3, bucket, f"{prefix}{HTML_NAME}", HTML_TYPE, lambda: html_bytes(report))
    record = Report(
        id=report.id,
        period_start=report.period_start,
        period_end=report.period_end,
        # The report's own time, not this attempt's: a repetition then files the same record under the same key.
        generated=report.generated,
        files=(data_file, page_file),
        objectives_met=report.objectives_met,
    )
    catalog.append(record)
    on_disk = () if folder is None else _copies(folder / name, {JSON_NAME: data, HTML_NAME: page})
    return MadeReport(record=record, report=report, on_disk=on_disk)


def _records(catalog: Catalog, period: Period, scheduled_for: datetime) -> Records:
    start, end = window(period, scheduled_for)
    year = year_start(period, scheduled_for)
    return Records(
        runs=catalog.runs(since=year, until=end),
        points=catalog.points(since=start, until=end),
        restores=catalog.restores(since=year, until=end),
        registrations=catalog.registrations(since=start, until=end),
        expiries=catalog.expiries(since=start, until=end),
    )


def _written_once(
    catalog: Catalog, s3: "S3Client", bucket: str, key: str, content_type: str, make: Callable[[], bytes]
) -> tuple[bytes, Artefact]:
    """The bytes that the key holds, written now unless an earlier attempt did, and where they are."""
    there = _read(s3, bucket, key)
    if there is None:
        body = make()
        catalog.write_object(key, body, content_type)
        # Read back in either case: what another attempt wrote in between counts, not what this one made.
        there = _read(s3, bucket, key)
    if there is None:
        raise BackupError(f"s3://{bucket}/{key} was written and is not there", mend="look for a delete marker on it")
    return there


def _read(s3: "S3Client", bucket: str, key: str) -> tuple[bytes, Artefact] | None:
    # A listing, because asking for a missing key answers "denied" to whoever may not list, and 404 to others.
    with translated(f"s3://{bucket}/{key}"):
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if not any(entry.get("Key") == key for entry in listed):
            return None
        answer = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        body = answer["Body"].read()
    return body, Artefact(
        location=bucket,
        key=key,
        version_id=answer.get("VersionId", ""),
        size_bytes=len(body),
        checksum=answer.get("ChecksumSHA256", ""),
    )


def _copies(folder: Path, files: dict[str, bytes]) -> tuple[Path, ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            (folder / name).write_bytes(body)
    except OSError as error:
        raise ConfigurationError(
            f"the report cannot be put into {folder}: {error.strerror}", mend="name a folder that can be written"
        ) from error
    return tuple(folder / name for name in files)
