"""Krippendorff's alpha from feedback, against values worked by hand."""

from typing import Any

import krippendorff
import numpy as np
import pytest

from rewardloop.agreement import _interval, agreement
from tests.unit.preferences.feedback import choice, frame, group, ranking, rating


def rated(table: list[list[float | None]], names: bool = True) -> Any:
    """Rows are labelers, columns answers."""
    groups = []
    for column in range(len(table[0])):
        labels = [
            rating(f"w{row}" if names else None, a=values[column])  # type: ignore[arg-type]
            for row, values in enumerate(table)
            if values[column] is not None
        ]
        groups.append(group([f"text {column}"], labels, prompt=None))
    return frame(groups)


def test_interval_alpha_by_hand() -> None:
    # Units (1, 2), (3, 3), (5, 4). Observed: mean squared difference inside units = (1 + 0 + 1) / 3 = 2/3.
    # Expected: mean squared difference over all 15 pairs of 1 2 3 3 5 4 = twice their variance (n - 1) = 4.
    assert agreement(rated([[1, 3, 5], [2, 3, 4]]), "overall").alpha == pytest.approx(1 - (2 / 3) / 4)


def test_perfect_and_reversed() -> None:
    assert agreement(rated([[1, 3, 5], [1, 3, 5]]), "overall").alpha == pytest.approx(1.0)
    reversed_alpha = agreement(rated([[1, 3, 5], [5, 3, 1]]), "overall").alpha
    assert reversed_alpha is not None
    assert reversed_alpha < 0


def test_names_do_not_matter_for_ratings() -> None:
    table: list[list[float | None]] = [[1, 3, None, 4], [2, 3, 4, None], [2, None, 4, 5]]
    named, anonymous = agreement(rated(table), "overall"), agreement(rated(table, names=False), "overall")
    assert named.alpha == pytest.approx(anonymous.alpha)
    assert (named.labelers, anonymous.labelers) == (3, None)
    assert named.items == 4


def test_standardizing_takes_personal_scales_away() -> None:
    harsh, mild = [1.0, 2.0, 3.0, 1.5], [11.0, 13.0, 15.0, 12.0]
    frame_ = rated([harsh, mild])  # type: ignore[list-item]
    raw, standardized = agreement(frame_, "overall"), agreement(frame_, "overall", standardize=True)
    assert raw.alpha is not None
    assert raw.alpha < 0
    assert standardized.alpha == pytest.approx(1.0, abs=1e-3)


def test_standardizing_needs_identities() -> None:
    assert agreement(rated([[1, 3], [2, 4]], names=False), "overall", standardize=True).alpha is None


def test_votes_are_nominal_by_hand() -> None:
    # Pair 1: both say A. Pair 2: one says A, one says B. Counts over all: A 3, B 1.
    # Observed disagreement: 1 of 2 pairs. Expected: 1 - (3*2 + 1*0) / (4*3) = 1/2. Alpha = 1 - (1/2) / (1/2) = 0.
    groups = [
        group(["A1", "B1"], [choice("a", "b", "w1"), ranking("w2", a=1, b=2)], prompt="1"),
        group(["A2", "B2"], [choice("a", "b", "w1"), choice("b", "a", "w2")], prompt="2"),
    ]
    result = agreement(frame(groups), "overall")
    assert result.alpha == pytest.approx(0.0)
    assert result.measurement == "nominal"


def test_choices_of_one_labeler_are_units_of_their_own() -> None:
    # Each was shown A or B, and C or D; nobody compared A with C or D, so there are two units and not six.
    both = [choice("a", "b"), choice("c", "d")]
    labels = [label | {"labeler": who} for who in ("w1", "w2") for label in both]
    assert agreement(frame([group(["A", "B", "C", "D"], labels)]), "overall").items == 2


@pytest.mark.parametrize("table", [[[3, 3], [3, 3]], [[1, 2, 3]]], ids=["one value only", "one labeler only"])
def test_nothing_to_compute(table: list[list[float | None]]) -> None:
    assert agreement(rated(table), "overall").alpha is None
    assert agreement(rated(table), "unheard of").alpha is None


def test_a_sample_of_many_units_is_close_and_seeded() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=6000)
    table = [(truth + random.normal(size=6000) * 0.5).tolist() for _ in range(2)]
    frame_ = rated(table)
    result = agreement(frame_, "overall")
    assert result.alpha == pytest.approx(0.8, abs=0.02)  # 1 - 0.25 / 1.25
    assert result == agreement(frame_, "overall")
    assert result.items == 6000


def test_the_interval_is_that_of_resampled_units() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(1, 6, 80)
    table = [np.clip(truth + random.integers(-1, 2, 80), 1, 5).astype(float).tolist() for _ in range(3)]
    result = agreement(rated(table), "overall")
    assert result.alpha is not None
    columns = np.array(table)
    alphas = []
    for _ in range(300):
        chosen = columns[:, random.integers(0, 80, 80)]
        alphas.append(krippendorff.alpha(chosen, level_of_measurement="interval"))
    assert (result.low, result.high) == pytest.approx(np.percentile(alphas, [2.5, 97.5]), abs=0.03)
    assert result.low < result.alpha < result.high


@pytest.mark.parametrize("measurement", ["interval", "nominal"])
def test_resampled_alpha_equals_the_package(measurement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    counts = random.multinomial(3, [0.2, 0.5, 0.3], size=20)
    scale = np.array([1.0, 2.0, 4.0])
    monkeypatch.setattr("rewardloop.agreement._RESAMPLES", 1)
    weights = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=1)[0]
    expected = krippendorff.alpha(
        value_counts=np.repeat(counts, weights, axis=0), value_domain=scale, level_of_measurement=measurement
    )
    assert _interval(counts, scale, measurement, 0) == pytest.approx((expected, expected))


def test_perfect_agreement_has_no_spread() -> None:
    result = agreement(rated([[1, 3, 5, 2], [1, 3, 5, 2]]), "overall")
    assert (result.low, result.high) == pytest.approx((1.0, 1.0))
    assert agreement(rated([[1, 2, 3]]), "overall").low is None


def test_votes_do_not_depend_on_the_order_of_answers() -> None:
    # The same pair came twice with its answers in another order: the two people agree, and so do those of pair 2.
    groups = [
        group(["A", "B"], [choice("a", "b", "w1")], prompt="1"),
        group(["B", "A"], [choice("b", "a", "w2")], prompt="1"),
        group(["A", "B"], [choice("b", "a", "w1"), ranking("w2", a=2, b=1)], prompt="2"),
    ]
    result = agreement(frame(groups), "overall")
    assert result.alpha == pytest.approx(1.0)
    assert result.items == 2
