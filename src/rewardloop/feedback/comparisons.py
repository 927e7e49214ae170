"""A policy's answers beside its reference's, for people to compare without knowing which is which.

In: the answers that a policy was evaluated by. Out: tasks for Label Studio that do not tell, and the key that does; the
key stays in the feedback store (``comparisons/<id>.json``), where the import of the finished tasks finds it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import ValidationError

from rewardloop.errors import BadInputError
from rewardloop.feedback.store_files import StoreFile
from rewardloop.storage import Storage
from rewardloop.tables import MESSAGES

FOLDER = "comparisons"
"""Of the store, for the keys."""
Side = Literal["left", "right"]
ANSWERS: dict[str, pl.DataType] = {"prompt": MESSAGES, "reference": pl.String(), "policy": pl.String()}
"""The columns of the answers that tasks are made of; there may be others."""
POLICY, REFERENCE, RUN = "policy:", "reference:", "run:"
"""What ``model`` of a compared answer and ``source`` of its group begin with; the policy's digest and the run's id
follow. ``rewardloop.evaluation.human`` reads them."""
TIE = "tie"
"""What a tie is called in ``LABELING_CONFIG``."""
SAME, EMPTY = "both answers are the same", "an answer is empty"

LABELING_CONFIG = f"""<View>
  <Header value="Which answer to the prompt is better? Click on it."/>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="comparison" toName="answer1,answer2" selectionStyle="background-color: #d7ecd9"/>
  <View style="display: flex; gap: 1em; margin-top: 1em">
    <View style="flex: 1; border: 1px solid #999; padding: 1em; cursor: pointer">
      <Text name="answer1" value="$answer1"/>
    </View>
    <View style="flex: 1; border: 1px solid #999; padding: 1em; cursor: pointer">
      <Text name="answer2" value="$answer2"/>
    </View>
  </View>
  <Choices name="tie" toName="prompt" choice="single">
    <Choice value="{TIE}" hint="Neither answer is better"/>
  </Choices>
</View>
"""
_ID = re.compile(r"[0-9a-f]{64}")
_TASK = re.compile(r"[0-9a-f]{16}")
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


class ComparisonKey(StoreFile):
    """``comparisons/<id>.json``: which answers are the policy's."""

    format: Literal[1] = 1
    id: str
    """SHA-256 over what follows, without the time."""
    policy: str
    """Digest of the policy's files."""
    run_id: str
    """The run that evaluated it."""
    created_at: datetime
    seed: int
    count: int
    left_out: dict[str, int]
    """Why there was nothing to compare -> answers."""
    tasks: dict[str, Side]
    """Task -> where the policy's answer is."""


