"""What a candidate is worth: all of it measured on held-out items, from scores alone.

In: items, pairs, the candidate's raw scores, the champion's public ones. Out: the evaluation evidence, the completed
``scoring.json`` (public scale, temperature, threshold) and the candidate's public scores.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats, Ints
from rewardloop.config import EvaluationSettings, ThresholdSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation import baselines, calibration, examples
from rewardloop.evaluation.metrics import PairSet, counting, length_controlled_accuracy, score_length_correlation
from rewardloop.evaluation.scale import Scale, anchored_scale, first_scale
from rewardloop.evaluation.slices import slice_lines
from rewardloop.evaluation.threshold import Labeled, certify
from rewardloop.evidence import ChampionComparison, Estimate, EvaluationEvidence
from rewardloop.modeling.scoring import public_score

_HELD_OUT = ("validation", "calibration", "test", "golden")


class ChampionScores(NamedTuple):
    """The champion on the same items; ``public`` has one score per item, NaN where it was not asked."""

    version: str
    public: Floats
    threshold: float | None


class Evaluation(NamedTuple):
    """``scoring`` completes the candidate's ``scoring.json``; ``public`` has one score per item."""

    evidence: EvaluationEvidence
    scoring: dict[str, Any]
    public: Floats


def evaluate(
    items: pl.DataFrame,
    pairs: pl.DataFrame,
    *,
    raw: Floats,
    anchors_raw: Floats,
    reference_anchors: Floats | None,
    champion: ChampionScores | None,
    evaluation: EvaluationSettings,
    threshold: ThresholdSettings,
    base_scoring: dict[str, Any],
    acceptability: str,
    one_labeler: Estimate | None,
) -> Evaluation:
    """Measure one candidate.

    Args:
        items, pairs: the ``ITEMS`` and ``PAIRS`` tables.
        raw: the candidate's raw score per item; NaN for items that need none and for answers too long to be scored.
        anchors_raw: its raw scores of the store's anchors.
        reference_anchors: version 1's public scores of the same anchors; None for the first version.
        champion: the champion's scores, or None.
        evaluation, threshold: settings.
        base_scoring: the candidate's ``scoring.json``.
        acceptability: where verdicts come from, in words.
        one_labeler: measured while pairing; reported beside the accuracy.

    Raises:
        BadInputError: a split has no pair or no scored answer to measure with.
    """
    split = items["split"].to_numpy()
    scale, mean, spread = _scale(raw[split == "validation"], anchors_raw, reference_anchors)
    public = public_score(raw, scale)
    test = _needed(PairSet.of(items, pairs, "test", public, evaluation), "test", evaluation)
    golden = PairSet.of(items, pairs, "golden", public, evaluation)

    responses = items["response"].to_list()
    length = np.array([len(text) for text in responses], dtype=float)
    bag_of_words, by_length = _baselines(items, pairs, responses, evaluation.seed)
    validation = _soft(pairs, public, "validation")
    temperature, band = calibration.fit_temperature(*validation), calibration.tie_band(*validation)
    difference, share = _soft(pairs, public, "test")
    predictions = calibration.predicted(difference, temperature)
    bins = calibration.reliability(predictions, share)
    reference = public_score(anchors_raw, scale) if reference_anchors is None else reference_anchors
    certified = certify(
        _labeled(items, public, "calibration", evaluation.seed),
        _labeled(items, public, "test", evaluation.seed),
        threshold,
        acceptability,
        confidence=evaluation.confidence,
    )
    in_test = (split == "test") & ~np.isnan(public)
    evidence = EvaluationEvidence(
        pair_rule=_pair_rule(evaluation),
        accuracy=test.accuracy(public),
        golden_accuracy=golden.accuracy(public) if golden else None,
        bag_of_words=test.accuracy(bag_of_words),
        length_only=test.accuracy(by_length),
        over_bag_of_words=test.advantage(public, bag_of_words),
        over_length_only=test.advantage(public, by_length),
        one_labeler=one_labeler,
        length_controlled_accuracy=length_controlled_accuracy(test, public, length),
        score_length_correlation=score_length_correlation(public[in_test], length[in_test]),
        temperature=temperature,
        tie_band=band,
        ece=calibration.expected_calibration_error(bins),
        brier=calibration.brier(predictions, share),
        reliability=bins,
        slices=slice_lines(items, test, public, evaluation),
        threshold=certified,
        champion=_compare(items, pairs, public, certified.threshold, champion, evaluation),
        held_out=int(np.isin(split, _HELD_OUT).sum()),
        unscored=int((np.isin(split, _HELD_OUT) & np.isnan(public)).sum()),
        score_mean=mean,
        score_spread=spread,
        score_histogram=examples.histogram(items, public, in_test),
        highest=examples.extreme(items, public, in_test, highest=True),
        lowest=examples.extreme(items, public, in_test, highest=False),
        most_wrong=examples.most_wrong(items, public, test),
    )
    scoring = base_scoring | {
        "raw_mean": mean,
        "raw_spread": spread,
        "temperature": temperature,
        "tie_band": band,
        "scale": scale,
        "threshold": certified.threshold,
        "alpha": threshold.alpha,
        "delta": threshold.delta,
        # Version 1's scores of the anchors travel from version to version: the scale is theirs.
        "reference_anchors": reference.tolist(),
    }
    return Evaluation(evidence, scoring, public)


