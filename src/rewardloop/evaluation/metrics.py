"""Accuracy on held-out pairs: which pairs count, who is right, and by how much one scorer beats another.

Everything about one set of pairs goes through one ``PairSet``, so that every scorer is measured on the same pairs with
the same resamples of documents.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from rewardloop.bootstrap import Bools, DocumentBootstrap, Floats, Ints
from rewardloop.config import EvaluationSettings
from rewardloop.evidence import Estimate


@dataclass(frozen=True)
class PairSet:
    """Decided pairs of one split; ``a`` and ``b`` are positions of items."""

    a: Ints
    b: Ints
    a_is_better: Floats
    """1 or 0, shape (pairs,)."""
    gap: Floats
    """NaN without ratings."""
    bootstrap: DocumentBootstrap
    confidence: float

    @classmethod
    def of(
        cls, items: pl.DataFrame, pairs: pl.DataFrame, split: str, scored: Floats, settings: EvaluationSettings
    ) -> "PairSet | None":
        """The pairs of ``split`` that count: decided, far enough apart, both answers scored; None if there are none."""
        chosen = counting(pairs, split, settings)
        known = ~(np.isnan(scored[chosen["a"].to_numpy()]) | np.isnan(scored[chosen["b"].to_numpy()]))
        chosen = chosen.filter(pl.Series(known))
        if chosen.is_empty():
            return None
        a, b = chosen["a"].to_numpy().astype(np.int64), chosen["b"].to_numpy().astype(np.int64)
        document = items["document"].rank("dense").to_numpy().astype(np.int64)
        return cls(
            a=a,
            b=b,
            a_is_better=(chosen["p"].to_numpy() > 0.5).astype(float),
            gap=chosen["gap"].fill_null(np.nan).to_numpy(),
            bootstrap=DocumentBootstrap(
                document[a], document[b], samples=settings.bootstrap_samples, seed=settings.seed
            ),
            confidence=settings.confidence,
        )

    def right(self, scores: Floats) -> Floats:
        """1 where ``scores`` (one per item) order a pair as people do, 0 where not, one half for equal scores."""
        sign = np.sign(scores[self.a] - scores[self.b])
        return np.asarray(0.5 + sign * (self.a_is_better - 0.5))

    def accuracy(self, scores: Floats) -> Estimate:
        """Share of pairs in the right order, with its interval."""
        return self.bootstrap.estimate(self.right(scores), confidence=self.confidence)

    def advantage(self, scores: Floats, other: Floats) -> Estimate:
        """Accuracy of ``scores`` minus that of ``other``, paired."""
        return self.bootstrap.estimate(self.right(scores) - self.right(other), confidence=self.confidence)

    def part(self, mask: Bools, documents: Ints, settings: EvaluationSettings) -> "PairSet":
        """The pairs where ``mask`` holds; ``documents`` is one number per item."""
        a, b = self.a[mask], self.b[mask]
        bootstrap = DocumentBootstrap(
            documents[a], documents[b], samples=settings.bootstrap_samples, seed=settings.seed
        )
        return PairSet(a, b, self.a_is_better[mask], self.gap[mask], bootstrap, self.confidence)


def counting(pairs: pl.DataFrame, split: str, settings: EvaluationSettings) -> pl.DataFrame:
    """The pairs of ``split`` that are decided and far enough apart, whoever can score them."""
    return pairs.filter(
        (pl.col("split") == split)
        & (pl.col("p") != 0.5)
        & (pl.col("gap").is_null() | (pl.col("gap") >= settings.min_rating_gap))
    )
