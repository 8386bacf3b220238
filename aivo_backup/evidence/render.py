"""The report as files: JSON for machines, one self-contained HTML page for people."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Generic, TypeVar, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from aivo_backup.catalog.records import RunStatus
from aivo_backup.evidence import plots, wording
from aivo_backup.evidence.model import (
    ComplianceReport,
    Objective,
    Promise,
    ReportedPoint,
    ReportedRestore,
    ReportedRun,
    Unit,
)
from aivo_backup.policy.codec import format_time, from_json, to_json
from aivo_backup.policy.slo import Verdict

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"

SHOWN = 15
"""How many uneventful rows of one kind the page lists (the newest); ``report.json`` holds them all."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Shown(Generic[T]):
    """The rows that the page lists, oldest first, and how many more there are."""

    rows: tuple[T, ...]
    left_out: int


def json_bytes(report: ComplianceReport) -> bytes:
    """The machine-readable form."""
    return json.dumps(to_json(report), indent=1, ensure_ascii=False).encode()


def parse_report(body: bytes, *, where: str) -> ComplianceReport:
    """The inverse of :func:`json_bytes`.

    Raises:
        ConfigurationError: it is not such a report; the message names the key.
    """
    return from_json(ComplianceReport, json.loads(body), where=where)


def html_bytes(report: ComplianceReport) -> bytes:
    """The page. It is a function of the report alone: the same report gives the same bytes."""
    page = _template().render(
        report=report,
        headline=_headline(report),
        loss_plot=Markup(plots.loss_plot(report)),  # noqa: S704 - drawn here, and matplotlib escapes its texts
        time_plot=Markup(plots.restore_time_plot(report)),  # noqa: S704
        runs_plot=Markup(plots.runs_plot(report)),  # noqa: S704
        restores=_shown(report.restores, _eventful_restore),
        points=_shown(report.points, _eventful_point),
        runs=_shown(report.runs, _eventful_run),
    )
    return page.encode()


def _headline(report: ComplianceReport) -> str:
    missed = sum(row.verdict in (Verdict.MISSED, Verdict.ABSENT) for row in report.objectives)
    if missed:
        return f"{wording.count(missed, 'objective')} of {len(report.objectives)} missed or without proof"
    if report.verdict is Verdict.INSUFFICIENT:
        return "Nothing missed; the evidence is not yet enough for every objective"
    return "Every objective is met"


def _eventful_restore(entry: ReportedRestore) -> bool:
    return not entry.passed


def _eventful_point(entry: ReportedPoint) -> bool:
    return entry.proven is not None or entry.gone


def _eventful_run(entry: ReportedRun) -> bool:
    return entry.run.status is not RunStatus.SUCCEEDED or entry.run.late


def _shown(rows: Sequence[T], eventful: Callable[[T], bool]) -> Shown[T]:
    plain = [number for number, row in enumerate(rows) if not eventful(row)]
    hidden = frozenset(plain[: max(0, len(plain) - SHOWN)])
    kept = tuple(row for number, row in enumerate(rows) if number not in hidden)
    return Shown(rows=kept, left_out=len(hidden))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("aivo_backup.evidence"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "component": wording.name,
        "counted": wording.count,
        "promise": _promise_title,
        "duration": wording.duration,
        "share": wording.share,
        "size": wording.size,
        "moment": _time_element,
        "measure": _measure,
        "limit": _limit,
        "tone": _tone,
    }
    # The library's own type of this dict is inferred from its built-in filters, so it takes no other function.
    cast("dict[str, Callable[..., object]]", environment.filters).update(filters)
    return environment.get_template("report.html.j2")


def _time_element(at: datetime | None) -> str:
    if at is None:
        return wording.moment(None)
    return Markup('<time datetime="{}">{}</time>').format(format_time(at), wording.moment(at))


def _measure(row: Objective) -> str:
    return wording.duration(row.measured) if row.unit is Unit.SECONDS else wording.share(row.measured)


def _limit(row: Objective) -> str:
    if row.unit is Unit.SECONDS:
        return f"≤ {wording.duration(row.limit)}"
    return f"≥ {wording.share(row.limit)}"


_TITLES = {
    Promise.RECOVERY_POINT: "Data loss (RPO)",
    Promise.RECOVERY_TIME: "Time to restore (RTO)",
    Promise.BACKUP_SUCCESS: "Backup success",
    Promise.VERIFICATION_SUCCESS: "Verification success",
}


def _promise_title(promise: Promise) -> str:
    return _TITLES[promise]


_TONES = {Verdict.MET: "good", Verdict.INSUFFICIENT: "open", Verdict.ABSENT: "bad", Verdict.MISSED: "bad"}


def _tone(verdict: Verdict) -> str:
    return _TONES[verdict]
