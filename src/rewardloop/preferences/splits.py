"""Which split a document belongs to: by hash, the same in every run, and never two splits for one text.

In: groups with their documents. Out: the split of each group. Documents of texts without a prompt that share a text are
kept together (a ranked list may hold a text that another list holds too); such documents follow the smallest of their
hashes. Golden documents are frozen; what shares a text with them is left out.
"""

import hashlib

import numpy as np
import polars as pl
from scipy import sparse

from rewardloop.config import SplitSettings
from rewardloop.records import normalize_text

TOUCHES_GOLDEN = "shares a text with the golden set"


def bucket(salt: str, document: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    return int(hashlib.sha256(f"{salt}\x1f{document}".encode()).hexdigest()[:13], 16) / 16**13


def assign_splits(
    groups: pl.DataFrame, answers: pl.DataFrame, settings: SplitSettings, golden: frozenset[str]
) -> pl.DataFrame:
    """Add ``split`` to ``groups``: a split's name, or ``TOUCHES_GOLDEN`` for what must be left out."""
    key = _shared_key(groups, answers)
    keyed = groups.join(key, on="document", how="left").with_columns(pl.coalesce("key", "document").alias("key"))
    edges = np.cumsum([settings.train, settings.validation, settings.calibration])
    keys = keyed["key"].unique(maintain_order=True)
    names = np.array(["train", "validation", "calibration", "test"])
    places = np.searchsorted(edges, [bucket(settings.salt, value) for value in keys], side="right")
    table = pl.DataFrame({"key": keys, "split": names[places]})
    is_golden = pl.col("document").is_in(list(golden))
    return (
        keyed.join(table, on="key", how="left", maintain_order="left")
        .with_columns(is_golden.any().over("key").alias("touches"))
        .with_columns(
            pl.when(is_golden)
            .then(pl.lit("golden"))
            .when("touches")
            .then(pl.lit(TOUCHES_GOLDEN))
            .otherwise("split")
            .alias("split")
        )
        .drop("key", "touches")
    )


def _shared_key(groups: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """``document``, ``key``: the smallest document of all that are linked by equal texts; only for linked ones."""
    texts = (
        groups.filter(pl.col("prompt").list.len() == 0)
        .select("group", "document")
        .join(answers.select("group", "response"), on="group")
        .with_columns(pl.col("response").map_elements(normalize_text, return_dtype=pl.String).alias("text"))
        .select("document", "text")
        .unique()
        .filter(pl.col("document").n_unique().over("text") > 1)
    )
    if texts.is_empty():
        return pl.DataFrame(schema={"document": pl.String, "key": pl.String})
    documents, document = np.unique(texts["document"].to_numpy(), return_inverse=True)
    _, text = np.unique(texts["text"].to_numpy(), return_inverse=True)
    size = len(documents) + int(text.max()) + 1
    graph = sparse.coo_array((np.ones(len(text)), (document, len(documents) + text)), shape=(size, size))
    _, component = sparse.csgraph.connected_components(graph, directed=False)
    linked = pl.DataFrame({"document": documents, "component": component[: len(documents)]})
    return linked.select("document", pl.col("document").min().over("component").alias("key"))
