"""What there is to judge: files of answers without labels, files of feedback, or a batch of the store.

In: paths or a digest. Out: groups with their prompt and answers, and the labels that people gave them, if any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Row, Taken, choose, content_id
from rewardloop.feedback.importers.table import Record, Table
from rewardloop.feedback.importers.whole import tables_of
from rewardloop.feedback.protection import Protection
from rewardloop.feedback.pseudonyms import pseudonymized
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore
from rewardloop.modeling.scoring.encoding import as_messages
from rewardloop.records import FeedbackGroup, Message, Response, Sampling
from rewardloop.tables import feedback_frame

_EXPECTED = "expected JSON lines with prompt (text or messages) and responses (texts, or objects with content)"


@dataclass(frozen=True)
class Item:
    """One group to judge; the fields are those of ``FeedbackGroup``."""

    group_id: str
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]
    document_id: str | None = None
    segment: str | None = None
    source: str | None = None
    sampling: Sampling = "random"

    def labeled(self, labels: Sequence[Mapping[str, Any]]) -> FeedbackGroup:
        """The group with these labels."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return FeedbackGroup.model_validate(fields | {"labels": list(labels)})


def read_items(
    paths: Sequence[Path],
    settings: Settings,
    store: FeedbackStore,
    *,
    key: bytes,
    format: str = "auto",
    options: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Item], pl.DataFrame]:
    """Groups of files, and the labels that come with them as a ``FEEDBACK`` table.

    Args:
        paths: answers without labels, as ``sample-responses`` writes them, or any format of feedback.
        settings: limits of texts, and of what is read.
        store: what some formats look things up in.
        key: of the pseudonyms, so that labelers are who they are in the store.
        format, options, columns: as for ``rewardloop ingest``.

    Raises:
        BadInputError: a file or a row of it cannot be used; the row is named.
    """
    tables = tables_of(read_sources(paths, limit=settings.store.max_read_bytes), format, store.storage)
    # What the store may not have, because it names people or was forgotten, no judge shall see either.
    protection = Protection.of(store.storage, settings.privacy, key)
    if format == "auto" and all(_is_unlabeled(table) for table in tables):
        unlabeled = (Taken(group, (Row("", None),)) for table in tables for group in _unlabeled(table))
        allowed = [outcome.group for outcome in protection.over(unlabeled) if isinstance(outcome, Taken)]
        return _distinct([_of_group(group) for group in allowed]), feedback_frame([])
    choice = choose(tables, format, options or {}, columns or {})
    groups = [
        pseudonymized(outcome.group, key)
        for table in tables
        for outcome in protection.over(choice.importer.read(table, choice.options, settings.validation))
        if isinstance(outcome, Taken)
    ]
    if not groups:
        raise BadInputError(f"{tables[0].name}: no row can be judged; see what rewardloop ingest says of it")
    return _distinct([_of_group(group) for group in groups]), feedback_frame(("", group) for group in groups)


def items_of_batch(store: FeedbackStore, prefix: str) -> list[Item]:
    """Groups of a batch of the store; its labels are part of the store's corpus."""
    frame = store.read_batch(store.batch(prefix).digest)
    names = ("group_id", "prompt", "responses", "document_id", "segment", "source", "sampling")
    rows = frame.select(names).iter_rows(named=True)
    return _distinct(
        [
            Item(
                **row
                | {
                    "prompt": tuple(Message(**message) for message in row["prompt"]),
                    "responses": tuple(Response(**response) for response in row["responses"]),
                }
            )
            for row in rows
        ]
    )


def _is_unlabeled(table: Table) -> bool:
    return table.shape != "table" and all(
        "responses" in record.values and "labels" not in record.values for record in table.first
    )


def _unlabeled(table: Table) -> list[FeedbackGroup]:
    """Groups with a label that nobody gave, so that they are checked and protected as any others are."""
    found = []
    for record in table.rows():
        if not isinstance(record, Record):
            raise BadInputError(f"{record.row.place}: {record.reason}; {_EXPECTED}")
        try:
            found.append(_item(record.values))
        except (ValueError, TypeError, KeyError) as error:
            raise BadInputError(f"{record.place}: {_words(error)}; {_EXPECTED}") from error
    return found


def _item(values: Mapping[str, Any]) -> FeedbackGroup:
    listed = values["responses"]
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"responses: found {type(listed).__name__}, empty or no list")
    responses = tuple(_response(number, one) for number, one in enumerate(listed))
    prompt = tuple(Message.model_validate(message) for message in as_messages(values.get("prompt")))
    texts = [message.content for message in prompt] + [response.content for response in responses]
    known = {
        name: str(values[name]) for name in ("document_id", "segment", "source") if values.get(name) not in (None, "")
    }
    group_id = str(values.get("group_id") or values.get("id") or content_id(*texts))
    item = Item(group_id, prompt, responses, sampling=values.get("sampling") or "random", **known)
    return item.labeled([{"kind": "rating", "scores": {response.response_id: 0 for response in responses}}])


def _response(number: int, one: Any) -> Response:
    if isinstance(one, str):
        return Response(response_id=str(number), content=one)
    if not isinstance(one, Mapping):
        raise ValueError(f"response {number}: found {type(one).__name__}")
    content = one.get("content", one.get("text"))
    if not isinstance(content, str):
        raise ValueError(f"response {number}: has no content")
    return Response(response_id=str(one.get("response_id", number)), content=content, model=one.get("model"))


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return str(error)


def _of_group(group: FeedbackGroup) -> Item:
    return Item(**{name: getattr(group, name) for name in Item.__dataclass_fields__})


def _distinct(items: list[Item]) -> list[Item]:
    """Of several with the same prompt and answers the first: rows of one group differ in their labels only."""
    found = {(item.prompt, frozenset(one.content for one in item.responses)): item for item in reversed(items)}
    return list(reversed(found.values()))
