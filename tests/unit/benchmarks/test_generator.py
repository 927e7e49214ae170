"""What is planted is there: accuracy of models, reliability of labelers, noise that leaves the truth alone."""

import numpy as np
import pytest

from benchmarks.decisions import generator
from benchmarks.decisions.generator import BRAND, FILLER, Labelers, World


@pytest.fixture(scope="module")
def world() -> World:
    return generator.make_world(7, {"code": 1500, "travel": 1500})


def accuracy(world: World, values: dict[str, float], segment: str) -> float:
    mine = np.array([name == segment for name in world.segment])
    truth, score = world.quality()[mine], world.quality(values)[mine]
    return float(np.mean((truth[:, 0] > truth[:, 1]) == (score[:, 0] > score[:, 1])))


def test_equal_seeds_make_equal_worlds(world: World) -> None:
    assert generator.make_world(7, {"code": 1500, "travel": 1500}) == world
    assert generator.make_world(8, {"code": 1500, "travel": 1500}).answers != world.answers


def test_quality_is_the_mean_of_the_words() -> None:
    tiny = World(["code"], ["why"], [("code1 code2", "code1 indeed indeed")], {"code1": 3.0, "code2": 1.0, FILLER: 0.0})
    assert tiny.quality().tolist() == [[2.0, 1.0]]
    assert tiny.quality({"code1": 0.0, "code2": 1.0, FILLER: 3.0}).tolist() == [[0.5, 2.0]]
    assert tiny.occurrences(FILLER).tolist() == [[0, 2]]


def test_noise_for_an_accuracy() -> None:
    # Correlation 1 / sqrt(2) between quality and score: 1/2 + asin(0.7071) / pi = 3/4.
    assert generator.noise_for(0.75) == pytest.approx(1)
    # asin(1/2) / pi = 1/6, and a correlation of 1/2 is noise of spread sqrt(3).
    assert generator.noise_for(2 / 3) == pytest.approx(np.sqrt(3))


@pytest.mark.parametrize(("code", "travel"), [(0.86, 0.92), (0.92, 0.75)])
def test_a_model_is_as_accurate_as_planted(world: World, code: float, travel: float) -> None:
    wanted = {"code": code, "travel": travel}
    values = generator.model_values(world, generator.noise(world, "model"), wanted.__getitem__)
    # 1,500 pairs: a standard error of 0.01 at most.
    assert accuracy(world, values, "code") == pytest.approx(code, abs=0.03)
    assert accuracy(world, values, "travel") == pytest.approx(travel, abs=0.03)
    assert values[FILLER] == values[BRAND] == 0


def test_noise_is_uncorrelated_with_the_truth_and_resembles_another(world: World) -> None:
    first = generator.noise(world, "first")
    second = generator.noise(world, "second", first, 0.8)
    words = world.words("code")
    truth, one, other = (np.array([values[word] for word in words]) for values in (world.values, first, second))
    assert np.corrcoef([truth, one, other]) == pytest.approx(np.array([[1, 0, 0], [0, 1, 0.8], [0, 0.8, 1]]), abs=1e-9)
    assert [one.std(), other.std()] == pytest.approx([1, 1])


def test_labelers_are_as_reliable_as_planted(world: World) -> None:
    labelers, rng = Labelers([0.85, 0.5, 0.1]), np.random.default_rng(0)
    quality = world.quality()
    who = labelers.draw(len(quality), 3, rng)
    assert (np.sort(who, axis=1) == [0, 1, 2]).all()
    right = labelers.choices(quality, who, rng) == (quality[:, :1] > quality[:, 1:])
    shares = [float(right[who == one].mean()) for one in range(3)]
    assert shares == pytest.approx([0.85, 0.5, 0.1], abs=0.04)


def test_labels_name_the_responses_of_their_own_prompt() -> None:
    tiny = generator.make_world(0, {"code": 2})
    choices = generator.choice_labels(np.array([[3, 5], [-1, 4]]), np.array([[True, False], [True, False]]))
    verdicts = generator.verdict_labels(np.array([[True, False], [False, False]]))
    rows = generator.feedback(tiny, [a + b for a, b in zip(choices, verdicts, strict=True)])
    first, second = rows["labels"].to_list()
    assert [(one["labeler"], one["values"]) for one in second] == [
        ("w4", [{"response_id": "1-b", "value": 1.0}, {"response_id": "1-a", "value": 0.0}]),
        ("reviewer", [{"response_id": "1-a", "value": 0.0}, {"response_id": "1-b", "value": 0.0}]),
    ]
    assert [one["values"][0]["response_id"] for one in first] == ["0-a", "0-b", "0-a"]
    assert rows["document"].n_unique() == 2
