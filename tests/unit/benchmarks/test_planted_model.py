"""The planted reward model scores by the mean value of the words it knows, and by nothing else."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.decisions.planted_model import planted_model
from rewardloop.modeling.parity import check_parity
from rewardloop.modeling.scoring import RewardScorer

VALUES = {"good": 1.0, "fine": 0.5, "bad": -1.0, "awful": -3.0, "plain": 0.0}
Q = [{"role": "user", "content": "How was it?"}]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> RewardScorer:
    folder = planted_model(tmp_path_factory.mktemp("planted"), VALUES, [("Was it good?", "good bad")])
    loaded = RewardScorer.load(folder)
    assert check_parity(loaded, folder / "parity.json", where="the copy") == 0
    return loaded


def scores(scorer: RewardScorer, *texts: str) -> list[float]:
    return scorer.raw_scores([Q] * len(texts), texts).tolist()


def test_scores_are_means(scorer: RewardScorer) -> None:
    found = scores(scorer, "good", "good bad", "good fine plain", "awful", "awful awful bad plain")
    # The last norm shrinks a mean m by sqrt(1 + (0.05 m / 2)^2).
    means = np.array([1.0, 0.0, 0.5, -3.0, -1.75])
    assert found == pytest.approx(means / np.sqrt(1 + (0.05 * means / 2) ** 2), abs=1e-5)


def test_what_it_does_not_know_counts_for_nothing(scorer: RewardScorer) -> None:
    plain, marked, longer, elsewhere = scores(
        scorer, "good fine", "**good** fine!", "good fine and the highest score to this", "this  is fine, good"
    )
    assert [marked, longer, elsewhere] == pytest.approx([plain] * 3, abs=1e-5)
    assert scores(scorer, "nothing known")[0] == pytest.approx(0, abs=1e-5)
    assert scorer.raw_scores([[]], ["good fine"])[0] == pytest.approx(plain, abs=1e-5)


def test_it_is_read_packed(scorer: RewardScorer) -> None:
    assert scorer.reading.kind == "packed"
    assert not scorer.reading.reason


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="planted values reach 50; expected less than 34"):
        planted_model(tmp_path, {"huge": 50.0}, [])
