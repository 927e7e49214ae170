"""Which answers are compared with which: inside groups, and between texts that came without a prompt.

A group with K >= 2 answers is compared inside itself. Single texts are grouped ``group_size`` at a time, across
documents but inside one split and segment, for training and validation; in test and golden every one meets all others.
"""

import numpy as np
import polars as pl

ALONE = "the only answer to its prompt: nothing to compare it with"
NO_PARTNER = "no other text in its split and segment to compare it with"
NO_VERDICT = "in the calibration split, and nothing says whether it is acceptable"
GROUPED = ("train", "validation")


def group_texts(texts: pl.DataFrame, group_size: int) -> pl.DataFrame:
    """Number the groups of single texts.

    Texts of one document are dealt to different groups, one after the other; a group holds two of them only when the
    document has more texts than there are groups. The order follows hashes, not the rows' order. Texts are grouped
    inside their batch, so that the groups of earlier batches stay when more feedback comes; what is left of batches
    with fewer than ``group_size`` texts is grouped together.

    Args:
        texts: content, document, split, segment, batch of the single texts.
        group_size: K.

    Returns:
        content and ``bunch`` (over all splits and segments), as equal in size as can be; null for a text that is alone.
    """
    place = ["split", "segment", "deal"]
    bunches = (pl.len().over(place) / group_size).ceil().cast(pl.UInt32)
    return (
        _deals(texts, group_size)
        .sort(*place, "document", "content", nulls_last=True)
        .with_columns((pl.int_range(pl.len()).over(place) % bunches).alias("part"))
        .with_columns(pl.struct(*place, "part").rank("dense").alias("bunch"))
        .with_columns(pl.when(pl.len().over("bunch") > 1).then("bunch").alias("bunch"))
        .select("content", "bunch")
    )


def _deals(texts: pl.DataFrame, group_size: int) -> pl.DataFrame:
    """``deal``: the batch that a text is grouped in, or "" for the rest of small batches.

    A rest that is too small itself joins the largest batch.
    """
    place = ["split", "segment"]
    sized = texts.with_columns(pl.len().over([*place, "batch"]).alias("size"))
    dealt = sized.with_columns(
        pl.when(pl.col("size") >= group_size).then("batch").otherwise(pl.lit("")).alias("deal"),
        pl.col("batch").sort_by("size", "batch", descending=True).first().over(place).alias("largest"),
        pl.col("size").max().over(place).alias("most"),
    )
    lost = (pl.col("deal") == "") & (pl.len().over([*place, "deal"]) < group_size) & (pl.col("most") >= group_size)
    return dealt.with_columns(pl.when(lost).then("largest").otherwise("deal").alias("deal"))


def pairs_inside(answers: pl.DataFrame, key: str) -> pl.DataFrame:
    """All pairs (a < b) of answers with equal ``key``: a, b and the key."""
    side = answers.filter(pl.col(key).is_not_null()).select(key, "answer")
    return (
        side.rename({"answer": "a"})
        .join(side.rename({"answer": "b"}), on=key)
        .filter(pl.col("a") < pl.col("b"))
        .select("a", "b", key)
        .sort("a", "b")
    )


def pairs_across(answers: pl.DataFrame, *, at_most: int, seed: int) -> pl.DataFrame:
    """All pairs (a < b) of the given answers inside one segment, or a seeded sample of ``at_most`` of them."""
    parts = answers.select("answer", "segment").sort("answer").partition_by("segment", maintain_order=True)
    possible = [len(part) * (len(part) - 1) // 2 for part in parts]
    share = min(1.0, at_most / max(1, sum(possible)))
    random = np.random.default_rng(seed)
    found = []
    for part, total in zip(parts, possible, strict=True):
        wanted = int(total * share)
        number = np.arange(total) if share == 1 else np.sort(_distinct(random, total, wanted))
        # Pair number k is (row, column) of the lower triangle: row (row - 1) / 2 + column = k.
        row = np.floor((1 + np.sqrt(1 + 8 * number.astype(float))) / 2).astype(np.int64)
        row -= row * (row - 1) // 2 > number
        column = number - row * (row - 1) // 2
        names = part["answer"].to_numpy()
        found.append(pl.DataFrame({"a": names[column], "b": names[row]}))
    return pl.concat(found) if found else pl.DataFrame(schema={"a": pl.UInt32, "b": pl.UInt32})


def _distinct(random: np.random.Generator, total: int, wanted: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """``wanted`` different numbers below ``total``, without listing them all."""
    drawn = np.unique(random.integers(0, total, size=wanted))
    while len(drawn) < wanted:
        drawn = np.unique(np.concatenate([drawn, random.integers(0, total, size=wanted)]))
    return random.permutation(drawn)[:wanted]
