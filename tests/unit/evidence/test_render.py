"""The files: JSON that reads back, a page that is whole in itself, and numbers that never flatter."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from aivo_backup.catalog.records import Check, RunStatus
from aivo_backup.errors import ConfigurationError
from aivo_backup.evidence import plots, wording
from aivo_backup.evidence.build import Records, build_report
from aivo_backup.evidence.model import ComplianceReport
from aivo_backup.evidence.periods import Period
from aivo_backup.evidence.render import SHOWN, html_bytes, json_bytes, parse_report
from aivo_backup.policy.environment import Component
from tests.unit.evidence.generated import NOW, SCHEDULED, environment, expiries, flawless, run

_VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks nesting, and collects ids, references and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "aria-labelledby":
                self.labels.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(records: Records) -> ComplianceReport:
    return build_report(records, environment=environment(), period=Period.DAILY, scheduled_for=SCHEDULED, now=NOW)


def page(records: Records) -> Page:
    return Page(html_bytes(made(records)).decode())


@pytest.fixture(scope="module")
def good() -> ComplianceReport:
    return made(flawless(3))


def test_the_json_reads_back_as_the_same_report(good: ComplianceReport) -> None:
    assert parse_report(json_bytes(good), where="report.json") == good


def test_a_report_of_another_shape_is_refused_by_key(good: ComplianceReport) -> None:
    data = json.loads(json_bytes(good))
    del data["objectives"][0]["verdict"]
    with pytest.raises(ConfigurationError, match=re.escape("report.json.objectives[0].verdict is missing")):
        parse_report(json.dumps(data).encode(), where="report.json")


def test_the_same_report_gives_the_same_bytes(good: ComplianceReport) -> None:
    assert html_bytes(good) == html_bytes(parse_report(json_bytes(good), where="report.json"))


@pytest.mark.parametrize("days", [0, 0.01, 3], ids=["empty", "minutes", "days"])
def test_the_page_is_well_formed_and_whole_in_itself(days: float) -> None:
    found = page(flawless(days))
    assert len(found.ids) == len(set(found.ids))
    assert set(found.labels) <= set(found.ids)
    assert all(address.startswith("#") and address[1:] in found.ids for address in found.addresses)


def test_failed_checks_are_on_the_page_by_name_and_escaped() -> None:
    records = flawless(3)
    last = records.restores[-1]
    evil = Check(name="content", passed=False, detail="<script>alert(1)</script> & key differs")
    text = html_bytes(made(replace(records, restores=[*records.restores[:-1], replace(last, checks=(evil,))]))).decode()
    assert "<script" not in text
    assert "content: <script>alert(1)</script> & key differs" in Page(text).text


def test_what_was_expired_and_what_could_not_be_is_on_the_page() -> None:
    records = flawless(3)
    point = next(one for one in reversed(records.points) if one.component is Component.MINIO)
    done = replace(records, expiries=expiries(removed=(point.id,)), registrations=())
    text = page(done).text
    assert f"minio-prune 2026-11-22 08:11:00 1 {point.id} 40 ✓ succeeded" in text
    assert "expired by retention" in text
    failed = [replace(one, error="the repository is away") for one in expiries(status=RunStatus.FAILED)]
    assert "✕ failed the repository is away" in page(replace(records, expiries=failed)).text
    assert "nothing was tried" in page(records).text


def test_silence_is_red() -> None:
    text = page(Records()).text
    assert "8 objectives of 8 missed or without proof" in text
    assert "no restore test in the period" in text
    assert "Nothing was restored in the period." in text


def test_uneventful_runs_are_cut_and_said_to_be_while_failures_never_are() -> None:
    records = flawless(1)
    failed = [run(f"odd-{n}", Component.MINIO, records.runs[0].started, RunStatus.FAILED) for n in range(SHOWN + 5)]
    text = page(replace(records, runs=[*failed, *records.runs])).text
    assert text.count("opensearch refused the snapshot") == SHOWN + 5
    assert f"{len(records.runs) - SHOWN} earlier runs without anything to remark are listed" in text


@pytest.mark.parametrize("draw", [plots.loss_plot, plots.restore_time_plot, plots.runs_plot])
def test_plots_are_xml_without_a_date(draw: Callable[[ComplianceReport], str], good: ComplianceReport) -> None:
    svg = draw(good)
    assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314
    assert "metadata" not in svg
    assert "<text" in svg


def test_an_objective_far_away_is_said_and_not_drawn() -> None:
    records = flawless(1)
    quick = [replace(one, loss_seconds=4.0) for one in records.restores]
    assert "RPO 1 h: 900 times the worst" in plots.loss_plot(made(replace(records, restores=quick)))
    assert "times the worst" not in plots.loss_plot(made(records))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.0, "0 s"),
        (0.31, "0.4 s"),
        (2.0, "2 s"),
        (9.96, "10 s"),
        (59.2, "1 min"),
        (252.0, "4 min 12 s"),
        (3600.0, "1 h"),
        (3600.5, "1 h 01 min"),
        (3900.0, "1 h 05 min"),
        (200_000.0, "2 d 7 h"),
    ],
)
def test_durations_are_rounded_against_us(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (1.0, "100 %"), (0.999999, "99.99 %"), (0.995, "99.5 %"), (2 / 3, "66.66 %"), (0.0, "0 %")],
)
def test_rates_are_cut_off_and_never_rounded_up(value: float | None, text: str) -> None:
    assert wording.share(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (41_300_000_000, "41.3 GB"), (999_600_000, "1.0 GB")],
)
def test_sizes(size: int, text: str) -> None:
    assert wording.size(size) == text
