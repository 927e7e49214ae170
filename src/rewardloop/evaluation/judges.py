"""Second judges: what else, of another lineage than the reward model, says which answers are better.

A policy learns what its reward model is wrong about. A judge that does not share those mistakes sees the answers get
worse while the reward still rises.

In: ``policy_evaluation.judge`` of the configuration. Out: a name for people and what scores answers, higher is better.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats
from rewardloop.errors import BadInputError
from rewardloop.evaluation.baselines import fit_bag_of_words
from rewardloop.modeling.scoring import Messages

_FIELD = "policy_evaluation.judge"


class Judge(NamedTuple):
    """``score`` takes prompts (messages) and responses and gives float64 of shape (len(responses),)."""

    name: str
    """In words."""
    score: Callable[[Sequence[Messages], Sequence[str]], Floats]


def bag_of_words_judge(items: pl.DataFrame, pairs: pl.DataFrame, *, seed: int) -> Judge:
    """The bag-of-words baseline, fitted on the training pairs; it does not look at prompts.

    Args:
        items, pairs: the ``ITEMS`` and ``PAIRS`` tables.
        seed: of the sample that is taken when there are many pairs.

    Raises:
        BadInputError: the training pairs teach it nothing.
    """
    train = pairs.filter(split="train")
    a, b, p = (train[name].to_numpy() for name in ("a", "b", "p"))
    scorer = fit_bag_of_words(items["response"].to_list(), a, b, p, seed=seed)
    if scorer is None:
        raise BadInputError(
            f"{_FIELD}: 'bag_of_words' finds no decided training pair with words to learn from; name another judge "
            "(MODULE:FUNCTION), or base"
        )
    return Judge("a bag of words fitted on the training pairs", lambda _, responses: scorer(responses))


def function_judge(name: str) -> Judge:
    """The judge ``MODULE:FUNCTION``: a function of (prompts, responses) that gives one finite number per response.

    Prompts are lists of messages (``role`` and ``content``). What the function gives is checked at every call.

    Raises:
        BadInputError: there is no such function; later, that it failed or gave something else.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # what a user's module does while it is imported is not ours to foresee
        raise BadInputError(
            f"{_FIELD}: {name!r}: importing {module!r} failed ({type(error).__name__}: {error}); install it where "
            "evaluate_policy runs"
        ) from error
    function = getattr(found, attribute, None)
    if not callable(function):
        what = f"has no {attribute!r}" if function is None else f"has a {type(function).__name__} {attribute!r}"
        raise BadInputError(f"{_FIELD}: {name!r}: the module {what}; expected a function of (prompts, responses)")

    def score(prompts: Sequence[Messages], responses: Sequence[str]) -> Floats:
        try:
            given = function(prompts, responses)
        except Exception as error:
            raise BadInputError(f"{_FIELD}: {name!r} failed: {type(error).__name__}: {error}; correct it") from error
        return _checked(given, len(responses), name)

    return Judge(f"the function {name}", score)


def named_judge(name: str, items: pl.DataFrame, pairs: pl.DataFrame, *, seed: int) -> Judge:
    """The judge of the configuration; ``base`` has to be trained and is not among them.

    Args:
        name: ``bag_of_words`` or ``MODULE:FUNCTION``.
        items, pairs, seed: as in ``bag_of_words_judge``.

    Raises:
        BadInputError: there is no such judge, or it cannot be made.
    """
    if name == "bag_of_words":
        return bag_of_words_judge(items, pairs, seed=seed)
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise BadInputError(f"{_FIELD}: found {name!r}; expected bag_of_words, base or MODULE:FUNCTION")
    return function_judge(name)


def _checked(given: Any, count: int, name: str) -> Floats:
    try:
        scores = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{_FIELD}: {name!r} gave no numbers ({error}); expected one per response") from error
    if scores.shape != (count,):
        raise BadInputError(
            f"{_FIELD}: {name!r} gave an array of shape {scores.shape}; expected ({count},), one score per response"
        )
    unknown = np.flatnonzero(~np.isfinite(scores))
    if len(unknown):
        raise BadInputError(
            f"{_FIELD}: {name!r} gave {scores[unknown[0]]} for response {unknown[0]} (counted from 0); expected finite "
            "numbers"
        )
    return scores
