"""The gate's truth table: a candidate passes when every configured limit holds, and only if there is one."""

from typing import Any

import pytest
from pydantic import ValidationError

from rewardloop.config import GateSettings
from rewardloop.evaluation.gate import decide
from rewardloop.evidence import Blessing, CalibrationSlice, Estimate, EvaluationEvidence, SliceLine, ThresholdEvidence
from tests import run_folders


def near(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, count=1000)


def judged(gate: dict[str, Any], **measured: Any) -> Blessing:
    evidence: EvaluationEvidence = run_folders.evaluation()
    champion = measured.pop("champion_difference", None)
    update: dict[str, Any] = {"champion": None} | measured
    if champion is not None:
        assert evidence.champion is not None
        update["champion"] = evidence.champion.model_copy(
            update={"difference": champion, "golden_difference": measured.get("golden")}
        )
        update.pop("golden", None)
    compared = update["champion"]
    return decide(
        evidence.model_copy(update=update),
        GateSettings.model_validate(gate),
        candidate="c",
        corpus_digest="d",
        champion_now=update.pop("champion_now", compared.version if compared else None),
    )


def slices(*accuracies: float) -> list[SliceLine]:
    return [SliceLine(name=f"slice {value}", accuracy=near(value), documents=50) for value in accuracies]


def too_sure(*excesses: float, documents: int = 50) -> dict[str, Any]:
    lines = [
        CalibrationSlice(name=f"slice {value}", predicted=0.7, excess=near(value), documents=documents)
        for value in excesses
    ]
    return {"calibration_slices": lines}


def accepting(unacceptable: Estimate | None) -> ThresholdEvidence:
    evidence: ThresholdEvidence = run_folders.evaluation().threshold
    return evidence.model_copy(update={"unacceptable_among_accepted": unacceptable})


def length(**fields: Estimate | None) -> dict[str, Any]:
    return {"length": run_folders.evaluation().length.model_copy(update=fields)}


def perturbed(**fields: Any) -> dict[str, Any]:
    line = run_folders.evaluation().robustness[0]
    return {"robustness": [line, line.model_copy(update={"kind": "another"} | fields)]}


def leaking(**fields: Any) -> dict[str, Any]:
    return {"leaks": run_folders.evaluation().leaks.model_copy(update=fields)}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("gate", "measured", "blessed"),
    [
        ({"min_over_length_only": 0.1}, length(controlled_over_length_only=near(0.13)), True),
        ({"min_over_length_only": 0.1}, length(controlled_over_length_only=near(0.11)), False),
        ({"min_over_length_only": 0.1}, length(controlled_over_length_only=None), False),
        ({"min_length_controlled_accuracy": 0.6}, length(controlled=near(0.63)), True),
        ({"min_length_controlled_accuracy": 0.6}, length(controlled=near(0.61)), False),
        ({"min_length_controlled_accuracy": 0.6}, length(controlled=None), False),
        ({"max_score_length_correlation": 0.3}, length(correlation=near(-0.31)), True),  # not surely more
        ({"max_score_length_correlation": 0.3}, length(correlation=near(-0.33)), False),
        (
            {"max_score_length_correlation": 0.3},
            length(correlation=None),
            True,
        ),  # neither varies: nothing follows length
        ({"max_slice_miscalibration": 0.1}, too_sure(0.01, -0.11), True),  # not surely more
        ({"max_slice_miscalibration": 0.1}, too_sure(0.01, -0.13), False),  # too timid is as wrong as too sure
        ({"max_slice_miscalibration": 0.1}, too_sure(0.13, 0.01), False),
        ({"max_slice_miscalibration": 0.1}, too_sure(0.13, documents=49), True),  # too few to judge
        ({"max_robustness_change": 0.2}, perturbed(change=near(0.17)), True),
        ({"max_robustness_change": 0.2}, perturbed(change=near(0.19)), False),  # the upper end counts
        ({"max_robustness_change": 0.2}, perturbed(change=None), False),
        ({"max_robustness_change": 0.2}, perturbed(change=None, items=0), True),  # it changes no answer
        ({"max_robustness_change": 0.2}, {"robustness": []}, False),
        ({"max_flips_to_accepted": 0.05}, perturbed(newly_accepted=near(0.06)), True),
        ({"max_flips_to_accepted": 0.05}, perturbed(newly_accepted=near(0.08)), False),
        ({"max_flips_to_accepted": 0.05}, perturbed(newly_accepted=None, blocked=0), True),  # nothing was blocked
        ({"max_flips_to_accepted": 0.05}, perturbed(newly_accepted=None, blocked=None), False),
        ({"max_robustness_change": 0.2}, perturbed(change=None, items=0, unscored=5), False),
        ({}, leaking(duplicates_with_train=1), False),
        ({}, leaking(documents_held_out=1), False),
        ({}, leaking(duplicates_with_train=None), False),
        ({}, {"leaks": None}, False),
        ({"max_leaked_items": 1}, leaking(duplicates_with_train=1), True),
        ({"max_leaked_items": None}, {"leaks": None}, True),
        ({"max_near_duplicates": 0.01}, {}, True),
        ({"max_near_duplicates": 0.01}, leaking(nearest=None), False),
    ],
)
def test_what_else_a_candidate_must_show(gate: dict[str, Any], measured: dict[str, Any], blessed: bool) -> None:
    assert judged({"min_accuracy": 0.1} | gate, **measured).blessed is blessed


