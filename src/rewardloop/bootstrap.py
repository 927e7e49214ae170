"""Bootstrap intervals over documents, for statistics of pairs of answers and of single ones.

Answers of one document (or prompt) are not independent, so documents are resampled, not pairs. A pair's weight in a
resample is the product of its documents' multiplicities; a pair inside one document has that document's multiplicity.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rewardloop.evidence import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CELLS = 8_000_000


class DocumentBootstrap:
    """The same resamples for every statistic of the same pairs, so that differences are paired.

    Args:
        document_a, document_b: shape (pairs,), any ints that name the documents of each pair's two answers.
        samples: number of resamples.
        seed: of the resampling.
    """

    def __init__(self, document_a: Ints, document_b: Ints, *, samples: int, seed: int) -> None:
        _, codes = np.unique(np.concatenate([document_a, document_b]), return_inverse=True)
        self._a, self._b = codes[: len(document_a)], codes[len(document_a) :]
        self.documents = int(codes.max(initial=-1)) + 1
        random = np.random.default_rng(seed)
        share = np.full(self.documents, 1 / max(self.documents, 1))
        # One resample at a time, as small integers: drawn at once they need several times the memory.
        self._multiplicity = np.empty((self.documents, samples), dtype=np.int32)
        for sample in range(samples):
            self._multiplicity[:, sample] = random.multinomial(self.documents, share)
        self._weights = self._sum(np.ones(len(document_a)))

    def means(self, values: Floats) -> Floats:
        """Weighted mean of ``values`` (one per pair) in each resample; NaN where a resample has no pair."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sum(values) / self._weights)

    def estimate(self, values: Floats, *, confidence: float, unit: str = "pairs") -> Estimate:
        """Mean of ``values`` with its percentile interval; ``unit`` says what each of them is of."""
        edge = 50 * (1 - confidence)
        low, high = np.nanpercentile(self.means(values), [edge, 100 - edge])
        return Estimate(
            value=float(values.mean()),
            low=float(low),
            high=float(high),
            level=confidence,
            count=len(values),
            unit=unit,
        )

    def _sum(self, values: Floats) -> Floats:
        """Sum over pairs of weight * value, per resample, without a loop over pairs."""
        inside = self._a == self._b
        shape = (self.documents, self.documents)
        across = sparse.coo_array((values[~inside], (self._a[~inside], self._b[~inside])), shape=shape).tocsr()
        within = np.bincount(self._a[inside], weights=values[inside], minlength=self.documents)
        samples = self._multiplicity.shape[1]
        total = np.empty(samples)
        # A few resamples at a time: documents x samples floats would not fit in memory for large corpora.
        step = max(1, _CELLS // max(1, self.documents))
        for start in range(0, samples, step):
            part = self._multiplicity[:, start : start + step].astype(float)
            total[start : start + step] = (part * (across @ part)).sum(axis=0) + within @ part
        return total


def over_documents(
    document: Ints, *, samples: int, seed: int, confidence: float, unit: str
) -> Callable[[Floats], Estimate]:
    """What gives the mean of one value per answer with its interval, whole documents (or prompts) being resampled.

    Every call uses the same resamples, and so does every other function made with the same documents and seed: the
    mean of the answers' differences is a paired difference.

    Args:
        document: shape (answers,), any ints that name the answers' documents.
        samples, seed, confidence, unit: as in ``DocumentBootstrap``.
    """
    bootstrap = DocumentBootstrap(document, document, samples=samples, seed=seed)
    return lambda values: bootstrap.estimate(values, confidence=confidence, unit=unit)
