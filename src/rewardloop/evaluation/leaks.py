"""Was anything that a candidate is judged by trained on? Exact duplicates, shared documents, near duplicates.

In: the ``ITEMS`` table. Out: what splits have in common, and how much test texts are like their nearest training text.
A text is an answer's prompt; where there is none, its response. Splits are made so that they share nothing: what is
found here got in on another way, or is the same question in other words.
"""

import re
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats
from rewardloop.config import EvaluationSettings
from rewardloop.evidence.measures import LeakEvidence, NearestEvidence, NearestExample, OverlapLine
from rewardloop.exact import exact_share
from rewardloop.records import SPLITS, normalize_text

_EXAMPLES = 3
_QUANTILES = (0.5, 0.9, 0.99, 1.0)
_NGRAM = 4
_NO_WORD = re.compile(r"\W+")
_CHUNK = 2000
"""Training texts that are compared at once: similarities of all of them would not fit in memory."""


def leak_check(items: pl.DataFrame, settings: EvaluationSettings) -> LeakEvidence:
    """Compare training with held-out items, and held-out splits with each other.

    Args:
        items: the ``ITEMS`` table.
        settings: ``leak_items`` (most test texts whose nearest training text is looked for), ``near_duplicate``,
            ``confidence`` and ``seed`` of the sample.
    """
    texts = _texts(items)
    trained = "train" in texts["split"]
    held_out = texts.filter(pl.col("split") != "train")
    kinds = set(texts["prompted"])
    return LeakEvidence(
        compared="prompts" if kinds == {True} else "responses" if kinds == {False} else "prompts, else responses",
        duplicates_with_train=_in_train(texts, ["prompted", "text"]) if trained else None,
        documents_with_train=_in_train(texts, ["document"]) if trained else None,
        duplicates_held_out=_in_several(held_out, ["prompted", "text"]),
        documents_held_out=_in_several(held_out, ["document"]),
        overlaps=list(_overlaps(texts)),
        nearest=_nearest(texts, settings),
    )


def _texts(items: pl.DataFrame) -> pl.DataFrame:
    """One row per item: split, document, whether the text is a prompt, and the normalized text."""
    contents = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
    prompted = pl.col("prompt").list.len() > 0
    rows = items.select(
        "split",
        "document",
        prompted.alias("prompted"),
        pl.when(prompted).then(contents).otherwise("response").alias("raw"),
    )
    # All answers to one prompt have its text: it is normalized once.
    distinct = rows["raw"].unique()
    text = pl.Series([normalize_text(raw) for raw in distinct], dtype=pl.String)
    return rows.join(pl.DataFrame({"raw": distinct, "text": text}), on="raw", maintain_order="left").drop("raw")


def _in_train(texts: pl.DataFrame, key: list[str]) -> int:
    train = pl.col("split") == "train"
    return len(texts.filter(~train).select(key).unique().join(texts.filter(train), on=key, how="semi"))


def _in_several(held_out: pl.DataFrame, key: list[str]) -> int:
    return len(held_out.group_by(key).agg(pl.col("split").n_unique()).filter(pl.col("split") > 1))


def _overlaps(texts: pl.DataFrame) -> Iterator[OverlapLine]:
    parts = {split: texts.filter(split=split) for split in SPLITS}
    for first, second in combinations([split for split, part in parts.items() if len(part)], 2):
        shared = parts[second].join(parts[first], on=["prompted", "text"], how="semi")
        documents = parts[second].join(parts[first], on="document", how="semi")
        distinct = shared.unique(["prompted", "text"]).sort("text")
        yield OverlapLine(
            first=first,
            second=second,
            texts=len(distinct),
            items=len(shared),
            documents=documents["document"].n_unique(),
            examples=distinct["text"].head(_EXAMPLES).to_list(),
        )


def _nearest(texts: pl.DataFrame, settings: EvaluationSettings) -> NearestEvidence | None:
    test, train = (texts.filter(split=split)["text"].unique().sort().to_list() for split in ("test", "train"))
    if not test or not train:
        return None
    random = np.random.default_rng(settings.seed)
    sample = [test[place] for place in random.permutation(len(test))[: settings.leak_items]]
    known = [train[place] for place in random.permutation(len(train))[: settings.leak_items]]
    similarity, nearest = _similarity(sample, train, known)
    near = int((similarity >= settings.near_duplicate).sum())
    share = exact_share(near, len(sample), settings.confidence, "texts")
    assert share is not None
    order = np.argsort(-similarity, kind="stable")[:_EXAMPLES].tolist()
    return NearestEvidence(
        texts=len(sample),
        of=len(test),
        quantiles=[(quantile, float(np.quantile(similarity, quantile))) for quantile in _QUANTILES],
        near_duplicate=settings.near_duplicate,
        near_duplicates=share,
        examples=[
            NearestExample(test=sample[place], train=train[nearest[place]], similarity=float(similarity[place]))
            for place in order
        ],
    )


def _similarity(sample: list[str], train: list[str], known: list[str]) -> tuple[Floats, list[int]]:
    """The largest cosine of each text of ``sample`` to one of ``train``, and its place there.

    Vectors are counts of character 4-grams inside words, sublinear and weighted by inverse document frequency;
    punctuation does not count. The frequencies come from ``sample`` and ``known``, a part of ``train``: one pass over
    ``train`` is enough then.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    count = HashingVectorizer(
        preprocessor=lambda text: _NO_WORD.sub(" ", text),
        analyzer="char_wb",
        ngram_range=(_NGRAM, _NGRAM),
        norm=None,
        alternate_sign=False,
    )
    counts = count.transform(sample)
    weigh = TfidfTransformer(sublinear_tf=True).fit(count.transform(sample + known))
    vectors = weigh.transform(counts)
    best, place = np.full(len(sample), -1.0), np.zeros(len(sample), dtype=np.int64)
    for start in range(0, len(train), _CHUNK):
        found = (vectors @ weigh.transform(count.transform(train[start : start + _CHUNK])).T).toarray()
        nearest = found.argmax(axis=1)
        largest = found[np.arange(len(sample)), nearest]
        better = largest > best
        best[better], place[better] = largest[better], start + nearest[better]
    return np.clip(best, 0.0, 1.0), place.tolist()
