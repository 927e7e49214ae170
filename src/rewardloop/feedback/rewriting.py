"""A batch without what is to be forgotten.

In: a batch's table, pseudonyms of labelers, marks of texts. Out: the table without their labels and texts, whose
changed records have new hashes, and what went. Records that hold nothing of it stay as they are.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl

from rewardloop.feedback.forgotten import marks_of, prompt_mark
from rewardloop.feedback.forgotten_texts import ForgottenTexts
from rewardloop.feedback.protection import without_texts
from rewardloop.records import FeedbackGroup
from rewardloop.tables import FEEDBACK, feedback_frame


class Rewritten(NamedTuple):
    """``frame``: what is left. ``groups`` and ``labels``: how many went."""

    frame: pl.DataFrame
    groups: int
    labels: int
    is_changed: bool


def rewrite(batch: pl.DataFrame, key: bytes, labelers: frozenset[str], marks: frozenset[str]) -> Rewritten:
    """Take labels of ``labelers`` and the texts under ``marks`` out of a batch (``FEEDBACK``).

    A group goes with its last label; a response whose text is forgotten takes every label on it along.
    """
    texts = _marked_texts(batch, key, marks)
    theirs = pl.element().struct.field("labeler").is_in(sorted(labelers))
    touched = batch.select(pl.col("labels").list.eval(theirs).list.any()).to_series().fill_null(False)
    if marks:
        touched |= pl.Series(
            [_holds(row, key, texts, marks) for row in batch.select("prompt", "responses").iter_rows()]
        )
    if not touched.any():
        return Rewritten(batch, 0, 0, False)
    places, kept = [], []
    labels = 0
    for place, row in zip(touched.arg_true(), batch.filter(touched).iter_rows(named=True), strict=True):
        group = _kept(group_of(row), key, labelers, marks)
        labels += len(row["labels"]) - (len(group.labels) if group else 0)
        if group is not None:
            places.append(place)
            kept.append((row["place"], group))
    parts = [
        batch.with_row_index("row").filter(~touched),
        feedback_frame(kept).with_columns(pl.Series("row", places, dtype=pl.UInt32)).select("row", *FEEDBACK.names()),
    ]
    # Two records may have become the same; rows keep their order.
    frame = pl.concat(parts).sort("row").unique("record", keep="first", maintain_order=True).drop("row")
    return Rewritten(frame, batch.height - frame.height, labels, True)


def meet_texts(batch: pl.DataFrame, sought: ForgottenTexts) -> None:
    """Let ``sought`` remember what of the batch is forgotten: texts, and what was said in whole prompts."""
    for text in _contents(batch) if sought.marks else ():
        sought.is_text(text)
    for prompt in batch["prompt"] if sought.marks else ():
        sought.is_prompt([(turn["role"], turn["content"]) for turn in prompt])


def _marked_texts(batch: pl.DataFrame, key: bytes, marks: frozenset[str]) -> frozenset[str]:
    if not marks:
        return frozenset()
    return frozenset(text for text in _contents(batch) if not marks.isdisjoint(marks_of(key, text)))


def _contents(batch: pl.DataFrame) -> pl.Series:
    """Contents of prompts' turns and of responses, each once."""
    contents = [
        batch.select(pl.col(name).explode()).drop_nulls().unnest(name)["content"] for name in ("prompt", "responses")
    ]
    return pl.concat(contents).unique()


def group_of(row: Mapping[str, Any]) -> FeedbackGroup:
    """The canonical record of a row of ``FEEDBACK``: what ``tables.feedback_frame`` made the row of."""
    at = row["labeled_at"]
    return FeedbackGroup.model_validate(
        {name: row[name] for name in ("group_id", "document_id", "segment", "source", "sampling")}
        | {
            "prompt": row["prompt"],
            "responses": row["responses"],
            "labels": [_label(label) for label in row["labels"]],
            "labeled_at": None if at is None else datetime.fromisoformat(at),
        }
    )


def _label(label: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: label[name] for name in ("labeler", "labeler_kind", "criterion", "kind")}
    values = {one["response_id"]: one["value"] for one in label["values"]}
    if label["kind"] == "ranking":
        return made | {"ranks": {response: int(rank) for response, rank in values.items()}}
    if label["kind"] == "rating":
        return made | {"scores": values, "scale": label["scale"]}
    if label["kind"] == "acceptable":
        return made | {"values": {response: bool(value) for response, value in values.items()}}
    return made | {_CHOICE[value]: response for response, value in values.items()}


_CHOICE = {1.0: "chosen", 0.0: "rejected"}


def _holds(row: Iterable[Any], key: bytes, texts: frozenset[str], marks: frozenset[str]) -> bool:
    prompt, responses = row
    if texts and any(one["content"] in texts for one in (*prompt, *responses)):
        return True
    return bool(prompt) and prompt_mark(key, [(turn["role"], turn["content"]) for turn in prompt]) in marks


def _kept(group: FeedbackGroup, key: bytes, labelers: frozenset[str], marks: frozenset[str]) -> FeedbackGroup | None:
    labels = tuple(label for label in group.labels if label.labeler not in labelers)
    if not labels:
        return None
    return without_texts(group.model_copy(update={"labels": labels}), key, marks)
