"""The weights of a large corpus's labelers: of a first sample, and of a second one where there are newcomers.

In: a ``LargeCorpus``. Out: what ``sampling`` finds, kept until the sample is drawn anew.
"""

from collections.abc import Collection, Sequence

import polars as pl

from rewardloop.preferences.large_corpus import LargeCorpus
from rewardloop.preferences.sampling import (
    KIND,
    Judged,
    covered,
    draw,
    judge,
    judged_files,
    newcomers,
    read_judged,
    sample_key,
    with_newcomers,
)
from rewardloop.preferences.survey import as_number


def weigh_labelers(corpus: LargeCorpus, large: int) -> Judged:
    """What the sample tells, and where there are newcomers what a second one tells of them.

    Args:
        corpus: with facts of every batch.
        large: rows from which on a corpus is large.
    """
    at_most = corpus.given.preferences.reliability.max_votes_per_labeler
    count = covered(corpus.facts, large)
    old = list(range(count))
    key = _key(corpus, old)
    first = read_judged(corpus.kept, key, corpus.folder / "sample")
    if first is None:
        first = _look(corpus, key, draw(corpus.who_judged(old), at_most), old, old)
    new = newcomers(corpus.facts, count)
    theirs = [place for place in range(count, len(corpus.facts)) if not new.isdisjoint(corpus.facts[place].labelers)]
    if not theirs:
        return first
    key = _key(corpus, [*old, *theirs], first=key)
    second = read_judged(corpus.kept, key, corpus.folder / "newcomers")
    if second is None:
        who = pl.DataFrame(sorted(new, key=str), schema={"labeler": pl.String, "segment": pl.String}, orient="row")
        asked = corpus.who_judged(theirs).with_columns(pl.col("labeler").cast(pl.String))
        asked = asked.join(who, on=["labeler", "segment"], how="semi", nulls_equal=True)
        second = _look(corpus, key, draw(asked, at_most), [*old, *theirs], theirs, beside=first.sample)
    return with_newcomers(first, second, new, corpus.given)


def _key(corpus: LargeCorpus, places: Sequence[int], **more: str) -> str:
    batches = [corpus.snapshot.batches[place] for place in places]
    return sample_key([batch.content for batch in batches], corpus.ages(batches), corpus.given, **more)


def _look(
    corpus: LargeCorpus,
    key: str,
    wanted: pl.Series,
    places: Sequence[int],
    among: Collection[int],
    beside: pl.DataFrame | None = None,
) -> Judged:
    """Look at the rows of some batches with the contents ``wanted``, and keep what they tell.

    Args:
        corpus: has the rows.
        key: names the sample.
        wanted: contents, as numbers.
        places: of the batches.
        among: of the batches one of which has each of the contents: rows of other batches with the same content are in
            the same parts.
        beside: rows that are in the sample, too.
    """
    parts = [number for number, part in enumerate(corpus.plan.parts) if set(among) & set(part.batches)]
    corpus.dealer.deal(parts)
    digests = [corpus.snapshot.batches[place].digest for place in places]
    sample = pl.concat(
        [
            rows.filter(as_number("content").is_in(wanted.implode()), pl.col("batch").is_in(digests))
            for rows in map(corpus.dealer.rows, parts)
        ]
    )
    if beside is not None:
        sample = pl.concat([beside.select(sample.columns), sample])
    # A shared document's rows are in two parts.
    judged = judge(corpus.dealer.weighted(sample.unique("record"), places), corpus.given)
    corpus.keep(KIND, key, judged_files(judged, corpus.folder / f"judged-{key[:12]}"), places)
    return judged
