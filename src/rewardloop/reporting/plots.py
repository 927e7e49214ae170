"""The report's pictures: evidence in, inline SVG with a text alternative out.

Colours are written as CSS variables, so that one picture serves the light and the dark theme; ids are prefixed with the
picture's name, because all pictures share one page. The palette is Okabe and Ito's, safe for colour-blind readers.
"""

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from rewardloop.evidence import (
    CurvePoint,
    Estimate,
    EvaluationEvidence,
    ReliabilityBin,
    ThresholdEvidence,
    TrainingEvidence,
)
from rewardloop.reporting.wording import clip, count, fraction, percent, signed, whole_percent

# Stand-ins matplotlib accepts as colours; the page's style sheet says what each variable is in either theme.
INK, SOFT, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
BLUE, ORANGE, GREEN, PURPLE = "#050505", "#060606", "#070707", "#080808"
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--grid",
    PAPER: "--paper",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rewardloop",
    "text.parse_math": False,  # a slice may be called "$5 and $6"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
}
_WIDTH = 4.7  # inches; half a page, so that two stand side by side and one fills a telephone


def training_curve(evidence: TrainingEvidence, what: str) -> Markup | None:
    """``what``: "loss" or "accuracy"; each batch, their running mean, and the validation split."""
    if not evidence.curve:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.0)
        steps = [point.step for point in evidence.curve]
        values = [_of(point, what) for point in evidence.curve]
        axes.plot(steps, values, color=BLUE, linewidth=0.7, alpha=0.35)
        axes.plot(steps, _running_mean(values), color=BLUE, linewidth=1.8, label="training, running mean")
        held = [(point.step, getattr(point, what)) for point in evidence.validation]
        if held:
            axes.plot(*zip(*held, strict=True), color=ORANGE, marker="o", markersize=4.5, label="validation")
        axes.axvline(evidence.best_step, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="kept")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(what)
        _legend_above(axes)
        last = f"{fraction(held[-1][1])} on validation at step {held[-1][0]}" if held else "no validation"
        alt = f"{what} from {fraction(values[0])} at step {steps[0]} to {fraction(values[-1])} at step {steps[-1]}"
        return _svg(figure, f"training-{what}", f"Training {alt}; {last}.")


def accuracy_chart(evidence: EvaluationEvidence) -> Markup:
    """The candidate's accuracy beside everything it must be read against."""
    rows: list[tuple[str, Estimate | None, str]] = [
        ("candidate", evidence.accuracy, BLUE),
        ("candidate, golden set", evidence.golden_accuracy, BLUE),
        ("champion", evidence.champion.accuracy if evidence.champion else None, PURPLE),
        ("one labeler", evidence.one_labeler, GREEN),
        ("bag of words", evidence.bag_of_words, ORANGE),
        ("length only", evidence.length_only, ORANGE),
    ]
    shown = [(name, estimate, colour) for name, estimate, colour in rows if estimate is not None]
    with mpl.rc_context(_STYLE):
        figure, axes = _forest(shown)
        axes.axvline(0.5, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(0.5, -0.75, " chance", color=SOFT, fontsize=9, ha="left", va="top")
        axes.set_xlabel("accuracy on held-out pairs")
        alt = "; ".join(f"{name} {fraction(estimate.value)}" for name, estimate, _ in shown)
        return _svg(figure, "accuracy", f"Accuracy with intervals: {alt}; chance is 0.5.")


def difference_chart(evidence: EvaluationEvidence) -> Markup:
    """What the candidate is ahead of its references by, on the same pairs."""
    champion = evidence.champion
    rows: list[tuple[str, Estimate | None, str]] = [
        ("over champion, test", champion.difference if champion else None, PURPLE),
        ("over champion, golden", champion.golden_difference if champion else None, PURPLE),
        ("over bag of words", evidence.over_bag_of_words, ORANGE),
        ("over length only", evidence.over_length_only, ORANGE),
    ]
    shown = [(name, estimate, colour) for name, estimate, colour in rows if estimate is not None]
    with mpl.rc_context(_STYLE):
        figure, axes = _forest(shown, form=signed)
        axes.axvline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("difference in accuracy, same pairs")
        alt = "; ".join(f"{name} {signed(estimate.value)}" for name, estimate, _ in shown)
        return _svg(figure, "differences", f"Candidate's accuracy minus its references': {alt}.")


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Markup | None:
    """Predicted against observed preference."""
    filled = [entry for entry in bins if entry.pairs]
    if not filled:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.4)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
        most = max(entry.pairs for entry in filled)
        predicted = [entry.predicted for entry in filled]
        observed = [entry.observed for entry in filled]
        axes.plot(predicted, observed, color=BLUE, linewidth=1)
        sizes = [16 + 110 * entry.pairs / most for entry in filled]
        axes.scatter(predicted, observed, s=sizes, color=BLUE, edgecolor=PAPER, label="pairs", zorder=3)
        low = max(0.0, min(0.5, *predicted) - 0.05)
        axes.set(xlim=(low, 1.02), ylim=(max(0.0, min(low, *observed) - 0.03), 1.04))
        axes.set_xlabel("predicted probability of preference")
        axes.set_ylabel("observed share")
        axes.legend(loc="upper left", markerscale=0.6)
        gap = max(abs(entry.predicted - entry.observed) for entry in filled)
        return _svg(figure, "reliability", f"Reliability in {len(filled)} bins; the largest gap is {percent(gap)}.")


