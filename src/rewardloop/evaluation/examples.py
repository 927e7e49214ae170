"""Held-out answers for people to look at: the best, the worst, the most mistaken, and how scores are spread."""

import numpy as np
import polars as pl

from rewardloop.bootstrap import Bools, Floats, Ints
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import ScoredExample

_EXAMPLES = 5
_CHARACTERS = 300
_BARS = 40


def extreme(items: pl.DataFrame, scores: Floats, mask: Bools, *, highest: bool) -> list[ScoredExample]:
    """The answers with the highest or lowest scores among ``mask``."""
    places = np.flatnonzero(mask)
    order = places[np.argsort(-scores[places] if highest else scores[places], kind="stable")]
    return [_example(items, scores, int(index)) for index in order[:_EXAMPLES]]


def most_wrong(items: pl.DataFrame, scores: Floats, pairs: PairSet) -> list[ScoredExample]:
    """Answers that lose the most to answers people like less (or win against ones they like more), on average."""
    margin = (scores[pairs.a] - scores[pairs.b]) * (1 - 2 * pairs.a_is_better)
    mistaken = np.maximum(margin, 0.0)
    total = np.zeros(len(items))
    count = np.zeros(len(items))
    for side in (pairs.a, pairs.b):
        np.add.at(total, side, mistaken)
        np.add.at(count, side, 1)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return [
        _example(items, scores, int(index)) for index in np.argsort(-mean, kind="stable")[:_EXAMPLES] if mean[index]
    ]


def texts(items: pl.DataFrame, places: Ints) -> list[str]:
    """The first few responses at ``places``, shortened."""
    return [_short(items["response"][int(place)]) for place in places[:_EXAMPLES]]


def histogram(items: pl.DataFrame, scores: Floats, mask: Bools) -> list[tuple[float, int, int]]:
    """(left edge, acceptable items, unacceptable items) in bars of equal width, over items with a verdict."""
    known = mask & items["acceptable"].is_not_null().to_numpy()
    if not known.any():
        return []
    acceptable = items["acceptable"].fill_null(False).to_numpy()
    edges = np.histogram_bin_edges(scores[known], bins=_BARS)
    good = np.histogram(scores[known & acceptable], edges)[0]
    bad = np.histogram(scores[known & ~acceptable], edges)[0]
    return [(float(edge), int(g), int(b)) for edge, g, b in zip(edges[:-1], good, bad, strict=True)]


def _example(items: pl.DataFrame, scores: Floats, place: int) -> ScoredExample:
    row = items.row(place, named=True)
    asked = [message["content"] for message in row["prompt"] if message["role"] == "user"]
    if row["rating"] is not None:
        label = f"mean rating {round(row['rating'], 2):g}"
    else:
        label = {True: "acceptable", False: "unacceptable", None: "no verdict"}[row["acceptable"]]
    return ScoredExample(
        prompt=_short(asked[-1]) if asked else "",
        response=_short(row["response"]),
        score=float(scores[place]),
        label=label,
    )


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
