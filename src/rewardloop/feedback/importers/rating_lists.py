"""Ratings by people without identity, all in one cell: ``id,text,ratings`` with ratings like ``[3, 2, 4]``."""

import json
from collections.abc import Iterator
from typing import Any

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Column, Outcome, Rejected, RowError, importer
from rewardloop.feedback.importers.items import Item, ItemOptions, ItemReader, outcomes
from rewardloop.feedback.importers.table import Record, Table, number


class RatingListsOptions(ItemOptions):
    """``ratings`` holds a JSON list of numbers."""

    ratings: Column = "ratings"


def _recognizes(table: Table, options: RatingListsOptions) -> str | None:
    if options.text not in table.columns or options.ratings not in table.columns:
        return None
    # One list of numbers is enough: a row without is a row's mistake, and gets a reason.
    if not any(_is_rated(record, options.ratings) for record in table.first):
        return None
    return f"it has a text column {options.text!r} and lists of numbers in {options.ratings!r}"


def _is_rated(record: Record, column: str) -> bool:
    """Whether there are numbers in a list, be they usable or not."""
    try:
        return bool([float(rating) for rating in _list(record.values.get(column), column)])
    except (RowError, TypeError, ValueError, OverflowError):
        return False


@importer(
    "rating-lists", "one row per item, its anonymous ratings as a list", RatingListsOptions, recognizes=_recognizes
)
def rating_lists(table: Table, options: RatingListsOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is an item; the position inside the list says nothing about who rated."""
    return outcomes(_items(table, options, limits), options, repeats=True, name=table.name)


def _items(table: Table, options: RatingListsOptions, limits: ValidationSettings) -> Iterator[Item | Rejected]:
    reader = ItemReader(table, options, limits)
    column = table.required_column(options, "ratings")
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = reader.row(record, [column], {})
        try:
            ratings = _list(record.values.get(column), column)
            yield reader.item(record, row, [(None, number(rating, column, options.scale)) for rating in ratings])
        except RowError as error:
            yield Rejected(row, str(error))


def _list(cell: Any, column: str) -> list[Any]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise RowError(f"{column}: is not a list like [3, 2, 4]") from None
    if not isinstance(cell, list):
        raise RowError(f"{column}: is not a list like [3, 2, 4]")
    return cell
