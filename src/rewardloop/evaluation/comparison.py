"""The champion against the candidate on slices, and how many documents a comparison needs before it can decide.

In: the test pairs, a mask per slice, both scorers' scores. Out: one measured difference per slice; judged against a
margin, one verdict per slice. Measuring knows no limit, so a gate can judge the same evidence again under others.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from rewardloop.bootstrap import Bools, Floats, Ints
from rewardloop.config import EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import Check, Estimate
from rewardloop.evidence.comparison import PooledComparison, SliceComparison, SliceVerdict
from rewardloop.exact import holm

_NORMAL = NormalDist()


def slice_comparisons(
    test: PairSet,
    masks: Mapping[str, Bools],
    candidate: Floats,
    champion: Floats,
    documents: Ints,
    settings: EvaluationSettings,
) -> list[SliceComparison]:
    """Candidate minus champion on every slice that has a pair, each with resamples of its own documents.

    Args:
        test: the pairs that both can score.
        masks: name of a slice -> which of the pairs it has, shape (pairs,).
        candidate, champion: one score per item.
        documents: one number per item that names its document.
        settings: samples and seed of the bootstrap.
    """
    found = []
    for name, mask in masks.items():
        if not mask.any():
            continue
        part = test.part(mask, documents, settings)
        change = part.right(candidate) - part.right(champion)
        found.append(
            SliceComparison(
                name=name,
                difference=part.bootstrap.estimate(change, confidence=part.confidence),
                standard_error=float(np.nanstd(part.bootstrap.means(change))),
                documents=part.bootstrap.documents,
            )
        )
    return found


def judge_slices(
    measured: Sequence[SliceComparison], *, margin: float, own_margins: Mapping[str, float] | None = None
) -> list[SliceVerdict]:
    """Which slices are worse than the champion by more than their margin may allow.

    A slice is *gated* when it has at least ``needed`` documents: those at which the half-width of its interval is the
    margin. The spread is the measured one, but never less than what n documents without any disagreement leave possible
    (the "rule of three": a rate of -ln(1 - level) / n), so that three items that agree are not taken for certainty.

    A gated slice is refused when both hold:

    1. it is surely worse: the one-sided test of "difference >= 0" (normal, standard error over documents) is rejected
       with Holm's correction over the gated slices at (1 - level) / 2, as one end of a two-sided interval does;
    2. it is not sure that the loss is small: the lower end of its interval is not above minus the margin.

    Error rates. A candidate that is equal on every slice is refused with probability (1 - level) / 2 at most over all
    slices together, whatever their sizes and overlaps (Holm, 1979), and less on slices larger than needed. A loss of d
    that is at least twice the margin is caught with probability Phi(d / se - z) at least, z being the normal quantile
    of 1 - (1 - level) / (2 * gated slices). That is, at level 0.95, 6 gated slices and a margin of 1 point: 2 points on
    4,000 documents in 0.995 of all cases when the two scorers differ on 6% of the pairs, in 0.97 at 8%; from 10% on
    4,000 documents are too few. With enough documents the rule becomes "worse by more than the margin".
    Two plainer rules fail here: refusing only what is surely worse by more than the margin (upper end below it) misses
    most losses of twice the margin, and asking every slice for a lower end above minus the margin refuses every second
    equal candidate where the half-width is the margin.

    Args:
        measured: what ``slice_comparisons`` found.
        margin: loss of accuracy that a slice may have, above 0.
        own_margins: name of a slice -> its own margin.

    Raises:
        BadInputError: a margin is not above 0, or names no slice.
    """
    margins = {one.name: margin for one in measured} | dict(own_margins or {})
    _check_margins(margins, {one.name for one in measured})
    half = {one.name: _half_width(one) for one in measured}
    # What could not be measured is gated, and does not pass.
    gated = [one for one in measured if not half[one.name] > margins[one.name]]
    adjusted = dict(zip([one.name for one in gated], holm([_p_value(one) for one in gated]).tolist(), strict=True))
    return [_verdict(one, margins[one.name], half[one.name], adjusted.get(one.name)) for one in measured]


def slice_checks(verdicts: Sequence[SliceVerdict], champion: str) -> list[Check]:
    """The gate's checks: one per gated slice."""
    return [
        Check(
            name=f"not worse than champion {champion} on {one.name}",
            passed=one.passed,
            value=one.difference.value,
            low=one.difference.low,
            high=one.difference.high,
            limit=-one.margin,
            rule="not surely worse (Holm over slices), or lower end of the interval > limit",
            reason=one.reason,
        )
        for one in verdicts
        if one.gated
    ]


