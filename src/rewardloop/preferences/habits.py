"""What each labeler's votes look like: agreement with the others, position and length of what he prefers.

In: weighted votes. Out: counts and shares by labeler and segment, all computed at once. Votes of one labeler on one
group are not independent: an order of K answers makes K (K - 1) / 2 votes of which K - 1 say something new, so counts
for tests and intervals are brought down to that.
"""

import polars as pl

from rewardloop.preferences.reliability import LABELER

_PAIR = ["a", "b", "segment"]
_TIE = 1e-9
"""A share so near to one half is a tie; sums of weights are not exact."""


def facts(cast: pl.DataFrame, pairs: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """who, segment and, for labelers with an identity:

    votes; agreement (share of votes on the side of the others' weighted vote, ties one half) and compared;
    first (share of decided votes for the answer that the record lists first), first_expected and last_expected (by what
    others do in the same batches and segment, at least one half) and placed; longer (share of decided votes for the
    longer answer), longer_expected (the segment's others) and unequal; first_against, last_against, longer_against: the
    same shares where the others prefer the other answer.
    ``compared``, ``placed`` and ``unequal`` are the independent comparisons behind the shares; unknown shares are null.
    """
    # Votes on pairs of one length or none listed before the other are votes all the same, hence the nulls.
    length = answers.select("answer", pl.col("response").str.len_chars().cast(pl.Int64).alias("length"))
    side = (pl.col("vote") - 0.5).sign()
    chosen = pl.when(side != 0).then(side)
    lead = pl.col("others") - 0.5
    opinion = pl.when(lead.abs() <= _TIE).then(0.0).otherwise(lead.sign())
    longer = (pl.col("length") - pl.col("length_b")).sign().cast(pl.Float64)
    table = (
        cast.join(length, left_on="a", right_on="answer")
        .join(length, left_on="b", right_on="answer", suffix="_b")
        .with_columns(_others().alias("others"))
        .with_columns(
            (1 - (side - opinion).abs() / 2).alias("agrees"),
            (chosen * pl.col("first") / 2 + 0.5).alias("prefers_first"),
            (chosen * pl.when(longer != 0).then(longer) / 2 + 0.5).alias("prefers_longer"),
            (opinion * longer < 0).fill_null(False).alias("shorter_is_better"),
            (opinion * pl.col("first")).fill_null(0).alias("first_is_better"),
        )
    )
    named = table.filter(pl.col("who") > 0)
    return (
        named.group_by(LABELER)
        .agg(
            pl.len().alias("votes"),
            pl.col("agrees").mean().alias("agreement"),
            pl.col("agrees").count().alias("compared"),
            pl.col("prefers_longer").mean().alias("longer"),
            pl.col("prefers_longer").count().alias("unequal"),
            pl.col("prefers_longer").filter("shorter_is_better").mean().alias("longer_against"),
            pl.col("prefers_first").filter(pl.col("first_is_better") < 0).mean().alias("first_against"),
            (1 - pl.col("prefers_first").filter(pl.col("first_is_better") > 0).mean()).alias("last_against"),
        )
        .join(_by_position(table), on=LABELER, how="left", nulls_equal=True)
        .join(_longer_expected(table), on=LABELER, how="left", nulls_equal=True)
        .join(_independent(named, pairs), on=LABELER, how="left", nulls_equal=True)
        .with_columns(
            (pl.col(name).fill_null(0) * pl.col("independent") / pl.col("votes")).alias(name)
            for name in ("compared", "placed", "unequal")
        )
        .drop("independent")
    )


def independent(table: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """``by`` and ``independent``: of the pairs (a, b) compared in each ``bunch``, at most (answers - 1) count."""
    key = [*by, "bunch"]
    sides = pl.concat([table.select(*key, pl.col(side).alias("answer")) for side in ("a", "b")]).unique()
    return (
        table.group_by(key)
        .len("pairs")
        .join(sides.group_by(key).len("answers"), on=key, nulls_equal=True)
        .group_by(by)
        .agg(pl.min_horizontal("pairs", pl.col("answers") - 1).sum().cast(pl.Float64).alias("independent"))
    )


def _independent(named: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    return independent(named.join(pairs.select("a", "b", "bunch"), on=["a", "b"]), LABELER)


def _others() -> pl.Expr:
    """The weighted share of everybody else's votes on the same pair in the same segment; null where there are none."""
    weight, vote = pl.col("weight"), pl.col("vote")
    rest = weight.sum().over(_PAIR) - weight
    weighted = ((weight * vote).sum().over(_PAIR) - weight * vote) / rest
    count = pl.len().over(_PAIR) - 1
    plain = (vote.sum().over(_PAIR) - vote) / count
    return pl.when(count > 0).then(pl.when(rest > _TIE).then(weighted).otherwise(plain))


def _by_position(table: pl.DataFrame) -> pl.DataFrame:
    """Shares by batch and segment: a format that lists what was chosen first does so for everybody in the batch."""
    placed = table.filter(pl.col("prefers_first").is_not_null())
    value, count, rest = pl.col("prefers_first"), pl.len(), pl.col("all") - pl.col("own")
    everybody = placed.group_by("batch", "segment").agg(count.alias("all"), value.sum().alias("all_first"))
    persons = placed.group_by(*LABELER, "batch").agg(count.alias("own"), value.sum().alias("own_first"))
    others = (
        persons.join(everybody, on=["batch", "segment"], nulls_equal=True)
        .filter(rest > 0)
        .select(*LABELER, "batch", ((pl.col("all_first") - pl.col("own_first")) / rest).alias("share"))
    )
    share = pl.col("share")
    return (
        placed.filter(pl.col("who") > 0)
        .join(others, on=[*LABELER, "batch"], nulls_equal=True)
        .group_by(LABELER)
        .agg(
            value.mean().alias("first"),
            pl.max_horizontal(share, 0.5).mean().alias("first_expected"),
            pl.max_horizontal(1 - share, 0.5).mean().alias("last_expected"),
            count.alias("placed"),
        )
    )


def _longer_expected(table: pl.DataFrame) -> pl.DataFrame:
    unequal = table.filter(pl.col("prefers_longer").is_not_null())
    value, count = pl.col("prefers_longer"), pl.len()
    everybody = unequal.group_by("segment").agg(count.alias("all"), value.sum().alias("all_longer"))
    rest = pl.col("all") - pl.col("own")
    return (
        unequal.filter(pl.col("who") > 0)
        .group_by(LABELER)
        .agg(count.alias("own"), value.sum().alias("own_longer"))
        .join(everybody, on="segment", nulls_equal=True)
        .filter(rest > 0)
        .select(*LABELER, ((pl.col("all_longer") - pl.col("own_longer")) / rest).alias("longer_expected"))
    )
