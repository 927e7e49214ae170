"""The pictures on the data and the reward model: evidence in, inline SVG with a text alternative out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from rewardloop.evidence import (
    CurvePoint,
    Estimate,
    EvaluationEvidence,
    ReliabilityBin,
    ThresholdEvidence,
    TrainingEvidence,
)
from rewardloop.reporting.canvas import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SOFT,
    legend_above,
    one_plot,
    running_mean,
    style,
    to_svg,
)
from rewardloop.reporting.wording import clip, count, fraction, percent, signed, whole_percent


def training_curve(evidence: TrainingEvidence, what: str) -> Markup | None:
    """``what``: "loss" or "accuracy"; each batch, their running mean, and the validation split."""
    if not evidence.curve:
        return None
    with style():
        figure, axes = one_plot(3.0)
        steps = [point.step for point in evidence.curve]
        values = [_of(point, what) for point in evidence.curve]
        axes.plot(steps, values, color=BLUE, linewidth=0.7, alpha=0.35)
        axes.plot(steps, running_mean(values), color=BLUE, linewidth=1.8, label="training, running mean")
        held = [(point.step, getattr(point, what)) for point in evidence.validation]
        if held:
            axes.plot(*zip(*held, strict=True), color=ORANGE, marker="o", markersize=4.5, label="validation")
        axes.axvline(evidence.best_step, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="kept")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(what)
        legend_above(axes)
        last = f"{fraction(held[-1][1])} on validation at step {held[-1][0]}" if held else "no validation"
        alt = f"{what} from {fraction(values[0])} at step {steps[0]} to {fraction(values[-1])} at step {steps[-1]}"
        return to_svg(figure, f"training-{what}", f"Training {alt}; {last}.")


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
    with style():
        figure, axes = _forest(shown)
        axes.axvline(0.5, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(0.5, -0.75, " chance", color=SOFT, fontsize=9, ha="left", va="top")
        axes.set_xlabel("accuracy on held-out pairs")
        alt = "; ".join(f"{name} {fraction(estimate.value)}" for name, estimate, _ in shown)
        return to_svg(figure, "accuracy", f"Accuracy with intervals: {alt}; chance is 0.5.")


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
    with style():
        figure, axes = _forest(shown, form=signed)
        axes.axvline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("difference in accuracy, same pairs")
        alt = "; ".join(f"{name} {signed(estimate.value)}" for name, estimate, _ in shown)
        return to_svg(figure, "differences", f"Candidate's accuracy minus its references': {alt}.")


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Markup | None:
    """Predicted against observed preference."""
    filled = [entry for entry in bins if entry.pairs]
    if not filled:
        return None
    with style():
        figure, axes = one_plot(3.4)
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
        return to_svg(figure, "reliability", f"Reliability in {len(filled)} bins; the largest gap is {percent(gap)}.")


def score_histogram(evidence: EvaluationEvidence) -> Markup | None:
    """Test items by public score, acceptable and not, with the threshold."""
    bars = evidence.score_histogram
    if len(bars) < 2:
        return None
    left = np.array([bar[0] for bar in bars])
    width = np.append(np.diff(left), left[-1] - left[-2])
    good, bad = (np.array([bar[which] for bar in bars]) for which in (1, 2))
    threshold = evidence.threshold.threshold
    with style():
        figure, axes = one_plot(3.4)
        axes.bar(left, bad, width * 0.94, align="edge", color=ORANGE, label="unacceptable")
        axes.bar(left, good, width * 0.94, align="edge", bottom=bad, color=BLUE, label="acceptable")
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.4, label=f"threshold {fraction(threshold)}")
        axes.set_xlabel("public score")
        axes.set_ylabel("items")
        axes.grid(visible=False, axis="x")
        legend_above(axes)
        alt = f"{count(int(good.sum()))} acceptable and {count(int(bad.sum()))} unacceptable test items"
        where = "no threshold" if threshold is None else f"threshold at {fraction(threshold)}"
        return to_svg(figure, "histogram", f"Histogram of scores: {alt}; {where}.")


def threshold_curve(evidence: ThresholdEvidence) -> Markup | None:
    """What is let through against how much of it is unacceptable, one point per threshold tried."""
    if len(evidence.curve) < 2:
        return None
    thresholds, accepted, unacceptable = (np.array(column, dtype=float) for column in zip(*evidence.curve, strict=True))
    with style():
        figure, axes = one_plot(3.4)
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
        legend_above(axes)
        return to_svg(figure, "threshold", f"Accepted share against unacceptable among accepted; {alt}.")


def _of(point: CurvePoint, what: str) -> float:
    return float(getattr(point, what))


def _forest(rows: Sequence[tuple[str, Estimate, str]], form: Any = fraction) -> tuple[Any, Any]:
    """One line per estimate, the first on top: a point, its interval, its value at the right edge."""
    figure, axes = one_plot(0.8 + 0.34 * len(rows))
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