def pooled(
    difference: Estimate, documents: int, *, margin: float, power: float, truth: float = 0.0
) -> PooledComparison:
    """Whether the comparison on all pairs decides, and how many documents would.

    "Not worse" is a lower end above minus the margin, "worse" an upper end below it. ``needed`` is the usual sample
    size of a non-inferiority test: n * ((z_level + z_power) * se / (truth + margin))^2, with the standard error that
    the interval at n documents shows (Julious, 2004).

    Args:
        difference: candidate minus champion.
        documents: how many it was measured on.
        margin: loss that may be.
        power: with which probability a candidate as good as ``truth`` is to be found not worse.
        truth: the difference planned for; 0 is a candidate as good as the champion.

    Raises:
        BadInputError: ``truth`` is not above minus the margin, so no number of documents can show it.
    """
    if not truth + margin > 0:
        raise BadInputError(
            f"gate.not_worse_than_champion_by: found {margin:g}; a candidate with a difference of {truth:g} is never "
            "found not worse by it, however many documents there are; expected a margin above 0"
        )
    z = _NORMAL.inv_cdf((1 + difference.level) / 2)
    error = (difference.high - difference.low) / 2 / z
    needed = math.ceil(documents * ((z + _NORMAL.inv_cdf(power)) * error / (truth + margin)) ** 2)
    if difference.low > -margin:
        verdict, reason = "not worse", f"Decided with {documents:,} documents: not worse by {margin:g} or more."
    elif difference.high < -margin:
        verdict, reason = "worse", f"Decided with {documents:,} documents: worse by more than {margin:g}."
    else:
        kind = "as good as the champion" if not truth else f"with a true difference of {truth:+g}"
        verdict, reason = (
            "undecided",
            f"{documents:,} documents cannot decide whether it is worse by more than {margin:g}: {needed:,} would find "
            f"a candidate {kind} not worse with probability {power:g}.",
        )
    return PooledComparison.model_validate(
        {
            "difference": difference,
            "documents": documents,
            "margin": margin,
            "verdict": verdict,
            "needed": needed,
            "truth": truth,
            "power": power,
            "reason": reason,
        }
    )


def _check_margins(margins: Mapping[str, float], slices: set[str]) -> None:
    for name, margin in margins.items():
        if name not in slices:
            known = ", ".join(map(repr, sorted(slices))) or "none"
            raise BadInputError(f"gate: a margin is set for slice {name!r}, which the test split lacks; it has {known}")
        if not margin > 0:
            raise BadInputError(
                f"gate: the margin of slice {name!r} is {margin:g}; expected more than 0, since no number of "
                "documents shows that two models are exactly equal"
            )


def _error(one: SliceComparison) -> float:
    """The standard error; not below what a slice without any disagreement leaves possible."""
    least = math.sqrt(-math.log(1 - one.difference.level)) / one.documents
    return max(one.standard_error, least) if math.isfinite(one.standard_error) else math.nan


def _half_width(one: SliceComparison) -> float:
    return _NORMAL.inv_cdf((1 + one.difference.level) / 2) * _error(one)


def _p_value(one: SliceComparison) -> float:
    """Of "the difference is 0 or more"; 0 where nothing could be measured, which no other condition forgives."""
    p_value = _NORMAL.cdf(one.difference.value / _error(one))
    return p_value if math.isfinite(p_value) else 0.0


def _verdict(one: SliceComparison, margin: float, half: float, p_value: float | None) -> SliceVerdict:
    measured = math.isfinite(half) and math.isfinite(one.difference.value)
    needed = math.ceil(one.documents * (half / margin) ** 2 - 1e-9) if measured else None
    worse = p_value is not None and p_value <= (1 - one.difference.level) / 2
    passed = not worse or one.difference.low > -margin
    name = f"{one.name[0].upper()}{one.name[1:]}"
    shown = "" if p_value is None else "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    found = f"{name}: {one.difference.value:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]"
    if not measured:
        reason = f"{name}: the difference to the champion could not be measured."
    elif p_value is None:
        reason = (
            f"{found}; not gated: {one.documents:,} documents are too few for a margin of {margin:g}, "
            f"{needed:,} are needed."
        )
    elif not worse:
        reason = f"{found}; not surely worse ({shown} after Holm's correction); the margin is {margin:g}."
    else:
        within = "surely by less than" if passed else "and not surely by less than"
        reason = f"{found}; surely worse ({shown} after Holm's correction), {within} the margin of {margin:g}."
    return SliceVerdict(
        name=one.name,
        difference=one.difference,
        margin=margin,
        documents=one.documents,
        needed=needed,
        gated=p_value is not None,
        p_value=p_value,
        passed=passed,
        reason=reason,
    )
