"""Whether answers are still like those that the version's threshold was certified on.

In: the version's reference and logged decisions. Out: lines of a drift report. A distribution has drifted when both
its population stability index is above ``drift.max_psi`` and a two-sample test, corrected for the number of tests, says
so: with very many decisions a test alone finds differences that mean nothing, with few the index alone is noise.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.stats import chi2_contingency, ks_2samp

from rewardloop.bootstrap import Floats, Ints
from rewardloop.config import DriftSettings
from rewardloop.exact import exact_share_of, holm
from rewardloop.operation.drift_reports import AcceptedLine, DistributionLine

_BINS = 10
NUMBERS = {"score": "score", "prompt_characters": "prompt length", "response_characters": "response length"}
"""Columns that are compared -> what they are called."""
_KOLMOGOROV, _CHI2 = "Kolmogorov-Smirnov", "chi-squared"
_NO_SEGMENT = "(none)"


class _Part(NamedTuple):
    """One segment, or everything, on both sides."""

    segment: str | None
    reference: pl.DataFrame
    decisions: pl.DataFrame


def population_stability_index(reference: Ints, current: Ints) -> float:
    """The sum over bins of (c - r) ln(c / r) of the shares r (reference) and c (current): Siddiqi, Credit Risk
    Scorecards (2006), where above 0.25 is a large shift; it is the symmetric divergence of Jeffreys (1946).

    Args:
        reference, current: counts per bin, shape (bins,). A bin that is empty on one side counts half an answer there,
            one that is empty on both sides nothing.
    """
    some = (reference > 0) | (current > 0)
    r = np.maximum(reference[some], 0.5) / reference.sum()
    c = np.maximum(current[some], 0.5) / current.sum()
    return float(((c - r) * np.log(c / r)).sum())


def quantile_edges(reference: Floats, bins: int = _BINS) -> Floats:
    """Upper edges of all bins but the last: quantiles of the reference, strictly increasing; shape (edges,).

    A value that is several quantiles at once (texts without a prompt have length 0) gets a bin of its own.
    """
    edges = np.quantile(reference, np.arange(1, bins) / bins, method="inverted_cdf")
    tied = edges[1:][np.diff(edges) == 0]
    alone = np.concatenate([edges, np.nextafter(tied, -np.inf)])
    return np.asarray(np.unique(alone))


def compare(reference: pl.DataFrame, decisions: pl.DataFrame, settings: DriftSettings) -> list[DistributionLine]:
    """Every distribution, of all answers and per segment, then and now.

    Args:
        reference: ``REFERENCE``.
        decisions: ``DECISIONS`` of the same version.
        settings: limits and the least numbers.
    """
    lines = [line for part in _parts(reference, decisions) for line in _lines(part, settings)]
    tested = [line for line in lines if line.p_value is not None]
    corrected = holm([line.p_value for line in tested if line.p_value is not None]).tolist()
    for line, p_value in zip(tested, corrected, strict=True):
        line.corrected = p_value
        line.drifted = p_value < settings.level and line.psi is not None and line.psi > settings.max_psi
    return lines


def accepted_shares(reference: pl.DataFrame, decisions: pl.DataFrame, confidence: float) -> list[AcceptedLine]:
    """Share of accepted answers, then and now, with exact intervals; of all answers and per segment."""
    return [
        AcceptedLine(
            segment=part.segment,
            then=exact_share_of(_accepted(part.reference), confidence, "reference answers"),
            now=exact_share_of(_accepted(part.decisions), confidence, "decisions"),
        )
        for part in _parts(reference, decisions)
    ]


def in_words(line: DistributionLine, settings: DriftSettings) -> str:
    """Why a line that drifted did."""
    where = "" if line.segment is None else f" in segment {line.segment}"
    return (
        f"{line.what}{where}: population stability index {line.psi:.2f} is above {settings.max_psi:g}, and the "
        f"{line.test} test says so (p = {line.corrected:.2g} after correction, below {settings.level:g})"
    )


def _parts(reference: pl.DataFrame, decisions: pl.DataFrame) -> Iterator[_Part]:
    """Everything, then each segment that both sides can have; one segment alone is everything."""
    yield _Part(None, reference, decisions)
    if not _segmented(reference, decisions):
        return
    names = sorted(set(reference["segment"].drop_nulls()) | set(decisions["segment"].drop_nulls()))
    for name in names if len(names) > 1 else []:
        yield _Part(name, reference.filter(segment=name), decisions.filter(segment=name))


def _segmented(*sides: pl.DataFrame) -> bool:
    """Whether segments are named on both sides; where one has none they cannot be compared."""
    return all(side["segment"].is_not_null().any() for side in sides)


def _lines(part: _Part, settings: DriftSettings) -> Iterator[DistributionLine]:
    for column, what in NUMBERS.items():
        sides = [side[column].drop_nulls().to_numpy().astype(float) for side in (part.reference, part.decisions)]
        yield _numbers(what, part.segment, sides[0], sides[1], settings)
    known = [side["decision"].drop_nulls() for side in (part.reference, part.decisions)]
    if len(known[0]):  # without a certified threshold nothing is decided
        yield _categories("decision", part.segment, known[0], known[1], settings)
    if part.segment is None and _segmented(part.reference, part.decisions):
        named = [side["segment"].fill_null(_NO_SEGMENT) for side in (part.reference, part.decisions)]
        yield _categories("segment", None, named[0], named[1], settings)


def _numbers(what: str, segment: str | None, then: Floats, now: Floats, settings: DriftSettings) -> DistributionLine:
    line = DistributionLine(what=what, segment=segment, reference=len(then), decisions=len(now))
    line.note = _too_few(len(then), len(now), settings)
    if line.note:
        return line
    edges = quantile_edges(then)
    counts = [np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) for side in (then, now)]
    line.psi = population_stability_index(counts[0], counts[1])
    # Exact p-values suppose that no two numbers are equal; lengths are.
    line.test, line.p_value = _KOLMOGOROV, float(ks_2samp(then, now, method="asymp").pvalue)
    line.bins = _shares(_names(edges), counts[0], counts[1])
    return line


def _categories(
    what: str, segment: str | None, then: pl.Series, now: pl.Series, settings: DriftSettings
) -> DistributionLine:
    line = DistributionLine(what=what, segment=segment, reference=len(then), decisions=len(now))
    line.note = _too_few(len(then), len(now), settings)
    if line.note:
        return line
    names = sorted(set(then) | set(now))
    counts = [np.array([(side == name).sum() for name in names]) for side in (then, now)]
    line.psi = population_stability_index(counts[0], counts[1])
    # One category everywhere: nothing can differ, and the test has no degree of freedom.
    p_value = float(chi2_contingency(np.array(counts)).pvalue) if len(names) > 1 else 1.0
    line.test, line.p_value = _CHI2, p_value
    line.bins = _shares(names, counts[0], counts[1])
    return line


def _too_few(reference: int, decisions: int, settings: DriftSettings) -> str:
    if reference < settings.min_reference:
        return f"too few: the reference has {reference:,}, {settings.min_reference:,} are needed (drift.min_reference)"
    if decisions < settings.min_decisions:
        return f"too few: {decisions:,} decisions, {settings.min_decisions:,} are needed (drift.min_decisions)"
    return ""


def _names(edges: Floats) -> list[str]:
    shown = [f"{edge:.4g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
    return [f"up to {shown[0]}", *between, f"above {shown[-1]}"]


def _shares(names: Sequence[str], then: Ints, now: Ints) -> list[tuple[str, float, float]]:
    return list(zip(names, (then / then.sum()).tolist(), (now / now.sum()).tolist(), strict=True))


def _accepted(side: pl.DataFrame) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.asarray((side["decision"].drop_nulls() == "accept").to_numpy(), dtype=bool)
