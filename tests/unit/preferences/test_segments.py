"""Segments: weighed or alone by choice, compared by hand, and named where they do not exist."""

import pytest

from rewardloop.agreement import Agreement
from rewardloop.config import EvaluationSettings, PreferenceSettings, SegmentSettings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.preferences.build import Preferences, build
from rewardloop.preferences.segments import OTHER_SEGMENT, segment_lines
from tests.unit.preferences.feedback import choice, frame, group, two_segments

ONLY_TEST = SplitSettings(train=0, validation=0, calibration=0, test=1)


def built(segments: dict[str, object]) -> Preferences:
    extra = [group(["C", "D"], [choice("a", "b", "big0")], prompt="Only one segment", segment="big")]
    return build(
        frame([*two_segments(30), *extra]),
        preferences=PreferenceSettings.model_validate({"segments": segments}),
        splits=ONLY_TEST,
        evaluation=EvaluationSettings(bootstrap_samples=100),
        golden=frozenset(),
    )


def minority(result: Preferences) -> list[float]:
    """Share of the smaller side, by pair that both segments judged."""
    return sorted({round(min(p, 1 - p), 9) for p in result.pairs["p"] if 0 < p < 1})


def test_together_everybody_counts_alike() -> None:
    assert minority(built({})) == [0.25]


def test_a_minority_can_be_given_weight() -> None:
    result = built({"mode": "weighted", "weights": {"small": 3.0}})
    assert minority(result) == [0.5]
    # Twelve votes of weight 1 and four of weight 3: 24^2 over 12 + 36.
    assert max(result.pairs["votes"]) == pytest.approx(12)


def test_only_one_segment_counts() -> None:
    result = built({"mode": "only", "only": "small"})
    assert set(result.pairs["p"]) == {0.0, 1.0}
    assert set(result.pairs["votes"]) == {4.0}
    assert result.left_out == {OTHER_SEGMENT: 1}
    assert len(result.pairs) == 30
    assert result.groups_used == 60, "rows of a group that is used, the other segment's among them"
    assert set(result.opinions.labelers["segment"]) == {"small"}
    assert result.opinions.between["big"]["small"].value == 0.0, "the evidence still shows both"


def test_weight_zero_leaves_labels_out() -> None:
    assert set(built({"mode": "weighted", "weights": {"big": 0.0}}).pairs["votes"]) == {4.0}


@pytest.mark.parametrize("segments", [{"mode": "only", "only": "bgi"}, {"mode": "weighted", "weights": {"bgi": 2}}])
def test_an_unknown_segment_is_refused_with_those_that_exist(segments: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match=r"'bgi' is no segment; segments of this corpus: 'big', 'small'"):
        built(segments)


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "only"},
        {"only": "big"},
        {"mode": "weighted"},
        {"weights": {"a": 1.0}},
        {"mode": "only", "only": "a", "weights": {"a": 1.0}},
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="mode"):
        SegmentSettings.model_validate(given)


def test_lines_by_hand() -> None:
    result = built({})
    within = {"small": Agreement(0.5, "nominal", 4, 30, 0.4, 0.6), "big": Agreement(None, "nominal", 12, 0)}
    big, small = segment_lines(frame(two_segments(30)), "overall", SegmentSettings(), within, result.opinions.between)
    assert (big.segment, big.labels, big.labelers, big.alpha, big.weight) == ("big", 360, 12, None, 1.0)
    assert (small.segment, small.labels, small.low, small.high) == ("small", 120, 0.4, 0.6)
    found = small.agreement["big"]
    assert (found.value, found.low, found.count) == (0.0, 0.0, 30)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 30))  # closed form of the exact interval for none of 30
