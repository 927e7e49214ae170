"""What a reward model must beat to be worth its cost: the answer's length, and a bag of words.

Both are given the same training pairs as the reward model and judged on the same held-out pairs.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rewardloop.bootstrap import Floats, Ints

_MOST_PAIRS = 20_000


def length_scores(responses: Sequence[str], a: Ints, b: Ints, p: Floats) -> Floats:
    """Score by length in characters; training pairs say whether longer or shorter is better.

    Args:
        responses: all texts.
        a, b: training pairs as positions in ``responses``.
        p: probability that a is better.
    """
    length = np.array([len(text) for text in responses], dtype=float)
    longer = np.sign(length[a] - length[b]) * np.sign(p - 0.5)
    return -length if longer.sum() < 0 else length


def bag_of_words_scores(responses: Sequence[str], a: Ints, b: Ints, p: Floats, *, seed: int) -> Floats:
    """Scores of all ``responses`` by ``fit_bag_of_words``; zeros where it finds nothing to learn."""
    scorer = fit_bag_of_words(responses, a, b, p, seed=seed)
    return np.zeros(len(responses)) if scorer is None else scorer(responses)


def fit_bag_of_words(
    responses: Sequence[str], a: Ints, b: Ints, p: Floats, *, seed: int
) -> Callable[[Sequence[str]], Floats] | None:
    """TF-IDF of words and word pairs with a linear Bradley-Terry model: logistic regression on differences.

    Args:
        responses: all texts; the vocabulary comes from the training pairs' texts only.
        a, b: training pairs as positions in ``responses``; a seeded sample is taken when there are many.
        p: probability that a is better; ties are left out.
        seed: of the sample.

    Returns:
        what scores any texts: float64 of shape (texts,); None where no pair is decided or no text has a word.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    decided = np.flatnonzero(p != 0.5)
    if len(decided) > _MOST_PAIRS:
        decided = np.random.default_rng(seed).choice(decided, _MOST_PAIRS, replace=False)
    a, b, better = a[decided], b[decided], p[decided] > 0.5
    places, sides = np.unique(np.concatenate([a, b]), return_inverse=True)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        words = vectorizer.fit_transform([responses[place] for place in places])
    except ValueError:  # no words at all
        return None
    difference = words[sides[: len(a)]] - words[sides[len(a) :]]
    # Both directions of each pair: the model must be antisymmetric, and no class may be missing.
    features = sparse.vstack([difference, -difference])
    model = LogisticRegression(fit_intercept=False, C=10.0, max_iter=200)
    model.fit(features, np.concatenate([better, ~better]))
    weights = model.coef_[0]
    return lambda texts: np.asarray(vectorizer.transform(texts) @ weights)
