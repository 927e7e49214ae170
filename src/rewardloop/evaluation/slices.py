"""Accuracy on parts of the test pairs: per segment, per length of the answers, per distance in rating."""

import numpy as np
import polars as pl

from rewardloop.bootstrap import Bools, Floats
from rewardloop.config import EvaluationSettings
from rewardloop.evaluation.metrics import PairSet
from rewardloop.evidence import SliceLine

_THIRDS = ("shortest third", "middle third", "longest third")
_GAPS = ("closest third in rating", "middle third in rating", "farthest third in rating")


def slice_lines(items: pl.DataFrame, test: PairSet, scores: Floats, settings: EvaluationSettings) -> list[SliceLine]:
    """One line per slice that has a pair, each with its own interval over documents."""
    documents = items["document"].rank("dense").to_numpy().astype(np.int64)
    masks: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
    segment = items["segment"].fill_null("(none)").to_numpy()
    names = np.unique(segment[np.concatenate([test.a, test.b])])
    if len(names) > 1:
        for name in names:
            masks[f"segment {name}"] = (segment[test.a] == name) & (segment[test.b] == name)
    length = items["response"].str.len_chars().to_numpy().astype(float)
    masks |= _thirds((length[test.a] + length[test.b]) / 2, _THIRDS)
    if not np.isnan(test.gap).any():
        masks |= _thirds(test.gap, _GAPS)
    lines = []
    for name, mask in masks.items():
        if mask.any():
            part = test.part(mask, documents, settings)
            lines.append(SliceLine(name=name, accuracy=part.accuracy(scores)))
    return lines


def _thirds(values: Floats, names: tuple[str, str, str]) -> dict[str, Bools]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return dict(zip(names, (values <= low, (values > low) & (values <= high), values > high), strict=True))
