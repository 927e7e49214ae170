"""A drift report as one HTML file that opens anywhere.

In: ``DriftReport``. Out: HTML with its style and pictures inside, no script and nothing fetched, in the same style as
the report of a run.
"""

from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rewardloop import __version__
from rewardloop.operation.drift_reports import DistributionLine, DriftReport
from rewardloop.reporting import wording
from rewardloop.reporting.canvas import BLUE, ORANGE, legend_above, one_plot, style, to_svg

_REPORTING = PackageLoader("rewardloop.reporting")


def render_drift(report: DriftReport) -> str:
    """The report as HTML; segments and causes are escaped."""
    environment = Environment(
        loader=_REPORTING, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("count", "fraction", "percent", "interval")
    environment.filters.update({name: getattr(wording, name) for name in names})
    source, _, _ = _REPORTING.get_source(environment, "report.css")
    return environment.get_template("drift.html.j2").render(
        report=report,
        headline=headline(report),
        style=Markup(source),  # noqa: S704 - our own file
        pictures=[(line, _picture(line, number)) for number, line in enumerate(_shown(report))],
        version=__version__,
    )


def headline(report: DriftReport) -> str:
    """What was found, in one sentence."""
    if report.drifted:
        return f"{report.model} version {report.version}: answers have drifted."
    if not report.enough:
        return f"{report.model} version {report.version}: too few decisions to say."
    return f"{report.model} version {report.version}: no drift."


def _shown(report: DriftReport) -> list[DistributionLine]:
    """Pictures of all answers, and of whatever drifted; one bin is no picture."""
    return [line for line in report.distributions if len(line.bins) > 1 and (line.segment is None or line.drifted)]


def _picture(line: DistributionLine, number: int) -> Markup:
    places = np.arange(len(line.bins))
    names = [wording.clip(name, 24) for name, _, _ in line.bins]
    with style():
        figure, axes = one_plot(3.2)
        sides: list[tuple[str, Any, Any]] = [
            ("reference", [100 * then for _, then, _ in line.bins], BLUE),
            ("decisions", [100 * now for _, _, now in line.bins], ORANGE),
        ]
        for place, (label, shares, colour) in enumerate(sides):
            axes.bar(places + (place - 0.5) * 0.4, shares, 0.38, color=colour, label=label)
        axes.set_xticks(places, names, rotation=35, ha="right")
        axes.set_ylabel("share of answers, %")
        axes.grid(visible=False, axis="x")
        legend_above(axes)
        most = max(line.bins, key=lambda one: abs(one[2] - one[1]))
        change = f"{most[0]} from {wording.percent(most[1])} to {wording.percent(most[2])}"
        return to_svg(figure, f"drift-{number}", f"{line.what}: {change}, the largest change.")
