"""Second judges: the bag of words learns from training pairs only, a user's function is held to what it promises."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rewardloop.errors import BadInputError
from rewardloop.evaluation.baselines import bag_of_words_scores
from rewardloop.evaluation.judges import bag_of_words_judge, function_judge, named_judge
from tests.unit.evaluation.tables import tables

ITEMS, PAIRS = tables()
PROMPT = [{"role": "user", "content": "How was it?"}]

FUNCTIONS = """
import numpy as np
best = 7
def length(prompts, responses):
    return [len(prompt) + len(response) for prompt, response in zip(prompts, responses)]
def nothing(prompts, responses):
    return None
def words(prompts, responses):
    return responses
def one(prompts, responses):
    return [1.0]
def unsure(prompts, responses):
    return np.array([1.0, np.nan])
def broken(prompts, responses):
    raise KeyError("no such thing")
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_judges.py").write_text(FUNCTIONS)
    (tmp_path / "wrong_judges.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_bag_of_words_judges_new_texts_by_their_words() -> None:
    judge = bag_of_words_judge(ITEMS, PAIRS, seed=0)
    good, bad, unknown = judge.score([PROMPT] * 3, ["good good good", "bad bad", "zebra"])
    assert good > 0 > bad
    assert unknown == 0
    assert judge.name == "a bag of words fitted on the training pairs"


def test_bag_of_words_is_the_baseline_of_the_evaluation() -> None:
    responses = ITEMS["response"].to_list()
    train = PAIRS.filter(split="train")
    expected = bag_of_words_scores(responses, *(train[name].to_numpy() for name in ("a", "b", "p")), seed=0)
    found = named_judge("bag_of_words", ITEMS, PAIRS, seed=0).score([[]] * len(responses), responses)
    np.testing.assert_allclose(found, expected)


def test_bag_of_words_without_anything_to_learn_from_is_refused() -> None:
    undecided = PAIRS.with_columns(pl.lit(0.5).alias("p"))
    with pytest.raises(BadInputError, match=r"policy_evaluation\.judge: 'bag_of_words' finds no decided training pair"):
        bag_of_words_judge(ITEMS, undecided, seed=0)
    train = undecided.filter(split="train")
    columns = (train[name].to_numpy() for name in ("a", "b", "p"))
    assert not bag_of_words_scores(ITEMS["response"].to_list(), *columns, seed=0).any()


@pytest.mark.usefixtures("functions")
def test_a_function_gets_prompts_and_responses() -> None:
    judge = named_judge("my_judges:length", ITEMS, PAIRS, seed=0)
    assert judge.name == "the function my_judges:length"
    scores = judge.score([PROMPT, PROMPT * 2], ["ab", "abc"])
    assert scores.dtype == np.float64
    assert scores.tolist() == [3, 5]


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:score", "importing 'no_such_module' failed .*ModuleNotFoundError"),
        ("wrong_judges:score", "importing 'wrong_judges' failed .*ZeroDivisionError"),
        ("my_judges:score", "the module has no 'score'"),
        ("my_judges:best", "the module has a int 'best'"),
    ],
)
def test_what_is_no_function_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadInputError, match=rf"policy_evaluation\.judge: '{name}': {message}"):
        function_judge(name)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_judges:nothing", r"gave an array of shape \(\); expected \(2,\)"),
        ("my_judges:words", "gave no numbers"),
        ("my_judges:one", r"gave an array of shape \(1,\); expected \(2,\)"),
        ("my_judges:unsure", r"gave nan for response 1 \(counted from 0\)"),
        ("my_judges:broken", "failed: KeyError: 'no such thing'"),
    ],
)
def test_what_a_function_gives_is_checked(name: str, message: str) -> None:
    with pytest.raises(BadInputError, match=rf"policy_evaluation\.judge: '{name}' {message}"):
        function_judge(name).score([PROMPT] * 2, ["ab", "abc"])


@pytest.mark.parametrize("name", ["bag-of-words", "base", "module:", ":function", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=f"found '{name}'; expected bag_of_words, base or MODULE:FUNCTION"):
        named_judge(name, ITEMS, PAIRS, seed=0)