def _scale(validation_raw: Floats, anchors_raw: Floats, reference: Floats | None) -> tuple[Scale, float, float]:
    known = validation_raw[~np.isnan(validation_raw)]
    if not len(known):
        raise BadInputError("evaluation: no answer of the validation split could be scored; add feedback")
    mean, spread = float(known.mean()), float(known.std())
    if not spread > 0:
        raise BadInputError(
            f"evaluation: the candidate gives every validation answer the same score ({mean:g}), so it has learnt "
            "nothing; check the learning rate and the labels"
        )
    first = first_scale(mean, spread)
    return (first if reference is None else anchored_scale(anchors_raw, reference, first)), mean, spread


def _needed(pairs: PairSet | None, split: str, settings: EvaluationSettings) -> PairSet:
    if pairs is None:
        raise BadInputError(
            f"evaluation: the {split} split has no pair that counts ({_pair_rule(settings)}); add feedback, lower "
            "evaluation.min_rating_gap, or enlarge the split in a new store"
        )
    return pairs


def _pair_rule(settings: EvaluationSettings) -> str:
    apart = f", at least {settings.min_rating_gap:g} apart in mean rating" if settings.min_rating_gap else ""
    return f"held-out pairs on which people lean one way{apart}"


def _baselines(items: pl.DataFrame, pairs: pl.DataFrame, responses: list[str], seed: int) -> tuple[Floats, Floats]:
    train = pairs.filter(split="train")
    a, b, p = (train[name].to_numpy() for name in ("a", "b", "p"))
    words = baselines.bag_of_words_scores(responses, a, b, p, seed=seed)
    return words, baselines.length_scores(responses, a, b, p)


def _soft(pairs: pl.DataFrame, public: Floats, split: str) -> tuple[Floats, Floats]:
    """Score differences and p of all pairs of a split; close pairs and ties too: they say what a difference means."""
    chosen = pairs.filter(split=split)
    difference = public[chosen["a"].to_numpy()] - public[chosen["b"].to_numpy()]
    known = ~np.isnan(difference)
    if not known.any():
        raise BadInputError(f"evaluation: the {split} split has no pair with two scored answers; add feedback")
    return difference[known], chosen["p"].to_numpy()[known]


def _labeled(items: pl.DataFrame, public: Floats, split: str, seed: int) -> Labeled:
    """Items of ``split`` with a verdict, one seeded item per document; what cannot be scored is blocked."""
    chosen = (
        items.with_columns(pl.Series("score", public).fill_nan(-np.inf))
        .filter((pl.col("split") == split) & pl.col("random"))
        .drop_nulls("acceptable")
        .sort("item")
        .sample(fraction=1.0, shuffle=True, seed=seed)
        .unique("document", keep="first", maintain_order=True)
    )
    return Labeled(chosen["score"].to_numpy(), ~chosen["acceptable"].to_numpy())


def _compare(
    items: pl.DataFrame,
    pairs: pl.DataFrame,
    public: Floats,
    threshold: float | None,
    champion: ChampionScores | None,
    settings: EvaluationSettings,
) -> ChampionComparison | None:
    """Candidate against champion on the answers both can score: their limits of length may differ."""
    if champion is None:
        return None
    both = public + champion.public  # NaN where either has no score
    test, golden = (PairSet.of(items, pairs, split, both, settings) for split in ("test", "golden"))
    # A golden set that cannot be compared, whoever fails to score it, must not count as one that was passed.
    expected = not counting(pairs, "golden", settings).is_empty()
    missing = "test" if test is None else "golden" if expected and golden is None else None
    if test is None or missing:
        raise BadInputError(
            f"evaluation: champion {champion.version} and the candidate have no pair of the {missing} split that both "
            "can score; raise model.max_length, or register under another organization"
        )
    flip_rate, blocked, accepted = None, [], []
    if threshold is not None and champion.threshold is not None:
        in_test: Ints = np.flatnonzero((items["split"] == "test").to_numpy() & ~np.isnan(both))
        now, before = public[in_test] >= threshold, champion.public[in_test] >= champion.threshold
        flip_rate = float((now != before).mean()) if len(in_test) else None
        blocked = examples.texts(items, in_test[before & ~now])
        accepted = examples.texts(items, in_test[now & ~before])
    return ChampionComparison(
        version=champion.version,
        accuracy=test.accuracy(champion.public),
        difference=test.advantage(public, champion.public),
        golden_difference=golden.advantage(public, champion.public) if golden else None,
        flip_rate=flip_rate,
        newly_blocked=blocked,
        newly_accepted=accepted,
    )
