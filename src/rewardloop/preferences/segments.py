"""Whose labels count, by segment, and how far segments agree with each other.

In: the feedback's values and votes. Out: values with the weights that ``preferences.segments`` gives, and one line of
evidence per segment. A group of people that consistently disagrees with the rest is not noise; whether it is followed,
weighed or trained apart is a choice.
"""

import polars as pl

from rewardloop.agreement import Agreement
from rewardloop.config import SegmentSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import Estimate, SegmentLine
from rewardloop.exact import exact_interval
from rewardloop.preferences.consensus import shares
from rewardloop.preferences.habits import independent

OTHER_SEGMENT = "only labels of a segment that does not count (preferences.segments)"


def check_segments(settings: SegmentSettings, feedback: pl.DataFrame) -> None:
    """Raise BadInputError where the configuration names a segment that the feedback does not have."""
    known = feedback["segment"].drop_nulls().unique().sort().to_list()
    for place, names in (("weights", list(settings.weights)), ("only", [settings.only] if settings.only else [])):
        for name in names:
            if name not in known:
                have = f"segments of this corpus: {', '.join(map(repr, known))}" if known else "this corpus has none"
                raise BadInputError(f"preferences.segments.{place}: {name!r} is no segment; {have}")


def weight_of(settings: SegmentSettings, segment: str | None) -> float:
    """What a vote of ``segment`` counts; 0: its labels are left out."""
    if settings.mode == "only":
        return float(segment == settings.only)
    return settings.weights.get(segment, 1.0) if segment is not None else 1.0


def weigh_segments(values: pl.DataFrame, settings: SegmentSettings) -> pl.DataFrame:
    """``Answers.values`` with their ``weight`` times that of the segment, without those that do not count."""
    table = values.select("segment").unique()
    weights = [weight_of(settings, segment) for segment in table["segment"]]
    return (
        values.join(
            table.with_columns(pl.Series("factor", weights, dtype=pl.Float64)),
            on="segment",
            nulls_equal=True,
            maintain_order="left",
        )
        .filter(pl.col("factor") > 0)
        .with_columns(pl.col("weight") * pl.col("factor"))
        .drop("factor")
    )


def between_segments(cast: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, dict[str, Estimate]]:
    """Segment -> other segment -> share of the pairs judged in both on which both prefer the same answer.

    Each segment's opinion is its own weighted vote; a tie of one of them counts one half, ties of both agree.

    Args:
        cast: ``consensus.votes`` of all segments.
        pairs: a, b, bunch.
    """
    opinion = (
        shares(cast.filter(pl.col("segment").is_not_null()), "segment")
        .select("a", "b", "segment", (pl.col("p") - 0.5).sign().alias("side"))
        .join(pairs.select("a", "b", "bunch"), on=["a", "b"])
    )
    both = opinion.join(opinion.drop("bunch"), on=["a", "b"], suffix="_b").filter(
        pl.col("segment") != pl.col("segment_b")
    )
    by = ["segment", "segment_b"]
    table = (
        both.group_by(by)
        .agg((1 - (pl.col("side") - pl.col("side_b")).abs() / 2).mean().alias("agreement"), pl.len().alias("pairs"))
        .join(independent(both, by), on=by)
        .sort(by)
    )
    low, high = exact_interval(table["agreement"].to_numpy(), table["independent"].to_numpy())
    found: dict[str, dict[str, Estimate]] = {}
    for row, (one, other, value, count) in enumerate(table.select(*by, "agreement", "pairs").iter_rows()):
        estimate = Estimate(value=value, low=float(low[row]), high=float(high[row]), count=count, unit="pairs")
        found.setdefault(one, {})[other] = estimate
    return found


def segment_lines(
    feedback: pl.DataFrame,
    criterion: str,
    settings: SegmentSettings,
    within: dict[str, Agreement],
    between: dict[str, dict[str, Estimate]],
) -> list[SegmentLine]:
    """One line per segment of the feedback.

    Args:
        feedback: ``FEEDBACK`` rows.
        criterion: which labels count.
        settings: ``preferences.segments``.
        within: segment -> agreement on the criterion inside it.
        between: ``between_segments``.
    """
    labels = feedback.select("segment", "labels").explode("labels").unnest("labels").filter(criterion=criterion)
    counts = dict(labels.group_by("segment").len().iter_rows())
    return [
        SegmentLine(
            segment=segment,
            weight=weight_of(settings, segment),
            labelers=found.labelers,
            labels=counts.get(segment, 0),
            alpha=found.alpha,
            low=found.low,
            high=found.high,
            agreement=between.get(segment, {}),
        )
        for segment, found in sorted(within.items())
    ]
