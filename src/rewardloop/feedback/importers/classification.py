"""Labeled classification data: ``text,label``, where a label says whether the text is wanted or not."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    RowError,
    Taken,
    content_id,
    importer,
)
from rewardloop.feedback.importers.quoting import quoted
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row, text_of
from rewardloop.records import Acceptable, FeedbackGroup, Message, Response

_WHOLE = re.compile(r"(-?\d+)\.0+")
"""A whole number as tables write it once a label is missing somewhere in its column."""


def _listed(value: Any) -> Any:
    return tuple(_name(part) for part in value.split(",")) if isinstance(value, str) else value


def _name(value: str | int | float) -> str:
    text = str(value).strip().casefold()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


_Values = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class ClassificationOptions(LabelOptions):
    """Which label values are wanted (``positive``) and unwanted; compared without regard to case, 1.0 as 1."""

    text: Column = "text"
    label: Column = "label"
    id: Column = "id"
    prompt: Column = "prompt"
    segment: Column = "segment"
    document: Column = "document"
    labeler: Column = "labeler"
    positive: _Values = ("1", "pos", "positive", "true")
    negative: _Values = ("0", "neg", "negative", "false")

    @model_validator(mode="after")
    def _apart(self) -> "ClassificationOptions":
        both = set(self.positive) & set(self.negative)
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is both positive and negative")
        return self


def _recognizes(table: Table, options: ClassificationOptions) -> str | None:
    if options.text not in table.columns or options.label not in table.columns:
        return None
    names = [_label(record, options) for record in table.first]
    positive, negative = (sum(name in known for name in names) for known in (options.positive, options.negative))
    neither = len(names) - positive - negative
    # Who says which labels count may well leave some out; the default lists fit a 1 of five stars, too.
    said = bool({"positive", "negative"} & options.model_fields_set)
    if neither and (not said or not positive + negative):
        return None
    found = f"{positive} positive of {len(names)}{f', {neither} neither' if neither else ''}"
    return f"it has a text column {options.text!r} and labels in {options.label!r} ({found})"


def _label(record: Record, options: ClassificationOptions) -> str | None:
    value = record.values.get(options.label)
    return _name(value) if isinstance(value, str | int | float) else None


def _positive(record: Record, options: ClassificationOptions) -> bool:
    label, value = _label(record, options), record.values.get(options.label)
    if label in options.positive:
        return True
    if label in options.negative:
        return False
    raise RowError(
        f"{options.label}: found {quoted(str(value))}; expected positive ({', '.join(options.positive)}) or negative "
        f"({', '.join(options.negative)})"
    )


@importer(
    "classification",
    "a text and a label that says whether it is wanted",
    ClassificationOptions,
    recognizes=_recognizes,
)
def classification(table: Table, options: ClassificationOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each row is one text with an ``acceptable`` label."""
    text_column = table.required_column(options, "text")
    label_column = table.required_column(options, "label")
    names = ("id", "prompt", "segment", "document", "labeler")
    columns = {name: table.column(options, name) for name in names}
    labeler_column = columns["labeler"]
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        keep = [text_column, label_column, *(column for name, column in columns.items() if name != "labeler")]
        row = raw_row(record, keep=keep, labelers={labeler_column: "cell"} if labeler_column else {})
        try:
            cells = {name: optional_text(record, column) for name, column in columns.items()}
            text = text_of(record, text_column)
            wanted = _positive(record, options)
        except RowError as error:
            yield Rejected(row, str(error))
            continue
        item = cells["id"] or content_id(cells["prompt"] or "", text)
        group = FeedbackGroup(
            group_id=item,
            document_id=cells["document"],
            prompt=(Message(role="user", content=cells["prompt"]),) if cells["prompt"] else (),
            responses=(Response(response_id=item, content=text),),
            labels=(
                Acceptable(
                    labeler=cells["labeler"],
                    labeler_kind=options.labeler_kind,
                    criterion=options.criterion,
                    values={item: wanted},
                ),
            ),
            segment=cells["segment"] or options.default_segment,
            source=options.source,
            sampling=options.sampling,
        )
        yield Taken(group, (row,))
