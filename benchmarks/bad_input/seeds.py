"""The files that mutations start from: every golden file of the tests, plain and in every wrapping.

In: the folder of golden files. Out: ``Seed`` s, each with a format that takes rows of it.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pyarrow import ipc

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Taken, choose, importers
from rewardloop.feedback.importers.table import Record, Table
from rewardloop.feedback.reading import Source

GOLDEN = Path(__file__).parents[2] / "tests/unit/feedback/data"
_COLUMNS: dict[str, dict[str, str]] = {
    "pairwise.csv": {
        "prompt": "question",
        "response_a": "answer1",
        "response_b": "answer2",
        "verdict": "better",
        "labeler": "who",
        "model_a": "modelA",
        "model_b": "modelB",
    },
    "wide.csv": {"text": "Request", "id": "Id", "segment": "Community", "score": "Score#", "labeler": "TurkId#"},
    "wide_names.csv": {"text": "answer", "prompt": "question", "score": "by_*"},
    "classes.csv": {"text": "review", "label": "sentiment"},
    "implicit.csv": {"chosen": "better", "rejected": "worse", "labeler": "who"},
}
"""Columns of golden files that have other names than their format expects."""
_OPTIONS: dict[str, dict[str, str]] = {
    "pairwise.csv": {"a": "1", "b": "2", "tie": "equal", "match": "start", "keep": "Approved,Submitted"},
    "squality.jsonl": {"take": "both", "criteria": "overall"},
    "lists.tsv": {"scale": "-4..4"},
}
"""Options without which a golden file has no rows that are taken, or not all kinds of them."""


@dataclass(frozen=True)
class Seed:
    """``format`` takes rows of ``data``; ``kind`` is how they are written: text, or the name of a wrapping."""

    name: str
    data: bytes
    format: str
    columns: dict[str, str]
    options: dict[str, str]
    kind: str


def seeds(folder: Path = GOLDEN) -> list[Seed]:
    """Every golden file in every wrapping that can hold it, in a fixed order."""
    found: list[Seed] = []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".jsonl", ".json", ".csv", ".tsv") and ".expected" not in path.suffixes:
            columns, options = _COLUMNS.get(path.name, {}), _OPTIONS.get(path.name, {})
            data = path.read_bytes()
            format = _format(path.name, data.decode("utf-8-sig"), columns, options)
            found += [Seed(path.name, one, format, columns, options, kind) for kind, one in _wrapped(path.name, data)]
    if not found:
        raise ValueError(f"{folder}: has no golden files")
    return found


def _format(name: str, text: str, columns: dict[str, str], options: dict[str, str]) -> str:
    """The format that ``auto`` finds; else the first that takes a row."""
    table = Table.of(Source(name, text, ""))
    try:
        return choose([table], "auto", options, columns).importer.name
    except BadInputError:
        for format in importers():
            try:
                choice = choose([table], format, options, columns)
                if any(isinstance(one, Taken) for one in choice.importer.read(table, choice.options, _LIMITS)):
                    return format
            except BadInputError:
                continue
    return "auto"


_LIMITS = ValidationSettings()


def _wrapped(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "text", data
    yield "gzip", gzip.compress(data, mtime=0)
    yield "zstd", zstandard.compress(data)
    yield "zip", zipped({name: data})
    table = _columns(name, data)
    if table is not None:
        yield "parquet", _parquet(table)
        yield "arrow-file", _arrow(table, ipc.new_file, None)
        yield "arrow-stream", _arrow(table, ipc.new_stream, "zstd")
        yield "parquet in zip", zipped({"a.parquet": _parquet(table)})


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip file whose members have these names, whatever they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _columns(name: str, data: bytes) -> pa.Table | None:
    rows: list[dict[str, Any]] = []
    for record in Table.of(Source(name, data.decode("utf-8-sig"), "")).rows():
        if isinstance(record, Record):
            rows.append(record.values)
    names = dict.fromkeys(key for row in rows for key in row)
    try:
        return pa.table({name: [row.get(name) for row in rows] for name in names})
    except (pa.ArrowException, TypeError, ValueError):  # values of several types in one column
        return pa.table({name: [_text(row.get(name)) for row in rows] for name in names})


def _text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _arrow(table: pa.Table, writer: Any, compression: str | None) -> bytes:
    buffer = io.BytesIO()
    with writer(buffer, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table)
    return buffer.getvalue()
