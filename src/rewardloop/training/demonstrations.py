"""Which demonstrations a policy may learn from, and which of them only measure how well.

In: demonstrations of the user's, or items and pairs to take preferred responses from. Out: two tables (prompt,
response, key) and, for each demonstration that is in neither, a reason. What is held out, and what the policy is
aligned on, is never learnt from here.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl

from rewardloop.config import SftSettings
from rewardloop.errors import BadInputError
from rewardloop.records import prompt_key

HELD_OUT = "its prompt is in a held-out split"
RL_PROMPT = "its prompt is one that the policy is aligned on (align.prompts)"
NO_PROMPT = "it has no prompt, and the policy is asked through its chat template"
NOT_PREFERRED = "no response of its group is preferred"
NOT_ACCEPTABLE = "no response of its group is acceptable"
TOO_MANY = "beyond sft.max_examples"
_VALIDATION_SHARE = 10
_MOST_VALIDATION = 64


class Selected(NamedTuple):
    """Demonstrations with columns prompt, response and key."""

    train: pl.DataFrame
    validation: pl.DataFrame
    left_out: dict[str, int]
    """Reason -> demonstrations, or groups without one."""


def preferred_responses(items: pl.DataFrame, pairs: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The best response of each group of the training split: prompt, response, key; and why groups have none.

    The best is the one rated highest, or without ratings the one that wins most of its comparisons, among those that
    are not known to be unacceptable; and it is better than some other response of its group.

    Args:
        items: an ``ITEMS`` table.
        pairs: a ``PAIRS`` table.
    """
    train = items.filter(split="train").join(_wins(pairs.filter(split="train")), on="item", how="left")
    rated = pl.col("rating").is_not_null().any().over("group")
    scored = train.with_columns(pl.when(rated).then("rating").otherwise("won").alias("score")).with_columns(
        pl.when(rated).then(pl.col("score").min().over("group")).otherwise(0.5).alias("least")
    )
    fit = scored.filter(pl.col("acceptable").fill_null(True))
    best = (
        fit.filter(pl.col("score") > pl.col("least"))
        .sort("group", "score", "won", "item", descending=[False, True, True, False], nulls_last=True)
        .unique("group", keep="first", maintain_order=True)
    )
    groups, acceptable = train["group"].n_unique(), fit["group"].n_unique()
    left_out = Counter({NOT_ACCEPTABLE: groups - acceptable, NOT_PREFERRED: acceptable - len(best)})
    return best.select("prompt", "response", _keys(best)), dict(+left_out)


def select(
    demonstrations: pl.DataFrame,
    items: pl.DataFrame,
    settings: SftSettings,
    *,
    rl_prompts: Iterable[str],
    plain_text: bool,
) -> Selected:
    """Leave out what must not be learnt from, and keep a tenth (at least 1, about 64 at most) for the validation loss.

    Demonstrations of one prompt stay together.

    Args:
        demonstrations: prompt, response, key.
        items: an ``ITEMS`` table, for the held-out prompts.
        settings: the section ``sft``.
        rl_prompts: keys of the prompts that the policy is aligned and evaluated on.
        plain_text: whether a text without prompt can be learnt.

    Raises:
        BadInputError: fewer than two prompts, or texts, are left.
    """
    held_out = items.filter((pl.col("split") != "train") & (pl.col("prompt").list.len() > 0))
    known = {HELD_OUT: set(_keys(held_out)), RL_PROMPT: set(rl_prompts)}
    why = pl.lit(None, pl.String)
    for reason, keys in known.items():
        why = pl.when(why.is_null() & pl.col("key").is_in(list(keys))).then(pl.lit(reason)).otherwise(why)
    if not plain_text:
        why = pl.when(why.is_null() & (pl.col("prompt").list.len() == 0)).then(pl.lit(NO_PROMPT)).otherwise(why)
    sorted_out = demonstrations.with_columns(why.alias("why"))
    left_out = Counter(reason for reason in sorted_out["why"] if reason is not None)
    kept = sorted_out.filter(pl.col("why").is_null()).select("prompt", "response", "key")
    # A text without prompt stands for itself.
    unit = pl.when(pl.col("prompt").list.len() > 0).then("key").otherwise("response")
    units = kept.select(unit).to_series().unique(maintain_order=True).to_list()
    if len(units) < 2:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(left_out.items()))
        raise BadInputError(
            f"sft.demonstrations: {len(demonstrations)} demonstrations, of which {len(units)} can be learnt from"
            f"{f' ({reasons})' if reasons else ''}; give at least two prompts with a response that are neither held "
            "out nor aligned on, or set sft.when to never"
        )
    order = np.random.default_rng(settings.seed).permutation(len(units))
    count = min(_MOST_VALIDATION, max(1, len(units) // _VALIDATION_SHARE))
    measured = {units[place] for place in order[:count]}
    in_validation = unit.is_in(list(measured))
    train, validation = kept.filter(~in_validation), kept.filter(in_validation)
    if settings.max_examples is not None and len(train) > settings.max_examples:
        left_out[TOO_MANY] = len(train) - settings.max_examples
        train = train.sample(settings.max_examples, seed=settings.seed)
    return Selected(train, validation, dict(left_out))


def _wins(pairs: pl.DataFrame) -> pl.DataFrame:
    """Item and ``won``: the mean of its chances to be the better one."""
    sides = [
        pairs.select(pl.col("a").alias("item"), pl.col("p").alias("won")),
        pairs.select(pl.col("b").alias("item"), (1 - pl.col("p")).alias("won")),
    ]
    return pl.concat(sides).group_by("item").agg(pl.col("won").mean())


def _keys(rows: pl.DataFrame) -> pl.Series:
    keys = [prompt_key((message["role"], message["content"]) for message in prompt) for prompt in rows["prompt"]]
    return pl.Series("key", keys, pl.String)
