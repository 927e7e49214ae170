"""The pictures on the policy: how supervised fine-tuning and alignment went, update by update.

In: ``SftEvidence`` and ``AlignmentEvidence``. Out: small multiples as inline SVG, each with a text alternative; None
where there is nothing to draw. Quantities of different units lie above each other over one axis of updates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from rewardloop.evidence import AlignmentEvidence, SftEvidence
from rewardloop.reporting.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    PAPER,
    PURPLE,
    SOFT,
    WIDTH,
    legend_above,
    one_plot,
    running_mean,
    style,
    to_svg,
)
from rewardloop.reporting.wording import compact, fraction

Points = list[tuple[int, float]]
_DASHES = (0, (4, 3))
_FEW = 3
"""So few points that a line alone would hardly be seen."""


@dataclass(frozen=True)
class Quantity:
    """One row of a picture: a field of ``UpdatePoint``, named above its axis."""

    field: str
    name: str
    colour: str
    share: bool = False
    """Shown in percent."""
    signed: bool = False
    """May be below 0; anything else is drawn from 0 on, so that a small change looks small."""


_UPDATE = (
    Quantity("entropy", "entropy of the next token, nats", BLUE),
    Quantity("clip_fraction", "share of tokens whose ratio was clipped", PURPLE, share=True),
    Quantity("approx_kl", "KL per token of one update, nats", ORANGE),
)
_VALUE = (
    Quantity("value_loss", "value loss", BLUE),
    Quantity("explained_variance", "explained variance of the returns", GREEN, signed=True),
)
_TEXT = (
    Quantity("length", "tokens of a response", BLUE),
    Quantity("unfinished", "responses without an end", ORANGE, share=True),
    Quantity("distinct_bigrams", "distinct bigrams", GREEN),
)
_WORK = (
    Quantity("tokens_per_second", "generated tokens per second", BLUE),
    Quantity("gradient_norm", "gradient norm", PURPLE),
)


def policy_pictures(sft: SftEvidence | None, alignment: AlignmentEvidence | None) -> dict[str, Markup | None]:
    """Every picture of the chapter on the policy, by the name the template knows it under."""
    return {
        "sft": sft_loss(sft) if sft else None,
        "policy_reward": reward_curve(alignment) if alignment else None,
        "policy_kl": kl_curve(alignment) if alignment else None,
        "policy_update": _rows(alignment, "policy-update", _UPDATE) if alignment else None,
        # Only an algorithm that estimates values has anything to say of them.
        "policy_value": _rows(alignment, "policy-value", _VALUE) if alignment and alignment.value else None,
        "policy_text": _rows(alignment, "policy-text", _TEXT) if alignment else None,
        "policy_work": _rows(alignment, "policy-work", _WORK) if alignment else None,
    }


def sft_loss(evidence: SftEvidence) -> Markup | None:
    """Loss on the responses' tokens, and on the validation demonstrations."""
    points = _finite(evidence.loss)
    if not points:
        return None
    with style():
        figure, axes = one_plot(2.8)
        _trained(axes, points, "training")
        held = evidence.validation_loss
        if held is not None:
            axes.axhline(held, color=ORANGE, linewidth=1.4, label="validation")
        axes.set(xlabel="optimizer step", ylabel="loss")
        legend_above(axes)
        after = "" if held is None else f"; {fraction(held)} on validation"
        return to_svg(figure, "sft-loss", f"Fine-tuning loss {_from_to(points, 'step')}{after}.")


def reward_curve(evidence: AlignmentEvidence) -> Markup | None:
    """Standardized reward of the rollouts and of the validation prompts, with the checkpoint that was kept."""
    points = _points(evidence, "reward")
    held = _finite([(point.update, point.reward) for point in evidence.validation])
    if not points and not held:
        return None
    with style():
        figure, axes = one_plot(3.2)
        _trained(axes, points, "rollouts")
        _held_out(axes, evidence, "reward")
        _kept(axes, evidence)
        axes.set(xlabel=_update_axis(evidence), ylabel="reward, standardized")
        legend_above(axes)
        alt = f"Reward of rollouts {_from_to(points, 'update')}" if points else "Reward"
        best = next((value for update, value in held if update == evidence.best_update), None)
        at = "" if best is None else f"; {fraction(best)} on validation prompts"
        return to_svg(figure, "policy-reward", f"{alt}; kept: update {evidence.best_update}{at}.")


