"""Ranks, one row per response and labeler: ``prompt,text,labeler,rank``.

In: rows of a table; rank 1 is the best and equal ranks are ties. Out: one feedback group per prompt (or per value of
``group``), with one ``ranking`` for each labeler.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import (
    Column,
    LabelOptions,
    Outcome,
    Rejected,
    Repeated,
    Row,
    RowError,
    Taken,
    content_id,
    importer,
    length_problem,
)
from rewardloop.feedback.importers.quoting import cut
from rewardloop.feedback.importers.ranks import rank_of
from rewardloop.feedback.importers.table import Record, Table, optional_text, raw_row, text_of
from rewardloop.records import FeedbackGroup, Message, Ranking, Response

_NEEDED = ("text", "labeler", "rank")
_OTHERS = ("prompt", "group", "model", "segment", "document")


class RanksLongOptions(LabelOptions):
    """``group`` tells which responses were ranked together; without it the prompt does."""

    text: Column = "text"
    labeler: Column = "labeler"
    rank: Column = "rank"
    prompt: Column = "prompt"
    group: Column = "group"
    model: Column = "model"
    segment: Column = "segment"
    document: Column = "document"


@dataclass
class _Ranked:
    """Responses that were ranked together: text -> model, and labeler -> text -> (rank, place)."""

    about: tuple[str | None, str | None, str | None]
    place: str
    models: dict[str, str | None] = field(default_factory=dict)
    ranks: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def _recognizes(table: Table, options: RanksLongOptions) -> str | None:
    needed = [getattr(options, name) for name in _NEEDED]
    together = {options.prompt, options.group} & set(table.columns)
    if not set(needed) <= set(table.columns) or not together:
        return None
    return f"it has the columns {', '.join(map(repr, (*needed, *sorted(together))))}"


@importer("ranks-long", "one row per response and labeler, with a rank", RanksLongOptions, recognizes=_recognizes)
def ranks_long(table: Table, options: RanksLongOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """Rows of one prompt or group are the ranks of its responses."""
    columns: dict[str, str | None] = {name: table.required_column(options, name) for name in _NEEDED}
    columns |= {name: table.column(options, name) for name in _OTHERS}
    if columns["prompt"] is None and columns["group"] is None:
        raise table.no_column(options, "group")
    keep = [column for name, column in columns.items() if name != "labeler"]
    groups: dict[str, _Ranked] = {}
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        row = raw_row(record, keep=keep, labelers={str(columns["labeler"]): "cell"})
        try:
            repeated = _add(record, row, columns, groups, limits)
        except RowError as error:
            yield Rejected(row, str(error))
            continue
        if repeated:
            yield Repeated(row)
    for key, ranked in groups.items():
        yield Taken(_group(key, ranked, options, named=columns["group"] is not None), tuple(ranked.rows))


def _add(
    record: Record, row: Row, columns: dict[str, str | None], groups: dict[str, _Ranked], limits: ValidationSettings
) -> bool:
    """Note the rank of one row; True where it was known."""
    cells = {name: optional_text(record, columns[name]) for name in (*_OTHERS, "labeler")}
    text, labeler, key = text_of(record, str(columns["text"])), cells["labeler"], cells["group"] or cells["prompt"]
    if key is None or labeler is None:
        missing = "labeler" if labeler is None else "group" if columns["group"] else "prompt"
        raise RowError(f"{columns[missing]}: is empty; expected a text")
    rank = rank_of(record.values.get(str(columns["rank"])), str(columns["rank"]))
    prompt = (Message(role="user", content=cells["prompt"] or ""),)
    problem = length_problem(prompt, [Response(response_id="r", content=text)], limits)
    if problem:
        raise RowError(problem)
    about = (cells["prompt"], cells["segment"], cells["document"])
    ranked = groups.get(key)
    if ranked is not None and ranked.about != about:
        raise RowError(f"group {cut(key, 40)!r} has another prompt, segment or document at {ranked.place}")
    if ranked is not None and text in ranked.models and ranked.models[text] != cells["model"]:
        raise RowError(f"the same text is of another model in an earlier row of its group (first at {ranked.place})")
    known = ranked.ranks.get(labeler, {}).get(text) if ranked else None
    if known and known[0] != rank:
        raise RowError(f"its labeler ranks the same text {known[0]} at {known[1]}")
    if known:
        return True
    ranked = groups.setdefault(key, ranked or _Ranked(about, record.place))
    ranked.models[text] = cells["model"]
    ranked.ranks.setdefault(labeler, {})[text] = (rank, record.place)
    ranked.rows.append(row)
    return False


def _group(key: str, ranked: _Ranked, options: RanksLongOptions, *, named: bool) -> FeedbackGroup:
    prompt, segment, document = ranked.about
    ids = {text: f"r{place}" for place, text in enumerate(ranked.models)}
    return FeedbackGroup(
        group_id=key if named else content_id(key, *ids),
        document_id=document,
        prompt=(Message(role="user", content=prompt),) if prompt else (),
        responses=tuple(
            Response(response_id=ids[text], content=text, model=model) for text, model in ranked.models.items()
        ),
        labels=tuple(
            Ranking(
                labeler=labeler,
                labeler_kind=options.labeler_kind,
                criterion=options.criterion,
                ranks={ids[text]: rank for text, (rank, _) in given.items()},
            )
            for labeler, given in ranked.ranks.items()
        ),
        segment=segment or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )
