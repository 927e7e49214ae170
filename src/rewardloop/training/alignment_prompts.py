"""Which prompts a policy learns on, is chosen on and is evaluated on; none of them is in two of these, or in feedback.

In: the user's prompts, and the documents of the feedback. Out: prompts with their split and their tokens, and what was
left out, with reasons. A prompt's split depends on nothing but the prompt.
"""

import math
from collections.abc import Collection
from typing import NamedTuple

import polars as pl

from rewardloop.config import AlignSettings, PolicyEvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import Policy
from rewardloop.records import bucket

_SALT = "align"
_COLUMNS = ("prompt", "key", "split", "prompt_ids", "samples")
IN_FEEDBACK = "is a prompt of the feedback that the reward model is made of and judged by"
TOO_LONG = "is longer than align.max_prompt_tokens, or than the policy's context leaves room for"
NOT_NEEDED = "more than align.episodes, align.validation_prompts or policy_evaluation.prompts ask for"


class AlignmentPrompts(NamedTuple):
    """``table`` has the columns prompt, key, split, prompt_ids and samples."""

    table: pl.DataFrame
    left_out: dict[str, int]
    """Reason -> prompts."""


def place_prompts(
    prompts: pl.DataFrame,
    feedback: Collection[str],
    policy: Policy,
    align: AlignSettings,
    evaluation: PolicyEvaluationSettings,
) -> AlignmentPrompts:
    """Split the prompts of a ``TEXTS`` table.

    Args:
        prompts: the user's.
        feedback: keys of prompts that are feedback.
        policy: reads them.
        align, evaluation: shares of the splits, and how many of each are needed.

    Raises:
        BadInputError: a split has no prompt left.
    """
    unique = _with_tokens(prompts, policy)
    edges = (align.test_share, align.test_share + align.validation_share)
    places = [bucket(_SALT, key) for key in unique["key"]]
    splits = ["test" if place < edges[0] else "validation" if place < edges[1] else "train" for place in places]
    placed = unique.with_columns(
        pl.Series("split", splits, dtype=pl.String),
        pl.when(pl.col("key").is_in(list(feedback)))
        .then(pl.lit(IN_FEEDBACK))
        .when(_too_long(policy, align))
        .then(pl.lit(TOO_LONG))
        .alias("why"),
    )
    needed = {
        "train": math.ceil(align.episodes / align.samples_per_prompt),
        "validation": align.validation_prompts,
        "test": evaluation.prompts,
    }
    samples = {"train": 1, "validation": 1, "test": evaluation.samples_per_prompt}
    kept = []
    for split, most in needed.items():
        usable = placed.filter(pl.col("why").is_null() & (pl.col("split") == split))
        if usable.is_empty():
            _refuse(split, placed, align)
        chosen = usable.sample(min(most, len(usable)), seed=align.seed, shuffle=True)
        kept.append(chosen.with_columns(pl.lit(samples[split], pl.Int32).alias("samples")))
    table = pl.concat(kept).select(_COLUMNS)
    reasons = placed.filter(pl.col("why").is_not_null())["why"].value_counts().rows()
    left_out = {str(why): int(count) for why, count in sorted(reasons)}
    unneeded = len(unique) - len(table) - sum(left_out.values())
    return AlignmentPrompts(table, left_out | ({NOT_NEEDED: unneeded} if unneeded else {}))


def draw_toxicity_prompts(
    prompts: pl.DataFrame, policy: Policy, align: AlignSettings, evaluation: PolicyEvaluationSettings
) -> AlignmentPrompts:
    """Prompts of a ``TEXTS`` table to measure toxicity on, as the split ``toxicity``; arguments as ``place_prompts``.

    Raises:
        BadInputError: all of them are too long.
    """
    unique = _with_tokens(prompts, policy)
    usable = unique.filter(~_too_long(policy, align))
    if usable.is_empty():
        raise BadInputError(
            f"policy_evaluation.toxicity_prompts: {evaluation.toxicity_prompts}: each of {len(unique):,} prompts "
            f"{TOO_LONG}; add shorter prompts, or raise align.max_prompt_tokens"
        )
    chosen = usable.sample(min(evaluation.prompts, len(usable)), seed=evaluation.seed, shuffle=True)
    table = chosen.with_columns(pl.lit("toxicity").alias("split"), pl.lit(1, pl.Int32).alias("samples"))
    left_out = {TOO_LONG: len(unique) - len(usable), NOT_NEEDED: len(usable) - len(chosen)}
    return AlignmentPrompts(table.select(_COLUMNS), {why: count for why, count in left_out.items() if count})


def _with_tokens(prompts: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    unique = prompts.unique("key", keep="first", maintain_order=True)
    ids = [policy.prompt_ids(prompt) for prompt in unique["prompt"].to_list()]
    return unique.with_columns(pl.Series("prompt_ids", ids, dtype=pl.List(pl.Int32)))


def _too_long(policy: Policy, align: AlignSettings) -> pl.Expr:
    room = min(align.max_prompt_tokens, policy.context - align.generation.max_new_tokens)
    return pl.col("prompt_ids").list.len() > room


def _refuse(split: str, placed: pl.DataFrame, align: AlignSettings) -> None:
    why = "; ".join(
        f"{count:,} left out: {reason}" for reason, count in sorted(placed["why"].drop_nulls().value_counts().rows())
    )
    raise BadInputError(
        f"align.prompts: {align.prompts}: of {len(placed):,} prompts none is left for {split}"
        f"{f' ({why})' if why else ''}; add prompts, raise align.max_prompt_tokens or change the shares of the splits"
    )
