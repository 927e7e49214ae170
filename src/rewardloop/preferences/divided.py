"""The pairs of answers that divide people most, for whoever writes the labeling instructions.

In: pairs with their votes. Out: a few of them with texts and names.
"""

import polars as pl

from rewardloop.evidence import DividedPair

_PAIRS = 20
_NAMES = 20
_CHARACTERS = 600
"""Evidence is read by people: a few examples, and of each text its beginning."""


def divided_pairs(
    pairs: pl.DataFrame, cast: pl.DataFrame, answers: pl.DataFrame
) -> tuple[list[DividedPair], list[str]]:
    """Pairs on which people voted both ways, ordered by p (1 - p) votes: many votes, and those near one half.

    Golden pairs are not shown: who discusses them does not label the like of them as before.

    Args:
        pairs: a, b, p, votes, split.
        cast: ``consensus.votes`` with ``labeler``.
        answers: answer, document, prompt, response.

    Returns:
        the pairs, and the document of each.
    """
    vote = pl.col("vote")
    counted = cast.group_by("a", "b").agg(
        (vote > 0.5).sum().alias("votes_a"), (vote < 0.5).sum().alias("votes_b"), (vote == 0.5).sum().alias("ties")
    )
    chosen = (
        pairs.filter(pl.col("split") != "golden")
        .join(counted.filter((pl.col("votes_a") > 0) & (pl.col("votes_b") > 0)), on=["a", "b"])
        .with_columns((pl.col("p") * (1 - pl.col("p")) * pl.col("votes")).alias("division"))
        .sort("division", "a", "b", descending=[True, False, False])
        .head(_PAIRS)
    )
    names = pl.col("labeler").drop_nulls().unique().sort().head(_NAMES).alias("labelers")
    labelers = cast.join(chosen.select("a", "b"), on=["a", "b"], how="semi").group_by("a", "b").agg(names)
    texts = answers.select("answer", "response")
    first = answers.select("answer", "document", "prompt", "response")
    rows = (
        chosen.join(labelers, on=["a", "b"], how="left", maintain_order="left")
        .join(first, left_on="a", right_on="answer", maintain_order="left")
        .join(texts, left_on="b", right_on="answer", suffix="_b", maintain_order="left")
    )
    listed = [
        DividedPair(
            prompt=_clip("\n".join(message["content"] for message in row["prompt"] or [])),
            response_a=_clip(row["response"]),
            response_b=_clip(row["response_b"]),
            **{name: row[name] for name in ("votes_a", "votes_b", "ties", "p", "labelers")},
        )
        for row in rows.iter_rows(named=True)
    ]
    return listed, rows["document"].to_list()


def _clip(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
