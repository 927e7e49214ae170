"""Importer of the VADER study's ratings: how positive a text is, from -4 to 4, by some twenty people each (Hutto and
Gilbert 2014, MIT licence).

    rewardloop ingest tweets_GroundTruth.txt --importer docs/examples/vader.py \
        --option ratings=tweets_anonDataRatings.txt --option default_segment=tweets

In: two tables with tabs and no header: ``id, mean, text``, and ``id, mean, spread, list of ratings``. Out: one group of
one response per text, with an anonymous ``rating`` for each number. Where the two files give a text different means,
its ratings may be those of another text: such rows are refused, not averaged away.
"""

import io
import json
from collections.abc import Iterator, Mapping

from pydantic import Field

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import LabelOptions, Outcome, Rejected, Row, RowError, Taken, importer
from rewardloop.feedback.importers.beside import Beside
from rewardloop.feedback.importers.table import Table, number
from rewardloop.records import FeedbackGroup, Rating, Response

SCALE = (-4.0, 4.0)


class VaderOptions(LabelOptions):
    """``ratings``: the other file. ``tolerance``: how far apart two means are that are still the same one; some of the
    files are rounded to two digits."""

    criterion: str = "sentiment"
    ratings: Beside | None = None
    tolerance: float = Field(default=0.01, ge=0)


@importer(
    "vader",
    "the VADER study's two files of a genre",
    VaderOptions,
    recognizes=lambda table, options: None,
    whole=True,
)
def vader(table: Table, options: VaderOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each line of the file of texts is a row."""
    if options.ratings is None:
        raise BadInputError(f"{table.name}: name the file with its ratings: --option ratings=FILE")
    ratings = _ratings(options.ratings)
    for place, cells in _lines(table.name, table.text):
        row = Row(place, {"id": cells[0], "cells": cells[1:]})
        try:
            yield Taken(_group(cells, ratings, options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def _group(cells: list[str], ratings: Mapping[str, tuple[float, list[float]]], options: VaderOptions) -> FeedbackGroup:
    if len(cells) != 3:
        raise RowError(f"has {len(cells)} cells; expected id, mean and text")
    name, mean, text = cells[0], number(cells[1], "mean", SCALE), cells[2].strip()
    if name not in ratings:
        raise RowError(f"id {name!r} has no ratings in {options.ratings.name if options.ratings else 'the other file'}")
    other, scores = ratings[name]
    if abs(other - mean) > options.tolerance:
        raise RowError(f"the mean is {mean:g} here and {other:g} in the file of ratings, which may be of another text")
    document, _, sentence = name.partition("_")  # 12_3 is the third sentence of review or article 12
    return FeedbackGroup(
        group_id=f"{options.default_segment or options.source or ''}{name}",
        document_id=document if sentence else None,
        responses=(Response(response_id=name, content=text),),
        labels=tuple(
            Rating(labeler_kind=options.labeler_kind, criterion=options.criterion, scores={name: score}, scale=SCALE)
            for score in scores
        ),
        segment=options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _ratings(file: Beside) -> dict[str, tuple[float, list[float]]]:
    """id -> (mean, ratings)."""
    result: dict[str, tuple[float, list[float]]] = {}
    for place, cells in _lines(file.name, file.text):
        try:
            name, mean, _, listed = cells
            scores = [number(score, "rating", SCALE) for score in json.loads(listed)]
            result[name] = (number(mean, "mean", SCALE), scores)
        except (ValueError, TypeError) as error:
            raise BadInputError(f"{place}: {error}; expected id, mean, spread and a list of ratings") from error
    return result


def _lines(name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """(place, cells): no quoting, since a quote in these files is a part of the text."""
    for place, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield f"{name}:{place}", line.strip("\n").split("\t")
