"""What labels that arrive later say of decisions that were made: the disagreement rate.

In: logged decisions and the batches ingested after them. Out: how often a label contradicts its decision, with exact
intervals. Texts are matched by their hashes, so the log need not hold them. Only labels of a random sample count:
answers that were picked for being hard say nothing of the others.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import polars as pl

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.exact import exact_share
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.drift_reports import DisagreementLine, LateLabels
from rewardloop.preferences.acceptability import acceptability
from rewardloop.preferences.answers import Answers, unfold
from rewardloop.preferences.consensus import consensus
from rewardloop.preferences.groups import pairs_inside
from rewardloop.preferences.opinions import gather
from rewardloop.preferences.segments import weigh_segments
from rewardloop.records import normalize_text, prompt_key, text_digest
from rewardloop.tables import schema

TEXT = ("prompt_hash", "response_hash")
PICKED, REVIEWED, UNDECIDED = "picked on purpose, not at random", "sent to a person", "labels decide nothing"
AGAIN = "another answer of its document counts"
_LATE = schema({"prompt_hash": pl.String, "response_hash": pl.String, "ingested_at": pl.Datetime("us", "UTC")})


class _Verdicts(NamedTuple):
    """``frame``: prompt_hash, response_hash, document, random, acceptable (null: not known); ``source`` in words."""

    frame: pl.DataFrame
    source: str


def late_labels(store: FeedbackStore, decisions: pl.DataFrame, settings: Settings) -> LateLabels:
    """Compare decisions with labels that came after them.

    Args:
        store: with the batches.
        decisions: ``DECISIONS`` of one version.
        settings: ``preferences`` say what acceptable means, ``drift`` the limit, ``evaluation`` confidence and seed.
    """
    late, feedback = _batches_after(store, decisions)
    if feedback.is_empty():
        return LateLabels(acceptability="no labels came after these decisions")
    decided = (
        decisions.drop_nulls("decision")
        .join(late, on=TEXT)
        .filter(pl.col("at") < pl.col("ingested_at"))
        .sort("at")
        .unique(TEXT, keep="last", maintain_order=True)
    )
    try:
        verdicts = _verdicts(feedback, settings)
    except BadInputError as error:  # the source that the configuration asks for says nothing of these answers
        return LateLabels(acceptability=f"not known: {error}")
    labeled = decided.join(verdicts.frame, on=TEXT).with_columns(
        pl.when(~pl.col("random"))
        .then(pl.lit(PICKED))
        .when(pl.col("decision") == "review")
        .then(pl.lit(REVIEWED))
        .when(pl.col("acceptable").is_null())
        .then(pl.lit(UNDECIDED))
        .alias("why")
    )
    judged = labeled.filter(pl.col("why").is_null())
    # Answers of one document are not independent; which of them counts must not depend on the verdict.
    one_each = judged.sort(TEXT).sample(fraction=1.0, shuffle=True, seed=settings.evaluation.seed)
    counted = one_each.unique("document", keep="first", maintain_order=True)
    left_out = dict(sorted(labeled.drop_nulls("why").group_by("why").len().iter_rows()))
    if len(counted) < len(judged):
        left_out[AGAIN] = len(judged) - len(counted)
    return LateLabels(
        acceptability=verdicts.source,
        left_out=left_out,
        lines=[_line(segment, part, settings) for segment, part in _segments(counted)],
    )


def text_hashes(feedback: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """(prompt hash, response hash) of every answer of ``FEEDBACK`` rows, as decisions are logged with."""
    for prompt, responses in feedback.select("prompt", "responses").iter_rows():
        key = prompt_key((turn["role"], turn["content"]) for turn in prompt)
        for response in responses:
            yield key, text_digest(normalize_text(response["content"]))


def _batches_after(store: FeedbackStore, decisions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``_LATE`` (when each text's last labels came), and the records of all batches since the first decision."""
    inside = {batch.digest for batch in store.current_corpus().batches}
    first: Any = decisions["at"].min()
    batches = [batch for batch in store.batches() if batch.digest in inside and first and batch.ingested_at > first]
    frames, rows = [], []
    for batch in batches:
        frames.append(store.read_batch(batch.digest).with_columns(batch=pl.lit(batch.digest)))
        rows += [(*keys, batch.ingested_at) for keys in text_hashes(frames[-1])]
    late = pl.DataFrame(rows, schema=_LATE, orient="row").group_by(TEXT).agg(pl.col("ingested_at").max())
    return late, pl.concat(frames) if frames else pl.DataFrame()


