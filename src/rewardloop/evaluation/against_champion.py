"""Candidate against champion on the answers both can score: as a whole, on the golden set, slice by slice.

In: items, pairs, both public scores. Out: ``ChampionComparison``: differences on the same pairs, and whose answers
change from accepted to blocked or back. Nothing is judged here.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats, Ints
from rewardloop.config import EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation import examples
from rewardloop.evaluation.comparison import slice_comparisons
from rewardloop.evaluation.golden_wear import worn_difference
from rewardloop.evaluation.metrics import PairSet, counting
from rewardloop.evaluation.slices import SliceSet
from rewardloop.evidence import ChampionComparison

OLD_FEEDBACK = "feedback that the champion knew"
"""The slice that shows what was forgotten."""


class ChampionScores(NamedTuple):
    """The champion on the same items; ``public`` has one score per item, NaN where it was not asked."""

    version: str
    public: Floats
    threshold: float | None
    batches: frozenset[str] = frozenset()
    """Digests of the batches that it was trained with."""
    golden_documents: frozenset[str] | None = None
    """Golden documents that the comparison may rest on; None: all."""
    golden_use: int = 1
    """How often the golden set was looked at, this time included."""


def compare_with_champion(
    items: pl.DataFrame,
    pairs: pl.DataFrame,
    public: Floats,
    threshold: float | None,
    champion: ChampionScores,
    settings: EvaluationSettings,
) -> ChampionComparison:
    """Compare on the pairs that both can score: their limits of length may differ.

    Args:
        items, pairs: the ``ITEMS`` and ``PAIRS`` tables.
        public: the candidate's public score per item.
        threshold: the candidate's, or None.
        champion: the champion's scores and threshold.
        settings: which pairs count, and the bootstrap.

    Raises:
        BadInputError: there is no test pair (or golden pair, where there are golden pairs) that both can score.
    """
    both = public + champion.public  # NaN where either has no score
    fresh = _fresh(items, pairs, champion.golden_documents)
    test, golden = PairSet.of(items, pairs, "test", both, settings), PairSet.of(items, fresh, "golden", both, settings)
    # A golden set that cannot be compared, whoever fails to score it, must not count as one that was passed.
    expected = not counting(fresh, "golden", settings).is_empty()
    missing = "test" if test is None else "golden" if expected and golden is None else None
    if test is None or missing:
        raise BadInputError(
            f"evaluation: champion {champion.version} and the candidate have no pair of the {missing} split that both "
            "can score; raise model.max_length, or register under another organization"
        )
    slices = SliceSet.of(items, test)
    of_champion = _known(items, champion.batches)
    known = of_champion[test.a] & of_champion[test.b]
    masks = slices.masks | ({OLD_FEEDBACK: known} if known.any() and not known.all() else {})
    flip_rate, blocked, accepted = None, [], []
    if threshold is not None and champion.threshold is not None:
        in_test: Ints = np.flatnonzero((items["split"] == "test").to_numpy() & ~np.isnan(both))
        now, before = public[in_test] >= threshold, champion.public[in_test] >= champion.threshold
        flip_rate = float((now != before).mean()) if len(in_test) else None
        blocked = examples.texts(items, in_test[before & ~now])
        accepted = examples.texts(items, in_test[now & ~before])
    return ChampionComparison(
        version=champion.version,
        accuracy=test.accuracy(champion.public),
        difference=test.advantage(public, champion.public),
        documents=test.bootstrap.documents,
        golden_difference=worn_difference(golden, public, champion.public, champion.golden_use) if golden else None,
        golden_documents=golden.bootstrap.documents if golden else None,
        golden_use=champion.golden_use if golden else None,
        slices=slice_comparisons(test, masks, public, champion.public, slices.documents, settings),
        flip_rate=flip_rate,
        newly_blocked=blocked,
        newly_accepted=accepted,
    )


def _fresh(items: pl.DataFrame, pairs: pl.DataFrame, documents: frozenset[str] | None) -> pl.DataFrame:
    """``pairs`` without those of golden documents that are not in use."""
    if documents is None:
        return pairs
    used = items.filter(items["document"].is_in(sorted(documents)))["item"].implode()
    return pairs.filter((pl.col("split") != "golden") | (pl.col("a").is_in(used) & pl.col("b").is_in(used)))


def _known(items: pl.DataFrame, batches: frozenset[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    listed = pl.lit(sorted(batches), pl.List(pl.String))
    old = pl.col("batches").list.set_difference(listed).list.len() == 0
    return items.select(old.fill_null(False)).to_series().to_numpy()
