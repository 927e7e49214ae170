"""Canonical records come back as they were from every kind of file that can hold them."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from rewardloop.config import ValidationSettings
from rewardloop.feedback.importers.base import Taken, choose
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import read_sources
from rewardloop.records import Acceptable, Choice, FeedbackGroup, Message, Ranking, Rating, Response
from rewardloop.tables import canonical_json

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
WHO = st.none() | NAME


@st.composite
def labels(draw: st.DrawFn, names: list[str]) -> Any:
    some = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    about: dict[str, Any] = {
        "labeler": draw(WHO),
        "labeler_kind": draw(st.sampled_from(["human", "model", "signal"])),
        "criterion": draw(NAME),
    }
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return Ranking(ranks={name: draw(st.integers(1, 9)) for name in some}, **about)
    if kind == 1:
        scale = draw(st.none() | st.just((-5.0, 5.0)))
        return Rating(scores={name: draw(st.floats(-5, 5)) for name in some}, scale=scale, **about)
    if kind == 2:
        return Acceptable(values={name: draw(st.booleans()) for name in some}, **about)
    if len(names) == 1:
        return Ranking(ranks={names[0]: 1}, **about)
    return Choice(chosen=names[0], rejected=names[1], **about)


@st.composite
def groups(draw: st.DrawFn) -> FeedbackGroup:
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    roles = st.sampled_from(["system", "user", "assistant", "tool"])
    return FeedbackGroup(
        group_id=draw(NAME),
        document_id=draw(WHO),
        prompt=tuple(draw(st.lists(st.builds(Message, role=roles, content=TEXT), max_size=3))),
        responses=tuple(Response(response_id=name, content=draw(TEXT), model=draw(WHO)) for name in names),
        labels=tuple(draw(st.lists(labels(names), min_size=1, max_size=3))),
        labeled_at=draw(st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))),
        segment=draw(WHO),
        source=draw(WHO),
        sampling=draw(st.sampled_from(["random", "active", "comparison", "control"])),
    )


def _lines(records: list[str]) -> bytes:
    return "\n".join(records).encode()


def _list(records: list[str]) -> bytes:
    return f"[{', '.join(records)}]".encode()


def _zip(records: list[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jsonl.zst", zstandard.compress(_lines(records)))
    return buffer.getvalue()


def _columns(records: list[str]) -> pa.Table:
    rows = [json.loads(record) for record in records]
    # Arrow takes the columns of the first row for those of all.
    return pa.table(
        {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}
    )


def _parquet(records: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(_columns(records), buffer, compression="zstd")
    return buffer.getvalue()


def _arrow(records: list[str]) -> bytes:
    buffer = io.BytesIO()
    table = _columns(records)
    with ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "write", [_lines, _list, _zip, lambda records: gzip.compress(_lines(records)), _parquet, _arrow]
)
@settings(max_examples=25, deadline=None)
@given(groups=st.lists(groups(), min_size=1, max_size=4))
def test_canonical_records_come_back_as_they_were(
    write: Callable[[list[str]], bytes], groups: list[FeedbackGroup], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path: Path = tmp_path_factory.mktemp("round") / "records"
    path.write_bytes(write([canonical_json(group) for group in groups]))
    (source,) = read_sources([path])
    table = Table.of(source)
    choice = choose([table], "auto", {}, {})
    assert choice.importer.name == "canonical"
    outcomes = list(choice.importer.read(table, choice.options, ValidationSettings()))
    assert [one.group for one in outcomes if isinstance(one, Taken)] == groups
