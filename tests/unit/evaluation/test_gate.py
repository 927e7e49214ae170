"""The gate's truth table: a candidate passes when every configured limit holds, and only if there is one."""

from typing import Any

import pytest

from rewardloop.config import GateSettings
from rewardloop.evaluation.gate import decide
from rewardloop.evidence import Blessing, Estimate, EvaluationEvidence
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
    return decide(
        evidence.model_copy(update=update), GateSettings.model_validate(gate), candidate="c", corpus_digest="d"
    )


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
        ({"min_over_length_only": 0.1}, {"over_length_only": near(0.11)}, False),
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


def test_the_blessing_names_whom_it_compared_with() -> None:
    assert judged({"min_accuracy": 0.1}).champion == "no champion: first version"
    assert judged({"min_accuracy": 0.1}, champion_difference=near(0.05)).champion != "no champion: first version"
