"""What the length of answers explains: accuracy with length held fair, and how far scores follow length.

In: pairs, scores, lengths. Out: estimates over documents, and what to make of them in words. People often prefer the
longer answer; a model that has learnt only that looks good on average and is worthless as a filter.
"""

import numpy as np

from rewardloop.bootstrap import Floats, Ints
from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import Estimate
from rewardloop.evidence.measures import LengthEvidence


def length_evidence(
    test: PairSet, scores: Floats, by_length: Floats, length: Floats, documents: Ints, settings: EvaluationSettings
) -> LengthEvidence:
    """All that is measured of length.

    Args:
        test: test pairs.
        scores: the candidate's, one per item; NaN where unscored.
        by_length: the length-only scorer's, one per item.
        length: of the responses in characters, one per item.
        documents: ints that name the items' documents, one per item.
        settings: ``bootstrap_samples``, ``seed``, ``confidence`` and ``length_margin``.
    """
    controlled = length_controlled(test, scores, length)
    judged = np.unique(np.concatenate([test.a, test.b]))
    return LengthEvidence(
        controlled=controlled,
        controlled_over_length_only=length_controlled_advantage(test, scores, by_length, length),
        correlation=length_correlation(scores[judged], length[judged], documents[judged], settings),
        words=length_words(
            test.accuracy(by_length),
            test.accuracy(scores),
            test.advantage(scores, by_length),
            controlled,
            near=settings.length_margin,
        ),
    )


def length_controlled(pairs: PairSet, scores: Floats, length: Floats) -> Estimate | None:
    """Mean of the accuracy where the longer answer is better and where the shorter one is, with its interval.

    A scorer that follows length alone gets one half. Pairs of equal length do not count.

    Args:
        pairs: decided pairs.
        scores: one per item.
        length: one per item, in any unit.

    Returns:
        None if the longer answer is always the better one, or never: then there is nothing to hold fair.
    """
    return _controlled(pairs, pairs.right(scores), length)


def length_controlled_advantage(pairs: PairSet, scores: Floats, other: Floats, length: Floats) -> Estimate | None:
    """Length-controlled accuracy of ``scores`` minus that of ``other``, paired; None as in ``length_controlled``."""
    return _controlled(pairs, pairs.right(scores) - pairs.right(other), length)


def _controlled(pairs: PairSet, values: Floats, length: Floats) -> Estimate | None:
    longer_wins = np.sign(length[pairs.a] - length[pairs.b]) * (pairs.a_is_better - 0.5)
    total, resampled = 0.0, np.zeros(1)
    for stratum in (longer_wins > 0, longer_wins < 0):
        if not stratum.any():
            return None
        total += float(values[stratum].mean()) / 2
        inside = stratum.astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may miss a stratum: NaN, left out below
            resampled = resampled + pairs.bootstrap.means(values * inside) / pairs.bootstrap.means(inside) / 2
    return _estimate(total, resampled, int(np.count_nonzero(longer_wins)), pairs.confidence, "pairs")


def length_correlation(
    scores: Floats, length: Floats, documents: Ints, settings: EvaluationSettings
) -> Estimate | None:
    """Spearman's rank correlation of score and length with its percentile interval over documents.

    Ranks are taken anew in each resample. With whole multiplicities w the mean rank of a value is what it would be if
    every answer stood there w times, so nothing has to be copied or sorted again.

    Args:
        scores: shape (answers,); NaN is left out.
        length: shape (answers,).
        documents: ints that name the answers' documents, shape (answers,).
        settings: ``bootstrap_samples``, ``seed`` and ``confidence``.

    Returns:
        None where scores or lengths do not vary.
    """
    known = ~np.isnan(scores)
    scores, length = scores[known], length[known]
    if not len(scores) or not np.ptp(scores) or not np.ptp(length):
        return None
    _, document = np.unique(documents[known], return_inverse=True)
    count = int(document.max()) + 1
    random = np.random.default_rng(settings.seed)
    codes = [np.unique(values, return_inverse=True)[1] for values in (scores, length)]
    resampled = np.array(
        [
            _spearman(codes[0], codes[1], random.multinomial(count, np.full(count, 1 / count))[document])
            for _ in range(settings.bootstrap_samples)
        ]
    )
    value = _spearman(codes[0], codes[1], np.ones(len(scores), dtype=np.int64))
    return _estimate(value, resampled, len(scores), settings.confidence, "responses")


def _spearman(x: Ints, y: Ints, weight: Ints) -> float:
    """Spearman's correlation of answers that stand there ``weight`` times; NaN where either does not vary.

    Args:
        x, y: places of the values among the distinct ones, ascending, shape (answers,).
        weight: whole numbers, shape (answers,).
    """
    ranks = []
    for codes in (x, y):
        size = np.bincount(codes, weights=weight)
        ranks.append((np.cumsum(size) - size / 2)[codes])
    total = weight.sum()
    a, b = (rank - weight @ rank / total for rank in ranks)
    variation = (weight @ a**2) * (weight @ b**2)
    return float(weight @ (a * b) / np.sqrt(variation)) if variation > 0 else float("nan")


def _estimate(value: float, resampled: Floats, count: int, confidence: float, unit: str) -> Estimate | None:
    if np.isnan(resampled).all():
        return None
    edge = 50 * (1 - confidence)
    low, high = np.nanpercentile(resampled, [edge, 100 - edge])
    return Estimate(value=value, low=float(low), high=float(high), level=confidence, count=count, unit=unit)


def length_words(
    length_only: Estimate, accuracy: Estimate, advantage: Estimate, controlled: Estimate | None, *, near: float
) -> str:
    """What to make of the length-only scorer, in two sentences.

    Args:
        length_only: its accuracy.
        accuracy: the candidate's.
        advantage: of the candidate over it, paired.
        controlled: the candidate's length-controlled accuracy.
        near: an advantage up to this is called nearly none.
    """
    candidate = f"the candidate's {accuracy.value:.3f}"
    ahead = f"{advantage.value:+.3f} [{advantage.low:+.3f}, {advantage.high:+.3f}]"
    if not advantage.low > 0:  # NaN too
        found = f"{candidate} is not surely better than counting characters ({ahead})"
    elif advantage.value <= near:
        found = f"nearly as good as {candidate} ({ahead})"
    elif length_only.low > 0.5:
        found = f"better than chance, so part of {candidate} ({ahead}) can be had without reading the answers"
    else:
        found = f"no better than chance; {candidate} ({ahead}) does not come from it"
    if controlled is None:
        fair = "The length-controlled accuracy could not be measured: the longer answer always wins, or never."
    else:
        doubt = "" if controlled.low > 0.5 else ", which may be chance"
        fair = (
            f"With length held fair, where length alone is worth 0.500, the candidate reaches {controlled.value:.3f} "
            f"[{controlled.low:.3f}, {controlled.high:.3f}]{doubt}."
        )
    return f"Length alone reaches {length_only.value:.3f}: {found}. {fair}"
