"""Short ways to write feedback for tests."""

from typing import Any

import polars as pl

from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame


def group(texts: list[str], labels: list[dict[str, Any]], prompt: str | None = "Q", **fields: Any) -> FeedbackGroup:
    """A group whose answers are called a, b, c, ..."""
    return FeedbackGroup.model_validate(
        {
            "group_id": "-".join(texts),
            "prompt": [{"role": "user", "content": prompt}] if prompt else [],
            "responses": [{"response_id": chr(97 + i), "content": text} for i, text in enumerate(texts)],
            "labels": labels,
        }
        | fields
    )


def choice(chosen: str, rejected: str, who: str | None = None) -> dict[str, Any]:
    return {"kind": "choice", "chosen": chosen, "rejected": rejected, "labeler": who}


def ranking(who: str | None = None, **ranks: int) -> dict[str, Any]:
    return {"kind": "ranking", "ranks": ranks, "labeler": who}


def rating(who: str | None = None, **scores: float) -> dict[str, Any]:
    return {"kind": "rating", "scores": scores, "labeler": who}


def rated_texts(count: int, **fields: Any) -> list[FeedbackGroup]:
    """Single texts with two anonymous ratings each."""
    return [
        group([f"text {i}"], [rating(a=i % 5), rating(a=(i + i // 7) % 5)], prompt=None, group_id=str(i), **fields)
        for i in range(count)
    ]


def two_segments(count: int) -> list[FeedbackGroup]:
    """Pairs judged by 12 people of segment "big" and by 4 of "small", who prefer the opposite of the 12."""
    return [
        group(
            [f"A{i}", f"B{i}"],
            [choice(*("ab" if (i % 2 == 0) == (segment == "big") else "ba"), f"{segment}{j}") for j in range(people)],
            prompt=f"Q{i}",
            segment=segment,
        )
        for i in range(count)
        for segment, people in (("big", 12), ("small", 4))
    ]


def frame(groups: list[FeedbackGroup], batch: str = "batch-1") -> pl.DataFrame:
    rows = feedback_frame((f"test:{i}", one) for i, one in enumerate(groups))
    return rows.with_columns(batch=pl.lit(batch))
