"""Ratings, one row per item and one column per labeler: ``id,text,score1,score2,...``."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Column, Outcome, Rejected, RowError, importer
from rewardloop.feedback.importers.items import Item, ItemOptions, ItemReader, Score, outcomes
from rewardloop.feedback.importers.table import Record, Table, is_missing, number, optional_text


class RatingsWideOptions(ItemOptions):
    """``score`` is a pattern of column names.

    ``#`` stands for a number: score1, score2 are positions, and ``labeler`` (labeler1, labeler2) may hold the ids.
    ``*`` stands for any text: score_anna, score_ben are the scores of labelers anna and ben.
    """

    score: Column = "score#"
    labeler: Column = "labeler#"


class _ScoreColumn(NamedTuple):
    score: str
    labeler_column: str | None
    labeler: str | None

    @property
    def shown(self) -> str:
        """What messages call the column: its name, unless that names a labeler."""
        return self.score if self.labeler is None else "a score"


def _recognizes(table: Table, options: RatingsWideOptions) -> str | None:
    try:
        scores = _matches(options.score, table)
    except BadInputError:  # a plain column: it may be another format's, so it is no mistake here
        return None
    if len(scores) < 2 or options.text not in table.columns:
        return None
    return f"it has a text column {options.text!r} and {len(scores)} columns of scores like {options.score!r}"


@importer(
    "ratings-wide",
    "one row per item, one column per labeler",
    RatingsWideOptions,
    recognizes=_recognizes,
)
def ratings_wide(table: Table, options: RatingsWideOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is an item; an empty score means that the labeler did not rate it."""
    columns = _score_columns(table, options)
    return outcomes(_items(table, columns, options, limits), options, repeats=True, name=table.name)


def _items(
    table: Table, columns: list[_ScoreColumn], options: RatingsWideOptions, limits: ValidationSettings
) -> Iterator[Item | Rejected]:
    reader = ItemReader(table, options, limits)
    cells = [column.score for column in columns if column.labeler is None]
    ids = {column.labeler_column: "cell" for column in columns if column.labeler_column}
    ids |= {column.score: column.labeler for column in columns if column.labeler}
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = reader.row(record, cells, ids)
        try:
            yield reader.item(record, row, _scores(record, columns, options))
        except RowError as error:
            yield Rejected(row, str(error))


def _scores(record: Record, columns: list[_ScoreColumn], options: RatingsWideOptions) -> list[Score]:
    scores: list[Score] = []
    for column in columns:
        cell = record.values.get(column.score)
        if is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
            continue
        labeler = column.labeler
        if column.labeler_column:
            labeler = optional_text(record, column.labeler_column)
            if labeler is None:
                raise RowError(f"{column.labeler_column}: is empty; expected who gave the score in {column.score}")
        scores.append((labeler, number(cell, column.shown, options.scale)))
    return scores


def _matches(pattern: str, table: Table) -> dict[str, str]:
    """What ``#`` or ``*`` stands for -> column."""
    wild = pattern.count("#") + pattern.count("*")
    if wild != 1:
        raise BadInputError(
            f"{pattern!r} is not a pattern of columns; expected one # (a number) or one * (a labeler's name), "
            "for example --column score=Score#"
        )
    expression = re.escape(pattern).replace(r"\#", "#").replace("#", r"(\d+)").replace(r"\*", "(.+)")
    found = ((re.fullmatch(expression, column), column) for column in table.columns)
    return {match.group(1): column for match, column in found if match}


def _score_columns(table: Table, options: RatingsWideOptions) -> list[_ScoreColumn]:
    scores = _matches(options.score, table)
    if not scores:
        raise table.no_column(options, "score")
    if "*" in options.score:
        return [_ScoreColumn(column, None, name) for name, column in scores.items()]
    labelers: Mapping[str, str] = _matches(options.labeler, table)
    if not labelers and "labeler" not in options.model_fields_set:
        return [_ScoreColumn(column, None, None) for column in scores.values()]
    missing = [options.labeler.replace("#", position) for position in scores if position not in labelers]
    if missing:
        raise table.no_column(options, "labeler", missing[0])
    return [_ScoreColumn(column, labelers[position], None) for position, column in scores.items()]
