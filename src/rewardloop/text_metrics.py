"""How varied texts are and how much they repeat themselves: the first signs of a policy that fools its reward model.

In: texts as sequences of words, or of token ids. Out: shares from 0 to 1. Words are what lies between white space, in
lower case; token ids do as well (and better for languages without spaces), but figures of the two cannot be compared.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

Tokens = Sequence[Hashable]


def words(text: str) -> list[str]:
    """``text`` in lower case, cut at white space; punctuation stays with its word."""
    return text.lower().split()


def distinct_ngrams(sequences: Iterable[Tokens], n: int, *, drawn: int | None = None) -> float:
    """Distinct n-grams over all n-grams of all ``sequences`` together (distinct-n of Li et al. 2016).

    The share falls with the amount of text, because language repeats itself; so only equal amounts can be compared.
    With ``drawn`` it is the share that is expected of so many n-grams, drawn from all of them without replacement
    (rarefaction, Hurlbert 1971).

    Args:
        sequences: words or token ids of each answer; an n-gram never spans two of them.
        n: 1 for single words, 2 for bigrams.
        drawn: how many n-grams the share is to speak of, at most as many as there are; None: all of them.

    Returns:
        0 where no answer is n long: then nothing varies.
    """
    counts = np.array(list(_pooled(sequences, n).values()), dtype=np.int64)
    total = int(counts.sum())
    if drawn is None or drawn == total:
        return len(counts) / total if total else 0.0
    assert drawn <= total, f"{drawn} n-grams drawn from {total}"
    return _rarefied(counts, drawn) / drawn if drawn else 0.0


def distinct_before_after(before: Sequence[Tokens], after: Sequence[Tokens], n: int) -> tuple[float, float]:
    """``distinct_ngrams`` of two sets of answers, both at the number of n-grams that the set with fewer has.

    Args:
        before, after: as many answers each: answers to different numbers of prompts differ in variety anyway.
        n: as in ``distinct_ngrams``.
    """
    assert len(before) == len(after), f"{len(before)} answers before, {len(after)} after"
    drawn = min(sum(_pooled(side, n).values()) for side in (before, after))
    return distinct_ngrams(before, n, drawn=drawn), distinct_ngrams(after, n, drawn=drawn)


def repetition(sequences: Sequence[Tokens], n: int = 4) -> float:
    """Share of the n-grams of an answer that came before in the same answer, mean over answers.

    It is seq-rep-n of Welleck et al. 2020: 1 - distinct n-grams / n-grams. An answer shorter than n counts
    as 0; no answers at all, too.
    """
    shares = []
    for sequence in sequences:
        counts = Counter(_ngrams(sequence, n))
        total = sum(counts.values())
        shares.append(1 - len(counts) / total if total else 0.0)
    return float(np.mean(shares)) if shares else 0.0


def _ngrams(sequence: Tokens, n: int) -> Iterable[tuple[Hashable, ...]]:
    return zip(*(sequence[start:] for start in range(n)), strict=False)


def _pooled(sequences: Iterable[Tokens], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(ngram for sequence in sequences for ngram in _ngrams(sequence, n))


def _rarefied(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]", drawn: int) -> float:
    """Expected number of distinct n-grams among ``drawn``: each is missing with a hypergeometric probability."""
    from scipy.stats import hypergeom

    # Most n-grams occur once or twice: one probability per number of occurrences is enough.
    occurrences, kinds = np.unique(counts, return_counts=True)
    missing = hypergeom.pmf(0, counts.sum(), occurrences, drawn)
    return float(kinds @ (1 - missing))