def score_histogram(evidence: EvaluationEvidence) -> Markup | None:
    """Test items by public score, acceptable and not, with the threshold."""
    bars = evidence.score_histogram
    if len(bars) < 2:
        return None
    left = np.array([bar[0] for bar in bars])
    width = np.append(np.diff(left), left[-1] - left[-2])
    good, bad = (np.array([bar[which] for bar in bars]) for which in (1, 2))
    threshold = evidence.threshold.threshold
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.4)
        axes.bar(left, bad, width * 0.94, align="edge", color=ORANGE, label="unacceptable")
        axes.bar(left, good, width * 0.94, align="edge", bottom=bad, color=BLUE, label="acceptable")
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.4, label=f"threshold {fraction(threshold)}")
        axes.set_xlabel("public score")
        axes.set_ylabel("items")
        axes.grid(visible=False, axis="x")
        _legend_above(axes)
        alt = f"{count(int(good.sum()))} acceptable and {count(int(bad.sum()))} unacceptable test items"
        where = "no threshold" if threshold is None else f"threshold at {fraction(threshold)}"
        return _svg(figure, "histogram", f"Histogram of scores: {alt}; {where}.")


def threshold_curve(evidence: ThresholdEvidence) -> Markup | None:
    """What is let through against how much of it is unacceptable, one point per threshold tried."""
    if len(evidence.curve) < 2:
        return None
    thresholds, accepted, unacceptable = (np.array(column, dtype=float) for column in zip(*evidence.curve, strict=True))
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.4)
        axes.plot(
            accepted, unacceptable, color=BLUE, marker="o", markersize=2.6, linewidth=1.4, label="thresholds tried"
        )
        limit = f"limit {whole_percent(evidence.alpha)}"
        axes.axhline(evidence.alpha, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 3)), label=limit)
        alt = f"limit {whole_percent(evidence.alpha)}; no threshold certified"
        if evidence.threshold is not None:
            at = int(np.argmin(np.abs(thresholds - evidence.threshold)))
            axes.scatter([accepted[at]], [unacceptable[at]], s=70, color=INK, zorder=4, label="chosen")
            alt = f"chosen: {percent(accepted[at])} accepted, {percent(unacceptable[at])} of it unacceptable"
        axes.set_xlabel("accepted share, calibration split")
        axes.set_ylabel("unacceptable among accepted")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        axes.set_ylim(bottom=0)
        _legend_above(axes)
        return _svg(figure, "threshold", f"Accepted share against unacceptable among accepted; {alt}.")


def _of(point: CurvePoint, what: str) -> float:
    return float(getattr(point, what))


def _running_mean(values: Sequence[float]) -> np.ndarray[Any, Any]:
    """Mean of the last tenth of the curve up to each point; the first points average what there is."""
    window = max(1, len(values) // 10)
    sums = np.cumsum(np.insert(np.asarray(values, dtype=float), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _figure(height: float) -> tuple[Any, Any]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.locator_params(nbins=6)
    return figure, axes


def _legend_above(axes: Any) -> None:
    """Outside the data, left-aligned, so that a legend never hides a curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.6)


def _forest(rows: Sequence[tuple[str, Estimate, str]], form: Any = fraction) -> tuple[Any, Any]:
    """One line per estimate, the first on top: a point, its interval, its value at the right edge."""
    figure, axes = _figure(0.8 + 0.34 * len(rows))
    for place, (_, estimate, colour) in enumerate(rows):
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        axes.scatter([estimate.value], [place], s=34, color=colour, edgecolor=PAPER, zorder=3)
        axes.annotate(form(estimate.value), (1.02, place), xycoords=("axes fraction", "data"), va="center")
    axes.set_yticks(range(len(rows)), [clip(name, 40) for name, _, _ in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9.5)
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure, axes


def _svg(figure: Any, name: str, alt: str) -> Markup:
    """The figure as an ``<svg>`` element for HTML: no prolog, no name spaces, no fixed size, ids of its own."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # The reader's own font is used; a glyph that matplotlib's lacks only costs it an exact measure.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    match = re.search(r'viewBox="([^"]+)"', text)
    assert match is not None
    opening = f'<svg class="plot" viewBox="{match[1]}" role="img" aria-label="{escape(alt)}">'
    return Markup(opening + text[text.index(">") + 1 :].strip())  # noqa: S704 - matplotlib escapes every text