def make_tasks(
    answers: pl.DataFrame, *, count: int, seed: int, policy: str, run_id: str
) -> tuple[list[dict[str, Any]], ComparisonKey]:
    """Draw pairs of answers and hide which is which.

    Args:
        answers: ``ANSWERS``, one row per answered prompt.
        count: most tasks; a second pair of answers to one prompt is drawn only when every prompt has one.
        seed: of the draw and of the sides.
        policy: digest of the policy's files.
        run_id: the run that evaluated it.

    Returns:
        Tasks as Label Studio imports them, and their key, whose ``count`` is smaller where fewer could be drawn.

    Raises:
        BadInputError: no pair of answers differs.
    """
    # Each pair once, whichever answer is whose: a task is named by its texts.
    answers = (
        answers.select(list(ANSWERS))
        .with_columns(low=pl.min_horizontal("reference", "policy"), high=pl.max_horizontal("reference", "policy"))
        .unique(["prompt", "low", "high"], keep="first", maintain_order=True)
    )
    reference, own = pl.col("reference").str.strip_chars(), pl.col("policy").str.strip_chars()
    reasons = answers.select(
        pl.when(reference == own).then(pl.lit(SAME)).when((reference == "") | (own == "")).then(pl.lit(EMPTY))
    ).to_series()
    left_out = {reason: int((reasons == reason).sum()) for reason in (SAME, EMPTY) if (reasons == reason).any()}
    different = answers.filter(reasons.is_null())
    if different.is_empty():
        found = "; ".join(f"{reason}: {rows:,}" for reason, rows in left_out.items()) or "none"
        raise BadInputError(f"run {run_id}: there are no answers to compare ({found}); evaluate another policy")
    # The policy's digest takes part: somebody who sees the tasks and guesses the seed cannot draw the sides again.
    random = np.random.default_rng(int(_digest([seed, policy]), 16))
    drawn = (
        different[random.permutation(different.height)]
        .with_columns(pl.int_range(pl.len()).over("prompt").alias("turn"))
        .sort("turn", maintain_order=True)
        .head(count)
    )
    sides: dict[str, Side] = {}
    tasks = []
    for row, on_the_left in zip(drawn.iter_rows(named=True), random.random(drawn.height) < 0.5, strict=True):
        left, right = (row["policy"], row["reference"]) if on_the_left else (row["reference"], row["policy"])
        task = task_id(policy, row["prompt"], left, right)
        sides[task] = "left" if on_the_left else "right"
        data = {"prompt": shown_prompt(row["prompt"]), "answer1": left, "answer2": right}
        tasks.append({"data": {**data, "messages": row["prompt"], "task": task}})
    key = ComparisonKey(
        id=_key_id(policy, run_id, seed, len(tasks), left_out, sides),
        policy=policy,
        run_id=run_id,
        created_at=datetime.now(UTC),
        seed=seed,
        count=len(tasks),
        left_out=left_out,
        tasks=sides,
    )
    for one in tasks:
        one["data"]["comparison"] = key.id
    return tasks, key


def task_id(policy: str, prompt: Sequence[Mapping[str, str]], left: str, right: str) -> str:
    """Names a task by its texts and their places; tells nothing to whom the policy's digest is unknown."""
    return _digest([policy, [[turn["role"], turn["content"]] for turn in prompt], left, right])[:16]


def shown_prompt(prompt: Sequence[Mapping[str, str]]) -> str:
    """The prompt as people read it: one message as it is, several with their speakers."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{_ROLES.get(turn['role'], turn['role'])}: {turn['content']}" for turn in prompt)


def is_compared(data: Mapping[str, Any]) -> bool:
    """Whether the data of a task say that it was made here."""
    found = (data.get("comparison"), data.get("task"))
    return all(
        isinstance(value, str) and pattern.fullmatch(value) for value, pattern in zip(found, (_ID, _TASK), strict=True)
    )


def keep_key(store: Storage, key: ComparisonKey) -> bool:
    """Put the key into the store; False when this comparison has one already."""
    return store.create(f"{FOLDER}/{key.id}.json", (key.model_dump_json(indent=1) + "\n").encode())


def load_key(store: Storage, comparison: str) -> ComparisonKey:
    """The key of a comparison.

    Raises:
        BadInputError: the store has none with this id, or it was changed.
    """
    name = f"{FOLDER}/{comparison}.json"
    try:
        key = ComparisonKey.model_validate_json(store.read(name))
    except FileNotFoundError:
        raise BadInputError(
            f"comparison {comparison[:12]}: {store.url} has no {name}; ingest into the store that its tasks were "
            "exported from (store.url)"
        ) from None
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{store.path(name)}: cannot be read: {error}; restore it from a copy") from error
    if comparison != key.id or key.id != _key_id(key.policy, key.run_id, key.seed, key.count, key.left_out, key.tasks):
        raise BadInputError(f"{store.path(name)}: was changed; restore it from a copy")
    return key


def _key_id(
    policy: str, run_id: str, seed: int, count: int, left_out: Mapping[str, int], sides: Mapping[str, Side]
) -> str:
    return _digest([policy, run_id, seed, count, sorted(left_out.items()), sorted(sides.items())])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