def test_every_check_has_value_limit_and_reason() -> None:
    gate = {
        "min_accuracy": 0.1, "min_length_controlled_accuracy": 0.1, "min_over_length_only": 0.0, "max_ece": 0.5,
        "min_over_bag_of_words": 0.0, "min_slice_accuracy": 0.1, "max_unacceptable_among_accepted": 0.9,
        "max_score_length_correlation": 0.9, "max_robustness_change": 1.0, "max_flips_to_accepted": 0.9,
        "max_near_duplicates": 0.5, "better_than_champion_by": 0.0, "not_worse_on_slices_by": 0.05,
    }  # fmt: skip
    blessing = judged(gate, champion_difference=near(0.05), golden=near(0.05))
    assert blessing.blessed
    assert len(blessing.checks) >= len(gate) + 5
    for check in blessing.checks:
        assert check.rule
        assert check.reason.endswith((".", "…"))
        assert (check.limit is None) == (check.name == "compared with today's champion")
    assert len({check.name for check in blessing.checks}) == len(blessing.checks)


@pytest.mark.parametrize(("compared", "now"), [(None, "7"), ("1", "2"), ("1", None)])
def test_a_comparison_with_another_champion_than_todays_is_refused(compared: str | None, now: str | None) -> None:
    measured = {} if compared is None else {"champion_difference": near(0.05)}
    blessing = judged({"min_accuracy": 0.1}, **measured, champion_now=now)
    assert not blessing.blessed
    assert blessing.reasons[0].startswith("Compared with")
    assert "Run again" in blessing.reasons[0]


def test_a_slice_that_is_surely_worse_is_refused_and_a_small_one_is_not_judged() -> None:
    evidence = run_folders.evaluation().champion
    assert evidence is not None
    (line,) = evidence.slices
    worse = line.model_copy(update={"difference": near(-0.05, 0.01), "standard_error": 0.005})
    small = worse.model_copy(update={"name": "three items", "standard_error": 0.3, "documents": 3})
    champion = evidence.model_copy(
        update={"difference": near(0.02), "golden_difference": None, "slices": [worse, small]}
    )
    gate = {"min_accuracy": 0.1, "not_worse_on_slices_by": 0.02}
    blessing = judged(gate, champion=champion)
    assert [check.name for check in blessing.checks if not check.passed] == [
        "not worse than champion 1 on long answers"
    ]
    assert judged({"min_accuracy": 0.1}, champion=champion).blessed


def test_a_slice_of_few_documents_is_not_held_against_the_candidate() -> None:
    (few,) = slices(0.2)
    gate = {"min_accuracy": 0.5, "min_slice_accuracy": 0.5}
    assert not judged(gate, slices=[few]).blessed
    assert judged(gate, slices=[few.model_copy(update={"documents": 3})]).blessed
    assert judged(gate | {"min_slice_accuracy": 0.1}, slices=[few]).blessed


@pytest.mark.parametrize(
    "gate",
    [
        {"not_worse_than_champion_by": 0.01, "better_than_champion_by": -0.02},
        {"min_accuracy": 0.7, "min_slice_accuracy": 0.8},
    ],
)
def test_limits_that_contradict_each_other_are_refused(gate: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"asks for less|is above min_accuracy"):
        GateSettings.model_validate(gate)


def test_an_undecided_comparison_names_the_sample_that_would_decide() -> None:
    blessing = judged({"min_accuracy": 0.1}, champion_difference=near(0.0))
    assert "would find a candidate as good as the champion" in blessing.reasons[0]


def test_without_limits_nothing_is_blessed() -> None:
    blessing = judged({"require_threshold": False})
    assert not blessing.blessed
    assert "No limit is configured" in blessing.reasons[0]


