"""A candidate with known scores: accuracies, baselines, calibration, scale and comparison come out as they must."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardloop.config import EvaluationSettings, ThresholdSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.against_champion import OLD_FEEDBACK, ChampionScores, compare_with_champion
from rewardloop.evaluation.calibration import (
    brier,
    expected_calibration_error,
    fit_temperature,
    predicted,
    reliability,
    tie_band,
)
from rewardloop.evaluation.evaluate import Evaluation, PerturbedAnswers, evaluate
from rewardloop.evaluation.examples import extreme
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evaluation.scale import anchored_scale, first_scale
from rewardloop.modeling.scoring import public_score
from rewardloop.tables import PAIRS
from tests.unit.evaluation.tables import tables

ITEMS, PAIRS_TABLE = tables()
TRUTH = ITEMS["rating"].to_numpy()
SETTINGS = EvaluationSettings(bootstrap_samples=200, min_rating_gap=0.5)


def measured(raw: np.ndarray[Any, Any] = TRUTH, **changes: Any) -> Evaluation:
    arguments: dict[str, Any] = {
        "raw": raw,
        "anchors_raw": np.linspace(-2, 2, 50),
        "reference_anchors": None,
        "champion": None,
        "evaluation": SETTINGS,
        "threshold": ThresholdSettings(alpha=0.2, delta=0.2),
        "base_scoring": {"template": "plain"},
        "acceptability": "planted",
        "one_labeler": None,
    }
    return evaluate(ITEMS, PAIRS_TABLE, **arguments | changes)


def test_perfect_and_reversed_scores() -> None:
    assert measured().evidence.accuracy.value == 1.0
    assert measured(-TRUTH).evidence.accuracy.value == 0.0


def test_only_pairs_that_people_tell_apart_count() -> None:
    expected = PAIRS_TABLE.filter((pl.col("split") == "test") & (pl.col("gap") >= 0.5))
    assert measured().evidence.accuracy.count == len(expected)


def test_baselines_beside_the_accuracy() -> None:
    evidence = measured().evidence
    assert evidence.bag_of_words.value > 0.8  # the words say it
    assert evidence.length_only.value == pytest.approx(0.5, abs=0.2)
    assert evidence.over_bag_of_words.value == pytest.approx(1 - evidence.bag_of_words.value)
    assert evidence.over_length_only.low > 0


def test_threshold_accepts_mostly_what_is_acceptable() -> None:
    threshold = measured().evidence.threshold
    assert threshold.certified
    assert threshold.unacceptable_among_accepted is not None
    assert threshold.unacceptable_among_accepted.value < 0.2


def test_first_version_is_standardized_on_validation() -> None:
    result = measured(5 + 3 * TRUTH)
    of_validation = result.public[(ITEMS["split"] == "validation").to_numpy()]
    assert of_validation.mean() == pytest.approx(0, abs=1e-9)
    assert of_validation.std() == pytest.approx(1)
    np.testing.assert_allclose(
        result.scoring["reference_anchors"], public_score(np.linspace(-2, 2, 50), result.scoring["scale"])
    )


def test_later_version_keeps_the_scale_of_the_first() -> None:
    reference = np.linspace(-1, 1, 50)
    # The candidate's raw scores are version 1's, stretched and moved.
    result = measured(7 + 4 * TRUTH, anchors_raw=7 + 4 * reference, reference_anchors=reference)
    np.testing.assert_allclose(result.public, TRUTH, atol=1e-6)
    assert result.scoring["reference_anchors"] == reference.tolist()


def test_worse_champion_is_beaten_and_flips_are_shown() -> None:
    noisy = TRUTH + np.random.default_rng(1).normal(size=len(TRUTH)) * 2
    comparison = measured(champion=ChampionScores("3", noisy, 0.0)).evidence.champion
    assert comparison is not None
    assert comparison.version == "3"
    assert comparison.difference.low > 0
    assert comparison.golden_difference is not None
    assert comparison.flip_rate is not None
    assert comparison.flip_rate > 0.1
    assert comparison.newly_blocked
    assert comparison.newly_accepted


def test_champion_compared_with_itself_differs_in_nothing() -> None:
    first = measured()
    threshold = first.evidence.threshold.threshold
    same = measured(champion=ChampionScores("1", first.public, threshold)).evidence.champion
    assert same is not None
    assert (same.difference.value, same.difference.low, same.difference.high, same.flip_rate) == (0, 0, 0, 0)


def test_what_the_champion_cannot_score_is_left_out_of_the_comparison_only() -> None:
    first = measured()
    theirs = first.public.copy()
    missing = np.flatnonzero((ITEMS["split"] == "test").to_numpy())[:2]
    theirs[missing] = np.nan
    evidence = measured(champion=ChampionScores("1", theirs, None)).evidence
    assert evidence.champion is not None
    assert evidence.champion.difference.value == evidence.champion.difference.low == 0
    touching = (PAIRS_TABLE["a"].is_in(missing) | PAIRS_TABLE["b"].is_in(missing)).to_numpy()
    counting = ((PAIRS_TABLE["split"] == "test") & (PAIRS_TABLE["gap"] >= 0.5)).to_numpy()
    assert evidence.champion.difference.count == (counting & ~touching).sum()
    assert evidence.accuracy == first.evidence.accuracy


@pytest.mark.parametrize("split", ["test", "golden"])
def test_a_champion_without_any_score_is_an_error(split: str) -> None:
    theirs = np.where((ITEMS["split"] == split).to_numpy(), np.nan, TRUTH)
    with pytest.raises(BadInputError, match=f"champion 1 and the candidate have no pair of the {split} split"):
        measured(champion=ChampionScores("1", theirs, None))


def test_a_candidate_that_cannot_score_the_golden_set_does_not_skip_it() -> None:
    raw = np.where((ITEMS["split"] == "golden").to_numpy(), np.nan, TRUTH)
    assert measured(raw).evidence.golden_accuracy is None  # a first version has nothing to be compared with
    with pytest.raises(BadInputError, match="champion 1 and the candidate have no pair of the golden split"):
        measured(raw, champion=ChampionScores("1", TRUTH, None))


def test_anchors_of_another_store_are_an_error() -> None:
    with pytest.raises(BadInputError, match="it has 50 anchors, but the champion's public scale was fitted on 7"):
        measured(reference_anchors=np.arange(7.0))


@pytest.mark.parametrize(("rating", "label"), [(2.1, "2.1"), (100.0, "100"), (-3.256, "-3.26")])
def test_examples_show_ratings_as_people_write_them(rating: float, label: str) -> None:
    items = ITEMS.with_columns(pl.lit(rating).alias("rating"))
    (shown,) = {one.label for one in extreme(items, TRUTH, (ITEMS["split"] == "test").to_numpy(), highest=True)}
    assert shown == f"mean rating {label}"


def test_few_documents_still_give_an_interval() -> None:
    items, pairs = tables(per_split=2)
    evidence = evaluate(
        items, pairs, raw=items["rating"].to_numpy(), anchors_raw=np.arange(3.0), reference_anchors=None,
        champion=None, evaluation=EvaluationSettings(bootstrap_samples=100), threshold=ThresholdSettings(),
        base_scoring={}, acceptability="", one_labeler=None,
    ).evidence  # fmt: skip
    assert (evidence.accuracy.value, evidence.accuracy.low, evidence.accuracy.count) == (1, 1, 1)
    assert not evidence.threshold.certified


def test_answers_that_cannot_be_scored_are_counted_and_left_out() -> None:
    raw = TRUTH.copy()
    test = np.flatnonzero((ITEMS["split"] == "test").to_numpy())
    raw[test[:5]] = np.nan
    evidence = measured(raw).evidence
    assert evidence.unscored == 5
    assert evidence.accuracy.value == 1.0
    assert evidence.accuracy.count < measured().evidence.accuracy.count


def test_constant_scores_are_measured_for_the_gate_to_refuse() -> None:
    evidence = measured(np.ones(len(TRUTH))).evidence
    assert evidence.score_spread == 0
    assert evidence.accuracy.value == 0.5
    assert evidence.length.correlation is None


def test_no_pair_that_counts_is_an_error_with_the_rule() -> None:
    with pytest.raises(BadInputError, match=r"the test split has no pair that counts .*at least 99 apart"):
        measured(evaluation=EvaluationSettings(min_rating_gap=99))


def test_slices_cover_segments_lengths_and_gaps() -> None:
    items, pairs = tables(segments=2)
    raw = items["rating"].to_numpy()
    result = evaluate(
        items, pairs, raw=raw, anchors_raw=raw[:9], reference_anchors=None, champion=None, evaluation=SETTINGS,
        threshold=ThresholdSettings(alpha=0.2, delta=0.2), base_scoring={}, acceptability="", one_labeler=None,
    )  # fmt: skip
    names = [line.name for line in result.evidence.slices]
    assert {"segment s0", "segment s1", "shortest third", "farthest third in rating"} <= set(names)


def pair_set(scores: np.ndarray[Any, Any], pairs: pl.DataFrame = PAIRS_TABLE) -> PairSet:
    result = PairSet.of(ITEMS, pairs, "test", scores, SETTINGS)
    assert result is not None
    return result


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 3), min_size=3, max_size=3))
def test_accuracy_sees_only_the_order(steps: list[float]) -> None:
    noisy = TRUTH + np.random.default_rng(2).normal(size=len(TRUTH))
    stretched = steps[0] * noisy + steps[1] * noisy**3 + steps[2]
    assert pair_set(noisy).accuracy(noisy) == pair_set(stretched).accuracy(stretched)


def test_swapping_a_and_b_with_p_changes_nothing() -> None:
    noisy = TRUTH + np.random.default_rng(2).normal(size=len(TRUTH))
    swapped = PAIRS_TABLE.rename({"a": "b", "b": "a"}).with_columns((1 - pl.col("p")).alias("p")).select(PAIRS.names())
    assert pair_set(noisy, swapped).accuracy(noisy).value == pair_set(noisy).accuracy(noisy).value


def test_equal_scores_are_half_right() -> None:
    assert pair_set(np.zeros(len(TRUTH))).accuracy(np.zeros(len(TRUTH))).value == 0.5


def test_a_champion_is_compared_slice_by_slice_and_on_the_feedback_it_knew() -> None:
    old = np.arange(len(ITEMS)) % 3 > 0
    items = ITEMS.with_columns(pl.Series("batches", [["old"] if one else ["new", "old"] for one in old]))
    champion = ChampionScores("1", TRUTH, None, batches=frozenset({"old"}))
    comparison = compare_with_champion(items, PAIRS_TABLE, TRUTH, None, champion, SETTINGS)
    found = {line.name: line.difference for line in comparison.slices}
    assert {"shortest third", "farthest third in rating", OLD_FEEDBACK} <= set(found)
    test = PAIRS_TABLE.filter((pl.col("split") == "test") & (pl.col("gap") >= 0.5))
    assert found[OLD_FEEDBACK].count == (old[test["a"]] & old[test["b"]]).sum()
    assert all(difference.value == 0 for difference in found.values())
    stranger = compare_with_champion(items, PAIRS_TABLE, TRUTH, None, ChampionScores("1", TRUTH, None), SETTINGS)
    assert OLD_FEEDBACK not in {line.name for line in stranger.slices}


def test_the_golden_set_is_judged_by_its_uses_and_by_documents_in_use() -> None:
    noisy = TRUTH + np.random.default_rng(3).normal(size=len(TRUTH))

    def golden(**champion: Any) -> Any:
        comparison = measured(champion=ChampionScores("1", noisy, None, **champion)).evidence.champion
        assert comparison is not None
        return comparison.golden_difference

    first, tenth = golden(), golden(golden_use=10)
    assert first.value == tenth.value
    assert tenth.high - tenth.low > first.high - first.low
    assert (first.level, tenth.level) == (pytest.approx(1 - 0.05 / 2), pytest.approx(1 - 0.05 / 110))
    documents = ITEMS.filter(split="golden")["document"].unique().sort()
    some = golden(golden_documents=frozenset(documents[: len(documents) // 2]))
    assert 0 < some.count < first.count


def test_robustness_is_measured_in_spreads_of_the_test_answers() -> None:
    places = np.flatnonzero((ITEMS["split"] == "test").to_numpy())[::3]
    texts = {"longer": [f"{text} more" for text in ITEMS["response"].gather(places)]}
    perturbations = PerturbedAnswers(places, texts, {"longer": TRUTH[places] + 2 * TRUTH.std()})
    (line,) = measured(perturbations=perturbations).evidence.robustness
    assert line.items == len(places)
    assert line.change is not None
    spread = TRUTH[(ITEMS["split"] == "test").to_numpy()].std()
    assert line.change.value == pytest.approx(2 * TRUTH.std() / spread)
    assert measured().evidence.robustness == []


def test_a_document_in_two_splits_is_found() -> None:
    assert measured().evidence.leaks is not None
    assert measured().evidence.leaks.documents_with_train == 0  # type: ignore[union-attr]


def test_temperature_finds_the_planted_one() -> None:
    difference = np.random.default_rng(0).normal(size=5000) * 4
    assert fit_temperature(difference, predicted(difference, 2.5)) == pytest.approx(2.5, rel=1e-3)


def test_as_many_differences_are_ties_as_people_leave_undecided() -> None:
    # 2 of 5 pairs are undecided; 3 of 5 labelers (0.6) decide one. Two fifths of the way through 1, 2, 3, 4, 9 is 2.6.
    shares = np.array([0.5, 0.55, 0.6, 0.4, 1.0])
    assert tie_band(np.array([-3.0, 9, 1, -2, 4]), shares) == pytest.approx(2.6)
    assert tie_band(np.array([-3.0, 9]), np.array([0.45, 0.5])) == 9
    assert tie_band(np.array([-3.0, 9]), np.array([0.6, 0.0])) is None


def test_the_tie_band_is_on_the_public_scale_of_validation_pairs() -> None:
    result = measured(5 + 3 * TRUTH)
    validation = PAIRS_TABLE.filter(split="validation")
    difference = result.public[validation["a"]] - result.public[validation["b"]]
    undecided = (validation["p"] - 0.5).abs() < 0.1
    assert result.scoring["tie_band"] == result.evidence.tie_band
    assert result.evidence.tie_band is not None
    within = np.abs(difference) <= result.evidence.tie_band
    assert 0.02 < within.mean() == pytest.approx(undecided.mean(), abs=1 / len(validation))


def test_decided_pairs_leave_no_tie_band() -> None:
    decided = PAIRS_TABLE.with_columns(pl.col("p").round().alias("p"))
    result = evaluate(
        ITEMS, decided, raw=TRUTH, anchors_raw=np.arange(3.0), reference_anchors=None, champion=None,
        evaluation=SETTINGS, threshold=ThresholdSettings(alpha=0.2, delta=0.2), base_scoring={}, acceptability="",
        one_labeler=None,
    )  # fmt: skip
    assert result.evidence.tie_band is None
    assert result.scoring["tie_band"] is None


def test_calibration_by_hand() -> None:
    predictions = np.array([0.8, 0.8, 0.8, 0.8, 0.2])
    outcomes = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    # Turned to 0.8 each; right in 4 of 5.
    bins = reliability(predictions, outcomes)
    assert sum(one.pairs for one in bins) == 5
    assert brier(predictions, outcomes) == pytest.approx((3 * 0.04 + 0.64 + 0.04) / 5)
    overconfident = reliability(np.full(1000, 0.9), np.tile([1.0, 0.0], 500))
    assert expected_calibration_error(overconfident) == pytest.approx(0.4, abs=0.02)


def test_a_part_that_one_temperature_does_not_fit_is_told() -> None:
    """Scores of one segment are squeezed together: its order is kept, and the model doubts what people are sure of."""
    items, pairs = tables(segments=2)
    squeezed = (items["segment"] == "s1").to_numpy()
    arguments: dict[str, Any] = {
        "anchors_raw": np.arange(3.0), "reference_anchors": None, "champion": None, "evaluation": SETTINGS,
        "threshold": ThresholdSettings(alpha=0.2, delta=0.2), "base_scoring": {}, "acceptability": "",
        "one_labeler": None,
    }  # fmt: skip
    truth = items["rating"].to_numpy()
    for scores, low, high in ((truth, -0.05, 0.05), (np.where(squeezed, truth / 20, truth), -0.5, -0.2)):
        lines = evaluate(items, pairs, raw=scores, **arguments).evidence.calibration_slices
        found = {line.name: line for line in lines}
        assert "segment s0" in found
        assert not any("in rating" in name for name in found), "what people said must not choose the pairs"
        line = found["segment s1"]
        assert low < line.excess.value < high
        assert line.documents == 30
        assert line.excess.low <= line.excess.value <= line.excess.high
        chosen = pairs.filter(split="test").filter(
            pl.col("a").is_in(np.flatnonzero(squeezed)) & pl.col("b").is_in(np.flatnonzero(squeezed))
        )
        assert line.excess.count == len(chosen) == 30 * 29 / 2
        agree = np.maximum(chosen["p"].to_numpy(), 1 - chosen["p"].to_numpy()).mean()  # the order is people's own
        assert line.predicted - line.excess.value == pytest.approx(agree)


def test_anchored_scale_increases_strictly_and_falls_back() -> None:
    random = np.random.default_rng(0)
    scale = anchored_scale(np.round(random.normal(size=200), 1), random.normal(size=200), first_scale(0, 1))
    assert (np.diff(scale["raw"]) > 0).all()
    assert (np.diff(scale["public"]) > 0).all()
    assert anchored_scale(np.ones(10), random.normal(size=10), first_scale(1, 2)) == first_scale(1, 2)
    assert anchored_scale(np.full(3, np.nan), np.arange(3.0), first_scale(1, 2)) == first_scale(1, 2)
