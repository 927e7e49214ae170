"""Rated texts, one at a time, become feedback groups: shared by the importers of ratings.

In: items (a text with the scores that some rows of the file gave it). Out: outcomes. Rows of one id are brought
together, an id with several texts is refused, and items are grouped: answers to one prompt, or texts rated by the same
labelers.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    Repeated,
    Row,
    RowError,
    Scale,
    Taken,
    content_id,
    length_problem,
)
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row, text_of
from rewardloop.records import FeedbackGroup, Message, Rating, Response

Score = tuple[str | None, float]
"""(labeler or None, score)."""


class ItemOptions(LabelOptions):
    """Columns and choices that all formats of ratings share; only ``text`` must be there.

    ``id`` may join columns (``Community+Id``) where ids are unique inside something only. ``group``: answers to one
    prompt make a group, texts without a prompt stay single; or the texts that the same set of labelers rated, prompt by
    prompt where there are any.
    """

    text: Column = "text"
    id: Column = "id"
    prompt: Column = "prompt"
    segment: Column = "segment"
    document: Column = "document"
    scale: Scale = None
    group: Literal["prompt", "labelers"] = "prompt"


@dataclass
class Item:
    """A text, where it stands and how it was scored; one row of the file, or several of one id."""

    id: str
    text: str
    prompt: str | None
    segment: str | None
    document: str | None
    scores: list[Score]
    rows: list[Row] = field(default_factory=list)
    anonymous: list[list[float]] = field(default_factory=list)
    """Anonymous scores row by row, to tell a repeated row."""
    has_id: bool = True
    """False where the id was made from the text."""

    def messages(self) -> tuple[Message, ...]:
        """The prompt as messages."""
        return (Message(role="user", content=self.prompt),) if self.prompt else ()


class ItemReader:
    """Reads what every row of ratings has, whatever shape its scores have."""

    def __init__(self, table: Table, options: ItemOptions, limits: ValidationSettings) -> None:
        self._text = table.required_column(options, "text")
        self._ids = _id_columns(table, options)
        self._others = {name: table.column(options, name) for name in ("prompt", "segment", "document")}
        self._limits = limits

    def row(self, record: Record, scores: Collection[str], labelers: Mapping[str, str]) -> Row:
        """The row for quarantine."""
        return raw_row(record, keep=[self._text, *self._ids, *self._others.values(), *scores], labelers=labelers)

    def item(self, record: Record, row: Row, scores: list[Score]) -> Item:
        """The item of a row.

        Raises:
            RowError: a text is missing, too short or too long, or there is no score.
        """
        text = text_of(record, self._text)
        cells = {name: optional_text(record, column) for name, column in self._others.items()}
        parts = [optional_text(record, column) for column in self._ids]
        if None in parts:
            raise RowError(f"{self._ids[parts.index(None)]}: is empty; expected an id")
        if not scores:
            raise RowError("no score; expected at least one")
        named = [labeler for labeler, _ in scores if labeler is not None]
        if len(set(named)) < len(named):
            raise RowError("the same labeler gives two scores in one row")
        item = Item(
            id="/".join(part for part in parts if part) or content_id(cells["prompt"] or "", text),
            text=text,
            prompt=cells["prompt"],
            segment=cells["segment"],
            document=cells["document"],
            scores=scores,
            rows=[row],
            anonymous=[[score for labeler, score in scores if labeler is None]],
            has_id=bool(parts),
        )
        response = Response(response_id=item.id, content=text)
        problem = length_problem(item.messages(), [response], self._limits)
        if problem:
            raise RowError(problem)
        return item


def _id_columns(table: Table, options: ItemOptions) -> list[str]:
    parts = options.id.split("+")
    if options.id in table.columns or len(parts) == 1:
        name = table.column(options, "id")
        return [name] if name else []
    for part in parts:
        if part not in table.columns:
            raise table.no_column(options, "id", part)
    return parts


def outcomes(items: Iterable[Item | Rejected], options: ItemOptions, *, repeats: bool, name: str) -> Iterator[Outcome]:
    """Groups from items; ``name`` is the file's.

    ``repeats``: each row is an item with all its scores, so a row that equals an earlier one of its id is the same row
    again, and rows without ids are different items even if their texts are alike (but inside one group). False: each
    row is one rating, so two people may well give the same, and rows of one text are one item.
    """
    by_id: dict[object, list[Item]] = {}
    for item in items:
        if isinstance(item, Rejected):
            yield item
        else:
            apart = repeats and not item.has_id
            by_id.setdefault((item.id, _group_key(item, options, name)) if apart else item.id, []).append(item)
    groups: dict[object, list[Item]] = {}
    for same_id in by_id.values():
        first, *others = same_id
        different = _difference(same_id)
        if different:
            for item in same_id:
                yield from (Rejected(row, different) for row in item.rows)
            continue
        for other in others:
            outcome = _merge(first, other, repeats=repeats)
            if outcome:
                yield outcome
        groups.setdefault(_group_key(first, options, name), []).append(first)
    for members in groups.values():
        rows = tuple(row for member in members for row in member.rows)
        yield Taken(_group(members, options), rows)


def _difference(same_id: list[Item]) -> str | None:
    for name in ("text", "prompt", "segment", "document"):
        if len({getattr(item, name) for item in same_id}) > 1:
            places = ", ".join(item.rows[0].place for item in same_id[:5])
            more = f" and {len(same_id) - 5} more rows" if len(same_id) > 5 else ""
            return f"id {same_id[0].id!r} comes with a different {name} at {places}{more}"
    return None


def _merge(first: Item, other: Item, *, repeats: bool) -> Outcome | None:
    known = {labeler: score for labeler, score in first.scores if labeler is not None}
    new: list[Score] = []
    for labeler, score in other.scores:
        if labeler is None or labeler not in known:
            new.append((labeler, score))
        elif known[labeler] != score:
            reason = (
                f"a labeler gives id {first.id!r} the score {score:g} here and {known[labeler]:g} in an earlier row "
                f"(first row of the id: {first.rows[0].place})"
            )
            return Rejected(other.rows[0], reason)
    anonymous = other.anonymous[0]
    if anonymous and repeats and anonymous in first.anonymous:
        new = [(labeler, score) for labeler, score in new if labeler is not None]
    if not new:
        return Repeated(other.rows[0])
    first.scores += new
    first.rows += other.rows
    first.anonymous += other.anonymous
    return None


def _group_key(item: Item, options: ItemOptions, name: str) -> object:
    if options.group == "labelers":
        labelers = frozenset(labeler for labeler, _ in item.scores)
        if None in labelers:
            raise BadInputError(
                f"{name}: --option group=labelers needs labelers with ids; name their columns with --column labeler="
            )
        # A group has one prompt: answers to different ones cannot be compared.
        return labelers, item.prompt
    return ("prompt", item.prompt) if item.prompt else ("single", item.rows[0].place)


def _group(members: list[Item], options: ItemOptions) -> FeedbackGroup:
    named: dict[str, dict[str, float]] = {}
    anonymous: list[dict[str, float]] = []
    for member in members:
        for labeler, score in member.scores:
            if labeler is None:
                anonymous.append({member.id: score})
            else:
                named.setdefault(labeler, {})[member.id] = score
    who: list[tuple[str | None, dict[str, float]]] = [*named.items(), *((None, scores) for scores in anonymous)]
    labels = tuple(
        Rating(
            labeler=labeler,
            labeler_kind=options.labeler_kind,
            criterion=options.criterion,
            scores=scores,
            scale=options.scale,
        )
        for labeler, scores in who
    )
    ids = [member.id for member in members]
    return FeedbackGroup(
        group_id=ids[0] if len(ids) == 1 else content_id(*sorted(ids)),
        document_id=_common(member.document for member in members),
        prompt=members[0].messages(),
        responses=tuple(Response(response_id=member.id, content=member.text) for member in members),
        labels=labels,
        segment=_common(member.segment for member in members) or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _common(values: Iterable[str | None]) -> str | None:
    different = set(values)
    return different.pop() if len(different) == 1 else None