def kl_curve(evidence: AlignmentEvidence) -> Markup | None:
    """How far the policy went from its reference, against its budget; below it what going further cost."""
    points, beta = _points(evidence, "kl"), _points(evidence, "beta")
    if not points:
        return None
    with style():
        figure, (axes, below) = _stacked(3.2, (3, 1.2))
        _trained(axes, points, "rollouts")
        _held_out(axes, evidence, "kl")
        budget = evidence.kl_budget
        axes.axhline(budget, color=PURPLE, linewidth=1.4, linestyle=_DASHES, label=f"budget {compact(budget)}")
        _kept(axes, evidence, label=None)
        axes.set_ylabel("KL, nats")
        axes.set_ylim(bottom=min(0.0, *(value for _, value in points)))
        legend_above(axes)
        _line(below, beta, GREEN)
        _name_row(below, "beta, reward per nat")
        below.set_xlabel(_update_axis(evidence))
        alt = f"KL of rollouts {_from_to(points, 'update')}; the budget is {compact(budget)} nats"
        then = f"; beta from {compact(beta[0][1])} to {compact(beta[-1][1])}" if beta else ""
        return to_svg(figure, "policy-kl", f"{alt}{then}.")


def _rows(evidence: AlignmentEvidence, name: str, quantities: Sequence[Quantity]) -> Markup | None:
    """One row per quantity that was measured."""
    found = [(quantity, _points(evidence, quantity.field)) for quantity in quantities]
    drawn = [(quantity, points) for quantity, points in found if points]
    if not drawn:
        return None
    with style():
        figure, rows = _stacked(0.55 + 1.05 * len(drawn), (1,) * len(drawn))
        for axes, (quantity, points) in zip(rows, drawn, strict=True):
            _line(axes, points, quantity.colour)
            _name_row(axes, quantity.name)
            if quantity.share:
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
            if quantity.signed:
                axes.axhline(0, color=SOFT, linewidth=0.8)
            else:
                axes.set_ylim(0, 1.12 * max(value for _, value in points) or 1)
        rows[-1].set_xlabel(_update_axis(evidence))
        said = "; ".join(f"{quantity.name} {_from_to(points, 'update')}" for quantity, points in drawn)
        return to_svg(figure, name, f"{said[0].upper()}{said[1:]}.")


def _stacked(height: float, ratios: Sequence[float]) -> tuple[Any, list[Any]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(len(ratios), sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(ratios)})
    rows = [row[0] for row in grid]
    for axes, ratio in zip(rows, ratios, strict=True):
        axes.locator_params(axis="y", nbins=6 if ratio > 2 else 4)
        axes.locator_params(axis="x", nbins=6, integer=True)
    figure.align_ylabels(rows)
    return figure, rows


def _name_row(axes: Any, name: str) -> None:
    """Above the row and level, where a turned label would have no room."""
    axes.set_title(name, loc="left", fontsize=9, color=SOFT, pad=3)


def _trained(axes: Any, points: Points, label: str) -> None:
    """What was measured while training: each point thin, their running mean over it."""
    if not points:
        return
    places, values = zip(*points, strict=True)
    if len(points) <= _FEW:
        axes.plot(places, values, color=BLUE, linewidth=1.8, marker="o", markersize=4.5, label=label)
        return
    axes.plot(places, values, color=BLUE, linewidth=0.7, alpha=0.35)
    axes.plot(places, running_mean(values), color=BLUE, linewidth=1.8, label=label)


def _held_out(axes: Any, evidence: AlignmentEvidence, field: str) -> None:
    """The validation prompts; a hollow point was past the budget, so it could not be kept."""
    shown = [point for point in evidence.validation if math.isfinite(getattr(point, field))]
    if not shown:
        return
    places, values = [point.update for point in shown], [getattr(point, field) for point in shown]
    axes.plot(places, values, color=ORANGE, linewidth=1.4, marker="o", markersize=4.5, label="validation", zorder=3)
    beyond = [(point.update, getattr(point, field)) for point in shown if not point.within_budget]
    if beyond:
        marks = {"s": 26, "facecolor": PAPER, "edgecolor": ORANGE, "zorder": 4}
        axes.scatter(*zip(*beyond, strict=True), **marks, label="past the budget")


def _kept(axes: Any, evidence: AlignmentEvidence, label: str | None = "kept") -> None:
    axes.axvline(evidence.best_update, color=SOFT, linewidth=1, linestyle=_DASHES, label=label)


def _line(axes: Any, points: Points, colour: str) -> None:
    marker = "o" if len(points) <= _FEW else None
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, marker=marker, markersize=4)


def _points(evidence: AlignmentEvidence, field: str) -> Points:
    return _finite([(point.update, getattr(point, field)) for point in evidence.curve])


def _finite(points: Sequence[tuple[int, float]]) -> Points:
    """An algorithm leaves NaN where it has no such quantity; one of them would blank the mean of all that follow."""
    return [(place, value) for place, value in points if math.isfinite(value)]


def _update_axis(evidence: AlignmentEvidence) -> str:
    each = evidence.episodes / evidence.updates if evidence.updates else 0
    return f"update ({compact(each)} episodes each)" if each else "update"


def _from_to(points: Points, unit: str) -> str:
    (first, before), (last, after) = points[0], points[-1]
    return f"from {fraction(before)} at {unit} {first} to {fraction(after)} at {unit} {last}"
