"""The bootstrap over documents, against a loop that does what the words say."""

import numpy as np
import pytest

from rewardloop.bootstrap import DocumentBootstrap, over_documents


def test_equals_the_obvious_loop() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 7, 40), random.integers(0, 7, 40)
    values = random.random(40)
    bootstrap = DocumentBootstrap(a, b, samples=50, seed=3)
    documents = np.unique(np.concatenate([a, b]))
    share = np.full(len(documents), 1 / len(documents))
    drawn = np.random.default_rng(3).multinomial(len(documents), share, size=50)
    expected = []
    for counts in drawn:
        times = dict(zip(documents, counts, strict=True))
        weights = [times[i] if i == j else times[i] * times[j] for i, j in zip(a, b, strict=True)]
        expected.append(np.average(values, weights=weights))
    np.testing.assert_allclose(bootstrap.means(values), expected)


def test_resamples_taken_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    a, b, values = random.integers(0, 9, 60), random.integers(0, 9, 60), random.random(60)
    at_once = DocumentBootstrap(a, b, samples=50, seed=0).means(values)
    monkeypatch.setattr("rewardloop.bootstrap._CELLS", 70)  # 9 documents: 7 resamples at a time, then 1
    np.testing.assert_allclose(DocumentBootstrap(a, b, samples=50, seed=0).means(values), at_once)


def test_one_document_per_pair_is_the_usual_bootstrap() -> None:
    # 400 independent pairs, 300 right: standard error sqrt(.75 * .25 / 400) = 0.0217.
    values = np.repeat([1.0, 0.0], [300, 100])
    places = np.arange(400)
    estimate = DocumentBootstrap(places, places, samples=4000, seed=0).estimate(values, confidence=0.95)
    assert estimate.value == 0.75
    assert estimate.low == pytest.approx(0.75 - 1.96 * 0.0217, abs=0.006)
    assert estimate.high == pytest.approx(0.75 + 1.96 * 0.0217, abs=0.006)


def test_pairs_of_few_documents_are_worth_less_than_they_seem() -> None:
    # 190 pairs of 20 documents are not 190 independent ones.
    random = np.random.default_rng(1)
    a, b = np.triu_indices(20, 1)
    values = (random.random(190) < 0.75).astype(float)
    narrow = DocumentBootstrap(np.arange(190), np.arange(190), samples=1000, seed=0).estimate(values, confidence=0.95)
    wide = DocumentBootstrap(a, b, samples=1000, seed=0).estimate(values, confidence=0.95)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_differences_are_paired() -> None:
    random = np.random.default_rng(2)
    a, b = np.triu_indices(30, 1)
    one = (random.random(len(a)) < 0.7).astype(float)
    bootstrap = DocumentBootstrap(a, b, samples=300, seed=0)
    np.testing.assert_allclose(bootstrap.means(one - one), 0)


def test_means_of_single_answers_over_documents() -> None:
    document, values = np.array([4, 4, 9, 2]), np.array([1.0, 3.0, 5.0, 0.0])
    estimate = over_documents(document, samples=500, seed=1, confidence=0.9, unit="responses")
    found = estimate(values)
    assert (found.value, found.count, found.level, found.unit) == (2.25, 4, 0.9, "responses")
    # Documents are drawn with their answers: 3 multiplicities, of which the first weighs two answers.
    drawn = np.random.default_rng(1).multinomial(3, np.full(3, 1 / 3), size=500)[:, [1, 1, 2, 0]]
    means = (drawn @ values) / drawn.sum(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [5, 95])))
