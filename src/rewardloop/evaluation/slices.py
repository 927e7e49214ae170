"""Accuracy on parts of the test pairs: per segment, source and kind of labeler, per length, per distance in rating.

In: items, test pairs, scores. Out: which pairs are in which slice, and the accuracy on each. A slice that is empty or
holds every pair says nothing new and is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl

from rewardloop.bootstrap import Bools, Floats, Ints
from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import SliceLine

_NAMED = {"segment": "segment", "source": "source", "labeler_kind": "labeler kind"}
"""Column -> its name in words; a table may lack the last two."""
_RESPONSES = ("shortest third", "middle third", "longest third")
_PROMPTS = ("shortest third of prompts", "middle third of prompts", "longest third of prompts")
_GAPS = ("closest third in rating", "middle third in rating", "farthest third in rating")


@dataclass(frozen=True)
class SliceSet:
    """Slices of one set of pairs."""

    pairs: PairSet
    documents: Ints
    """One number per item that names its document."""
    masks: dict[str, Bools]
    """Name -> which pairs, shape (pairs,)."""

    @classmethod
    def of(cls, items: pl.DataFrame, pairs: PairSet) -> "SliceSet":
        """Slice ``pairs``, which are pairs of ``items``."""
        documents = items["document"].rank("dense").to_numpy().astype(np.int64)
        every = chain(input_slices(items, pairs.a, pairs.b), _thirds(pairs.gap, _GAPS))
        masks = {name: mask for name, mask in every if mask.any() and not mask.all()}
        return cls(pairs, documents, masks)

    def part(self, name: str, settings: EvaluationSettings) -> PairSet:
        """The pairs of one slice, with resamples of its own documents."""
        return self.pairs.part(self.masks[name], self.documents, settings)

    def document_counts(self) -> dict[str, int]:
        """Name -> documents that the slice's pairs come from: what an interval can rest on."""
        return {
            name: len(np.unique(self.documents[np.concatenate([self.pairs.a[mask], self.pairs.b[mask]])]))
            for name, mask in self.masks.items()
        }


def slice_masks(items: pl.DataFrame, pairs_set: PairSet) -> dict[str, Bools]:
    """Name of each slice -> which pairs of ``pairs_set`` are in it, shape (pairs,)."""
    return SliceSet.of(items, pairs_set).masks


def slice_lines(
    items: pl.DataFrame, test: PairSet, scores: Floats, settings: EvaluationSettings, *, criterion: str | None = None
) -> list[SliceLine]:
    """One line per slice that has a pair, each with its own interval over documents.

    Args:
        items: the ``ITEMS`` table.
        test: pairs of ``items``.
        scores: one per item.
        settings: ``bootstrap_samples`` and ``seed``.
        criterion: what the model was trained on, to be named in every line; None: lines have the slice's name only.
    """
    slices = SliceSet.of(items, test)
    documents = slices.document_counts()
    return [
        SliceLine(
            name=name if criterion is None else f"{criterion}: {name}",
            accuracy=slices.part(name, settings).accuracy(scores),
            documents=documents[name],
        )
        for name in slices.masks
    ]


def input_slices(items: pl.DataFrame, a: Ints, b: Ints) -> Iterator[tuple[str, Bools]]:
    """Name and pairs of every slice that is told by prompts and answers, not by how they were labeled.

    Args:
        items: the ``ITEMS`` table.
        a, b: the pairs' positions in ``items``, shape (pairs,).
    """
    both = np.concatenate([a, b])
    for column, words in _NAMED.items():
        if column in items.columns:
            value = items[column].fill_null("(none)").to_numpy()
            for name in np.unique(value[both]):
                yield f"{words} {name}", (value[a] == name) & (value[b] == name)
    response = items["response"].str.len_chars().to_numpy().astype(float)
    yield from _thirds((response[a] + response[b]) / 2, _RESPONSES)
    contents = pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars())
    prompt = items.select(contents.list.sum().fill_null(0))["prompt"].to_numpy().astype(float)
    yield from _thirds((prompt[a] + prompt[b]) / 2, _PROMPTS)


def _thirds(values: Floats, names: tuple[str, str, str]) -> Iterator[tuple[str, Bools]]:
    """Three bands with a third of the known ``values`` each, fewer where many are equal; NaN is in none."""
    known = values[~np.isnan(values)]
    if len(known):
        low, high = np.quantile(known, [1 / 3, 2 / 3])
        yield from zip(names, (values <= low, (values > low) & (values <= high), values > high), strict=True)
