"""The report's plots, as SVG to put inline. The same report always gives the same bytes.

Text stays text (the page's font draws it, a screen reader finds it), colours are told apart by colour-blind readers
too, and an objective too far away to be drawn to scale is said at the edge instead of squeezing the data flat.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from aivo_backup.catalog.records import Restore
from aivo_backup.evidence.judgement import PROVING
from aivo_backup.evidence.model import ComplianceReport, JobTally
from aivo_backup.evidence.wording import duration, name
from aivo_backup.policy.environment import Component

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, MUTED, GRID = "#1b2430", "#5b6775", "#e3e8ee"
GOOD, BAD, MISSING, NEUTRAL = "#2f7d5b", "#b3261e", "#e8a39c", "#b9c2cc"
_PHASES = (
    *("#2d5f8b", "#e0a030", "#3f9c8f", "#a4508b", "#8fb3d9", "#7a6a2f"),
    *("#d98973", "#5d6b7a", "#b7c96a", "#4b3f8f", "#c9a9d6", "#8a3b2b"),
)

_WIDTH_INCHES = 11.4
_ROW_INCHES = 0.44
_TICKS = 6
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
"""Seconds between ticks that read well as times."""

_FARTHEST_LIMIT = 3.0
"""An objective more than so many times the largest value is not drawn to scale."""

_STYLE: "dict[RcKeyType, object]" = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
}


def loss_plot(report: ComplianceReport) -> str:
    """Loss found by each restore test of the period, one row per component, against the RPO."""
    limit = _limit(report, "recovery point")
    tests = _proving(report)

    def draw(axes: Axes) -> None:
        worst = max((test.loss_seconds or 0.0 for test in tests), default=0.0)
        _limit_line(axes, worst, limit, "RPO")
        for row, component in enumerate(Component):
            losses = [test.loss_seconds for test in tests if test.component is component]
            known = [loss for loss in losses if loss is not None]
            if not known:
                _empty(axes, row, "no restore test" if not losses else "loss unknown: no heartbeat restored")
                continue
            colours = [GOOD if loss <= limit else BAD for loss in known]
            axes.plot([0, max(known)], [row, row], color=GRID, linewidth=5, solid_capstyle="round", zorder=1)
            axes.scatter(known, [row] * len(known), c=colours, s=46, zorder=3, edgecolors="white", linewidths=0.8)
            axes.annotate(
                duration(max(known)), (max(known), row), xytext=(9, 0), textcoords="offset points", va="center"
            )

    return _rows_svg("loss", [name(component) for component in Component], draw, xlabel="data lost")


def restore_time_plot(report: ComplianceReport) -> str:
    """The slowest restore test of each component in the period, stacked by phase, against the RTO."""
    limit = _limit(report, "recovery time")
    slowest = {component: _slowest(_proving(report), component) for component in Component}
    phases: dict[str, str] = {}
    for test in slowest.values():
        for phase in test.phases if test else ():
            phases.setdefault(phase.name, _PHASES[len(phases) % len(_PHASES)])

    def draw(axes: Axes) -> None:
        longest = max((test.seconds for test in slowest.values() if test), default=0.0)
        _limit_line(axes, longest, limit, "RTO")
        for row, test in enumerate(slowest.values()):
            if test is None:
                _empty(axes, row, "no completed restore test")
                continue
            left = 0.0
            for phase in test.phases:
                axes.barh(row, phase.seconds, left=left, height=0.56, color=phases[phase.name], edgecolor="white")
                left += phase.seconds
            colour = INK if left <= limit else BAD
            axes.annotate(
                duration(left), (left, row), xytext=(7, 0), textcoords="offset points", va="center", color=colour
            )

    return _rows_svg("time", [name(one) for one in Component], draw, xlabel="time to restore", legend=phases)


def runs_plot(report: ComplianceReport) -> str:
    """What became of the expected runs of each job, as shares of them; runs off schedule below, not counted."""
    tallies = [tally for tally in report.tallies if tally.expected or _made(tally)]
    legend = {"succeeded": GOOD, "failed": BAD, "never happened": MISSING, "superseded or not over": NEUTRAL}

    def draw(axes: Axes) -> None:
        axes.set_xlim(0, 1.34)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        if not tallies:
            _empty(axes, 0, "no run was due in the period, and none happened", MUTED)
        for row, tally in enumerate(tallies):
            total = tally.expected if tally.scheduled else _made(tally)
            rest = tally.superseded + tally.pending
            left = 0.0
            for number, colour in zip(
                (tally.succeeded, tally.failed, tally.missing, rest), legend.values(), strict=True
            ):
                axes.barh(
                    row,
                    number / total,
                    left=left,
                    height=0.56,
                    color=colour,
                    edgecolor="white",
                    alpha=1.0 if tally.scheduled else 0.45,
                )
                left += number / total
            axes.annotate(
                _told(tally), (1, row), xytext=(8, 0), textcoords="offset points", va="center", color=MUTED, fontsize=9
            )

    labels = [tally.job if tally.scheduled else f"{tally.job}, off schedule" for tally in tallies] or [""]
    return _rows_svg("runs", labels, draw, xlabel="", legend=legend, row_inches=0.32)


def _told(tally: JobTally) -> str:
    if not tally.scheduled:
        return f"{tally.succeeded} of {_made(tally)} not counted"
    judged = tally.expected - tally.superseded - tally.pending
    told = f"{tally.succeeded} of {judged}"
    if tally.superseded:
        told += f", {tally.superseded} superseded"
    return told + (f", {tally.pending} not over" if tally.pending else "")


def _made(tally: JobTally) -> int:
    return tally.succeeded + tally.failed + tally.superseded


def _limit(report: ComplianceReport, promise: str) -> float:
    return next(row.limit for row in report.objectives if row.promise.value == promise)


def _proving(report: ComplianceReport) -> list[Restore]:
    return [entry.restore for entry in report.restores if entry.restore.purpose in PROVING and not entry.restore.error]


def _slowest(tests: Sequence[Restore], component: Component) -> Restore | None:
    own = [test for test in tests if test.component is component and test.phases]
    return max(own, key=lambda test: test.seconds, default=None)


def _limit_line(axes: Axes, largest: float, limit: float, word: str) -> None:
    if limit <= largest * _FARTHEST_LIMIT or not largest:
        edge = max(limit, largest) * 1.18
        axes.axvline(limit, color=BAD, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
        place, text, align, colour = limit, f"{word} {duration(limit)}", "center", BAD
    else:
        edge = largest * 1.3
        text = f"{word} {duration(limit)}: {limit / largest:,.0f} times the worst  ▸"
        place, align, colour = edge, "right", MUTED
    axes.text(place, 1.02, text, transform=axes.get_xaxis_transform(), ha=align, va="bottom", color=colour, fontsize=9)
    axes.set_xlim(0, edge)
    step = next((step for step in _STEPS if edge / step <= _TICKS), edge / _TICKS)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _tick(value: float, _position: int) -> str:
    return duration(value) if value else "0"


def _empty(axes: Axes, row: int, text: str, colour: str = BAD) -> None:
    axes.text(0.01, row, text, transform=axes.get_yaxis_transform(), va="center", color=colour)


def _rows_svg(
    key: str,
    labels: Sequence[str],
    draw: Callable[[Axes], None],
    *,
    xlabel: str,
    legend: dict[str, str] | None = None,
    row_inches: float = _ROW_INCHES,
) -> str:
    """Draws horizontal rows, the first on top, and gives the SVG element. ``key`` keeps ids of several plots apart."""
    height = row_inches * len(labels) + 1.0 + (0.25 if legend else 0)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_yticks(range(len(labels)), labels=list(labels))
        axes.set_ylim(len(labels) - 0.45, -0.55)
        draw(axes)
        axes.set_xlabel(xlabel, fontsize=9)
        if legend:
            handles = [Patch(color=colour, label=label) for label, colour in legend.items()]
            figure.legend(handles=handles, loc="outside lower left", ncols=min(len(legend), 5), fontsize=9)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(written.getvalue(), key)


def _inline(svg: str, key: str) -> str:
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    # Ids are unique in one plot; several share a page.
    element = re.sub(r'\bid="', f'id="{key}-', element)
    element = re.sub(r"url\(#", f"url(#{key}-", element)
    element = re.sub(r'href="#', f'href="#{key}-', element)
    # The page gives width and height, and a table beside each plot tells a screen reader the same numbers.
    opening, rest = element.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return f'{opening} aria-hidden="true" focusable="false">{rest}'