@pytest.mark.parametrize(
    ("gate", "measured", "blessed"),
    [
        ({"min_accuracy": 0.8}, {"accuracy": near(0.83)}, True),
        ({"min_accuracy": 0.8}, {"accuracy": near(0.81)}, False),  # the lower end counts
        ({"min_accuracy": 0.8}, {"accuracy": near(float("nan"))}, False),
        ({"min_accuracy": 0.1, "min_slice_accuracy": 0.1}, {"slices": slices(0.8, 0.09)}, True),  # may be 0.1
        ({"min_accuracy": 0.1, "min_slice_accuracy": 0.1}, {"slices": slices(0.8, 0.07)}, False),
        ({"min_accuracy": 0.1, "max_unacceptable_among_accepted": 0.1}, {"threshold": accepting(near(0.11))}, True),
        ({"min_accuracy": 0.1, "max_unacceptable_among_accepted": 0.1}, {"threshold": accepting(near(0.13))}, False),
        ({"min_accuracy": 0.1, "max_unacceptable_among_accepted": 0.1}, {"threshold": accepting(None)}, False),
        ({"min_accuracy": 0.1}, {"score_spread": 0.0}, False),
        ({"min_over_bag_of_words": 0.0}, {"over_bag_of_words": near(0.03)}, True),
        ({"max_ece": 0.05}, {"ece": 0.06}, False),
        ({"max_ece": 0.05}, {"ece": 0.05}, True),
        ({"max_ece": 0.05}, {"ece": float("nan")}, False),
        ({"min_accuracy": 0.1}, {"unscored": 100, "held_out": 1000}, True),
        ({"min_accuracy": 0.1}, {"unscored": 101, "held_out": 1000}, False),
        ({"min_accuracy": 0.5, "max_ece": 0.01}, {"accuracy": near(0.9), "ece": 0.02}, False),
    ],
)
def test_absolute_limits(gate: dict[str, Any], measured: dict[str, Any], blessed: bool) -> None:
    assert judged(gate, **measured).blessed is blessed


def test_an_uncertified_threshold_is_refused_with_its_reason() -> None:
    threshold = run_folders.evaluation().threshold.model_copy(update={"certified": False, "reason": "Too few items."})
    blessing = judged({"min_accuracy": 0.1}, threshold=threshold)
    assert not blessing.blessed
    assert blessing.reasons == ["No threshold could be certified. Too few items."]
    assert judged({"min_accuracy": 0.1, "require_threshold": False}, threshold=threshold).blessed


def test_a_threshold_of_acceptable_items_alone_is_worth_nothing() -> None:
    threshold = run_folders.evaluation().threshold.model_copy(update={"unacceptable_share": 0.0})
    (reason,) = judged({"min_accuracy": 0.1}, threshold=threshold).reasons
    assert reason.startswith("Every calibration item is acceptable")


@pytest.mark.parametrize(
    ("difference", "gate", "blessed"),
    [
        (near(0.02), {}, True),
        (near(0.005), {}, False),  # -0.015 is below -0.01
        (near(0.02), {"better_than_champion_by": 0.0}, False),  # 0.0 is not above 0
        (near(0.03), {"better_than_champion_by": 0.0}, True),
        (near(-0.03), {}, False),
    ],
)
def test_against_the_champion(difference: Estimate, gate: dict[str, Any], blessed: bool) -> None:
    assert judged({"min_accuracy": 0.1} | gate, champion_difference=difference).blessed is blessed


def test_worse_on_the_golden_set_is_refused() -> None:
    blessing = judged({"min_accuracy": 0.1}, champion_difference=near(0.05), golden=near(-0.05))
    assert not blessing.blessed
    assert "golden set" in blessing.reasons[0]


def test_fresh_golden_labels_are_asked_for_when_the_set_is_worn() -> None:
    evidence = run_folders.evaluation().champion
    assert evidence is not None
    update = {"difference": near(0.05), "golden_difference": near(0.05, 0.001), "golden_documents": 400}
    fresh, worn = (
        judged(
            {"min_accuracy": 0.1, "golden_uses": 3}, champion=evidence.model_copy(update=update | {"golden_use": use})
        )
        for use in (2, 3)
    )
    assert fresh.blessed
    assert worn.blessed
    assert fresh.notes == []
    (note,) = worn.notes
    assert note.startswith("Fresh golden labels are due")


def test_the_blessing_names_whom_it_compared_with() -> None:
    assert judged({"min_accuracy": 0.1}).champion == "no champion: first version"
    assert judged({"min_accuracy": 0.1}, champion_difference=near(0.05)).champion != "no champion: first version"