def _verdicts(feedback: pl.DataFrame, settings: Settings) -> _Verdicts:
    preferences = settings.preferences
    unfolded = unfold(feedback)
    values = weigh_segments(unfolded.values, preferences.segments)
    on_criterion = values.filter(criterion=preferences.criterion)
    rated = on_criterion.filter(kind="rating").group_by("answer").agg(pl.col("value").mean().alias("rating"))
    accepted, source = acceptability(
        values,
        rated,
        _pairs(unfolded, on_criterion, settings),
        preferences.acceptable_rating,
        preferences.acceptable_from,
    )
    answers = (
        unfolded.answers.join(unfolded.groups.select("group", "prompt", "document", "random"), on="group")
        .join(accepted, on="answer", how="left")
        .with_columns(
            pl.col("prompt")
            .map_elements(lambda turns: prompt_key((t["role"], t["content"]) for t in turns), return_dtype=pl.String)
            .alias("prompt_hash"),
            pl.col("response")
            .map_elements(lambda text: text_digest(normalize_text(text)), return_dtype=pl.String)
            .alias("response_hash"),
        )
    )
    # Records may list one text beside different others; where they disagree on it, nothing is decided.
    decided = pl.col("acceptable").drop_nulls()
    frame = answers.group_by(TEXT).agg(
        pl.col("document").min(),
        pl.col("random").any(),
        pl.when(decided.n_unique() == 1).then(decided.first()).alias("acceptable"),
    )
    return _Verdicts(frame, source)


def _pairs(unfolded: Answers, on_criterion: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """a, b, p of the answers that were compared inside their groups, as ``preferences.build`` finds them."""
    answers = unfolded.answers.with_columns(bunch="group")
    candidates = pairs_inside(answers, "bunch")
    if candidates.is_empty() or on_criterion.is_empty():
        return pl.DataFrame(schema={"a": pl.UInt32, "b": pl.UInt32, "p": pl.Float64})
    opinions = gather(
        candidates,
        answers,
        on_criterion,
        everybody=on_criterion,
        settings=settings.preferences.reliability,
        seed=settings.evaluation.seed,
    )
    found = consensus(candidates, opinions.votes, opinions.values)
    return found.filter(pl.col("comparisons") >= settings.preferences.min_votes).select("a", "b", "p")


def _segments(counted: pl.DataFrame) -> Iterator[tuple[str | None, pl.DataFrame]]:
    yield None, counted
    names = counted["segment"].drop_nulls().unique().sort().to_list()
    for name in names if len(names) > 1 else []:
        yield name, counted.filter(segment=name)


def _line(segment: str | None, part: pl.DataFrame, settings: Settings) -> DisagreementLine:
    accepted, blocked = part.filter(decision="accept"), part.filter(decision="block")
    let_through = int((~accepted["acceptable"]).sum())
    kept_back = int(blocked["acceptable"].sum())
    confidence, limit = settings.evaluation.confidence, settings.drift.max_disagreement
    share = exact_share(let_through + kept_back, len(part), confidence, "labeled decisions")
    return DisagreementLine(
        segment=segment,
        labeled=len(part),
        disagreement=share,
        unacceptable_among_accepted=exact_share(let_through, len(accepted), confidence, "accepted answers"),
        acceptable_among_blocked=exact_share(kept_back, len(blocked), confidence, "blocked answers"),
        drifted=limit is not None and share is not None and share.low > limit,
    )
