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
from rewardloop.evaluation.against_champion import ChampionScores, compare_with_champion
from rewardloop.evaluation.leaks import leak_check
from rewardloop.evaluation.length import length_evidence
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evaluation.robustness import Perturbed, robustness_lines
from rewardloop.evaluation.scale import Scale, anchored_scale, first_scale
from rewardloop.evaluation.slices import slice_lines
from rewardloop.evaluation.threshold import Labeled, certify
from rewardloop.evidence import Estimate, EvaluationEvidence, RobustnessLine
from rewardloop.modeling.scoring import public_score

_HELD_OUT = ("validation", "calibration", "test", "golden")


class PerturbedAnswers(NamedTuple):
    """Some test answers, and the candidate's raw scores of them after each kind of perturbation."""

    places: Ints
    """Items, shape (answers,)."""
    texts: dict[str, list[str]]
    raw: dict[str, Floats]


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
    perturbations: PerturbedAnswers | None = None,
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
        perturbations: scores of perturbed test answers; None: robustness is not measured.
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
    validation, tested = (calibration.SoftPairs.of(pairs, public, name) for name in ("validation", "test"))
    temperature = calibration.fit_temperature(validation.difference, validation.p)
    band = calibration.tie_band(validation.difference, validation.p)
    predictions = calibration.predicted(tested.difference, temperature)
    bins = calibration.reliability(predictions, tested.p)
    reference = public_score(anchors_raw, scale) if reference_anchors is None else reference_anchors
    certified = certify(
        _labeled(items, public, "calibration", evaluation.seed),
        _labeled(items, public, "test", evaluation.seed),
        threshold,
        acceptability,
        confidence=evaluation.confidence,
    )
    in_test = (split == "test") & ~np.isnan(public)
    documents = items["document"].rank("dense").to_numpy().astype(np.int64)
    evidence = EvaluationEvidence(
        pair_rule=_pair_rule(evaluation),
        accuracy=test.accuracy(public),
        golden_accuracy=golden.accuracy(public) if golden else None,
        bag_of_words=test.accuracy(bag_of_words),
        length_only=test.accuracy(by_length),
        over_bag_of_words=test.advantage(public, bag_of_words),
        over_length_only=test.advantage(public, by_length),
        one_labeler=one_labeler,
        length=length_evidence(test, public, by_length, length, documents, evaluation),
        robustness=_robustness(items, documents, public, perturbations, scale, certified.threshold, evaluation),
        leaks=leak_check(items, evaluation),
        temperature=temperature,
        tie_band=band,
        ece=calibration.expected_calibration_error(bins),
        brier=calibration.brier(predictions, tested.p),
        reliability=bins,
        calibration_slices=calibration.calibration_slices(items, tested, predictions, evaluation),
        slices=slice_lines(items, test, public, evaluation),
        threshold=certified,
        champion=champion and compare_with_champion(items, pairs, public, certified.threshold, champion, evaluation),
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
        "block_threshold": certified.review.block_threshold if certified.review else None,
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
    # Equal scores for everything are no error of the run but a candidate that the gate refuses.
    if not spread > 0:
        return first_scale(mean, 1.0), mean, 0.0
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


def _robustness(
    items: pl.DataFrame,
    documents: Ints,
    public: Floats,
    perturbations: PerturbedAnswers | None,
    scale: Scale,
    threshold: float | None,
    settings: EvaluationSettings,
) -> list[RobustnessLine]:
    """Changes in units of the spread of the test answers' scores."""
    known = public[(items["split"] == "test").to_numpy() & ~np.isnan(public)]
    if perturbations is None or not np.ptp(known) > 0:
        return []
    places, texts = perturbations.places, perturbations.texts
    return robustness_lines(
        items["response"].gather(places).to_list(),
        public[places],
        {kind: Perturbed(texts[kind], public_score(raw, scale)) for kind, raw in perturbations.raw.items()},
        documents[places],
        threshold=threshold,
        spread=float(known.std()),
        settings=settings,
    )
