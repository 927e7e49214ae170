"""Importer of UKPConvArg1: which of two arguments is more convincing, by five crowd workers each (Habernal and Gurevych
2016, CC BY 4.0).

    tar xzf UKPConvArg1-full-XML.tar.gz
    rewardloop ingest UKPConvArg1-full-XML/*.xml --importer docs/examples/ukpconvarg1.py

In: XML files, one per side of a debate. Out: one group of two responses per vote; the debate and its side are the
prompt, so no debate is torn between training and test. The workers' majority (``goldLabel``) and MACE's scores of the
workers are not read: rewardloop finds its own.
"""

import io
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    LabelerId,
    LabelOptions,
    Outcome,
    Rejected,
    Repeated,
    Row,
    RowError,
    Taken,
    importer,
)
from rewardloop.feedback.importers.table import Table
from rewardloop.records import Choice, FeedbackGroup, Label, Message, Ranking, Response

PAIR = "annotatedArgumentPair"


class UkpConvArg1Options(LabelOptions):
    """The options that every format has are enough."""


@importer(
    "ukpconvarg1",
    "UKPConvArg1's XML with votes per worker",
    UkpConvArg1Options,
    recognizes=lambda table, options: "it holds pairs of arguments" if f"<{PAIR}>" in table.text else None,
    whole=True,  # the file is no table and no JSON: ``table.text`` is all there is
)
def ukpconvarg1(table: Table, options: UkpConvArg1Options, limits: ValidationSettings) -> Iterator[Outcome]:
    """Each vote (``mTurkAssignment``) is a row."""
    try:
        # A corpus that its user names, not input from the network: entities could at most fill this process's memory.
        for _, element in ElementTree.iterparse(io.BytesIO(table.text.encode())):  # noqa: S314
            if element.tag == PAIR:
                yield from _votes(table.name, element, options)
                element.clear()  # or the whole file stays in memory
    except ElementTree.ParseError as error:
        raise BadInputError(f"{table.name}: is not XML: {error}") from error


def _votes(file: str, pair: Any, options: UkpConvArg1Options) -> Iterator[Outcome]:
    """The outcomes of one pair. A worker's second vote is the first one again, or contradicts it."""
    name = pair.findtext("id") or "?"
    said: dict[str, str] = {}
    for number, vote in enumerate(pair.iterfind("mTurkAssignments/mTurkAssignment"), start=1):
        worker, value = vote.findtext("turkID"), vote.findtext("value")
        place = f"{file}:{name}:{number}"
        # What is kept of a row that cannot be used; the worker's id is marked, to be replaced by a pseudonym.
        row = Row(place, {"pair": name, "value": value, "worker": LabelerId(worker) if worker else None})
        try:
            if not worker:
                raise RowError("turkID: is empty; expected who voted")
            group = _group(pair, name, _label(worker, value, options), options)
        except RowError as error:
            yield Rejected(row, str(error))
            continue
        if worker not in said:
            said[worker] = str(value)
            yield Taken(group, (row,))
        elif said[worker] == value:
            yield Repeated(row)
        else:
            yield Rejected(row, f"its worker says otherwise of pair {name} before")


def _label(worker: str, value: str | None, options: UkpConvArg1Options) -> Label:
    kind, criterion = options.labeler_kind, options.criterion
    if value == "equal":
        return Ranking(ranks={"a1": 1, "a2": 1}, labeler=worker, labeler_kind=kind, criterion=criterion)
    if value not in ("a1", "a2"):
        raise RowError(f"value: found {value!r}; expected a1, a2 or equal")
    other = "a2" if value == "a1" else "a1"
    return Choice(chosen=value, rejected=other, labeler=worker, labeler_kind=kind, criterion=criterion)


def _group(pair: Any, name: str, label: Label, options: UkpConvArg1Options) -> FeedbackGroup:
    texts = [(pair.findtext(f"{side}/text") or "").strip() for side in ("arg1", "arg2")]
    title = (pair.findtext("debateMetaData/title") or "").strip()
    stance = (pair.findtext("arg1/stance") or "").strip()
    if not all(texts) or not title:
        raise RowError("has no title, or an argument without text")
    if texts[0] == texts[1]:
        raise RowError("both arguments are the same text")
    return FeedbackGroup(
        group_id=f"{title}/{stance}/{name}",
        prompt=(Message(role="user", content=f"{title}\nArgue for: {stance}"),),
        responses=tuple(Response(response_id=key, content=text) for key, text in zip(("a1", "a2"), texts, strict=True)),
        labels=(label,),
        segment=title,
        source=options.source,
        sampling=options.sampling,
    )
