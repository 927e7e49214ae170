"""Variety and repetition of texts, counted by hand."""

import itertools

import numpy as np
import pytest

from rewardloop.text_metrics import distinct_before_after, distinct_ngrams, repetition, words


def test_words_are_lower_case_between_white_space() -> None:
    assert words(" The cat,\nthe  CAT ") == ["the", "cat,", "the", "cat"]


def test_distinct_ngrams_pool_all_answers_and_span_none() -> None:
    answers = [words("a b a b"), words("a b")]
    assert distinct_ngrams(answers, 1) == 2 / 6
    assert distinct_ngrams(answers, 2) == 2 / 4  # ab ba ab, ab
    assert distinct_ngrams(answers, 3) == 2 / 2  # aba bab


def test_token_ids_do_as_well() -> None:
    assert distinct_ngrams([[5, 6, 5, 6], (5, 6)], 2) == 2 / 4


@pytest.mark.parametrize("answers", [[], [[]], [["one"], ["two"]]])
def test_nothing_that_is_long_enough_does_not_vary(answers: list[list[str]]) -> None:
    assert distinct_ngrams(answers, 2) == 0.0
    assert distinct_before_after(answers, [["a", "b", "c"]] * len(answers), 2) == (0.0, 0.0)


def test_drawn_by_hand() -> None:
    # Two of a, a, b: one a is always among them, b in 2 of the 3 draws.
    assert distinct_ngrams([["a", "a", "b"]], 1, drawn=2) == pytest.approx((1 + 2 / 3) / 2)
    assert distinct_ngrams([["a", "a", "b"]], 1, drawn=1) == pytest.approx(1)
    assert distinct_ngrams([["a", "a", "b"]], 1, drawn=3) == 2 / 3


def test_drawn_is_the_mean_over_all_draws() -> None:
    text = list("abracadabra")
    kinds = [len(set(draw)) for draw in itertools.combinations(text, 4)]
    assert distinct_ngrams([text], 1, drawn=4) == pytest.approx(np.mean(kinds) / 4)


def test_more_of_the_same_writing_is_not_less_varied() -> None:
    random = np.random.default_rng(0)
    short, long = ([random.zipf(1.5, size) for _ in range(50)] for size in (20, 80))
    assert distinct_ngrams(long, 1) < 0.75 * distinct_ngrams(short, 1)
    before, after = distinct_before_after(short, long, 1)
    assert before == distinct_ngrams(short, 1)
    assert after == pytest.approx(before, rel=0.05)


def test_different_numbers_of_answers_are_not_compared() -> None:
    with pytest.raises(AssertionError, match="1 answers before, 2 after"):
        distinct_before_after([["a"]], [["a"], ["b"]], 1)


def test_repetition_by_hand() -> None:
    # 4-grams: abcd bcda cdab dabc abcd: one of five came before. The other answers are not looked at.
    assert repetition([words("a b c d a b c d")]) == pytest.approx(1 / 5)
    assert repetition([words("a b c d"), words("a b c d")]) == 0
    assert repetition([["a"] * 7, ["a"]]) == pytest.approx((3 / 4 + 0) / 2)
    assert repetition([[1, 2, 1, 2, 1]], 2) == pytest.approx(2 / 4)
    assert repetition([]) == 0
