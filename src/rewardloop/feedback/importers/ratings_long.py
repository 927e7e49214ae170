"""Ratings, one row per item and labeler: ``id,text,labeler,score``."""

from collections.abc import Iterator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Column, Outcome, Rejected, RowError, importer
from rewardloop.feedback.importers.items import Item, ItemOptions, ItemReader, outcomes
from rewardloop.feedback.importers.table import Table, number, optional_text


class RatingsLongOptions(ItemOptions):
    """Without a ``labeler`` column the ratings are anonymous."""

    labeler: Column = "labeler"
    score: Column = "score"


def _recognizes(table: Table, options: RatingsLongOptions) -> str | None:
    needed = (options.text, options.labeler, options.score)
    if not set(needed) <= set(table.columns):
        return None
    return "it has the columns {!r}, {!r} and {!r}".format(*needed)


@importer("ratings-long", "one row per item and labeler", RatingsLongOptions, recognizes=_recognizes)
def ratings_long(table: Table, options: RatingsLongOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Rows of one id (of one text, where there are no ids) are the ratings of one item."""
    return outcomes(_items(table, options, limits), options, repeats=False, name=table.name)


def _items(table: Table, options: RatingsLongOptions, limits: ValidationSettings) -> Iterator[Item | Rejected]:
    reader = ItemReader(table, options, limits)
    score_column = table.required_column(options, "score")
    labeler_column = table.column(options, "labeler")
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = reader.row(record, [score_column], {labeler_column: "cell"} if labeler_column else {})
        try:
            labeler = optional_text(record, labeler_column)
            if labeler_column and labeler is None:
                raise RowError(f"{labeler_column}: is empty; expected who gave the score")
            score = number(record.values.get(score_column), score_column, options.scale)
            yield reader.item(record, row, [(labeler, score)])
        except RowError as error:
            yield Rejected(row, str(error))
