"""Parquet and Arrow files in every wrapping give the rows that JSON lines would; bombs and lies are refused."""

import datetime
import decimal
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyarrow import ipc

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Rejected
from rewardloop.feedback.importers.table import Record, Table
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore

ROWS: list[dict[str, Any]] = [
    {
        "text": f"text {number % 7}",
        "turns": [{"role": "user", "content": "Q"}, {"role": "assistant"}],
        "score": number + 0.5,
        "ranks": {"a": 1},
        "at": "2026-01-31T12:00:00",
    }
    for number in range(3_000)
]
TABLE = pa.table(
    {
        "text": [row["text"] for row in ROWS],
        "turns": pa.array([row["turns"] for row in ROWS]),
        "score": pa.array([decimal.Decimal(str(row["score"])) for row in ROWS], pa.decimal128(9, 2)),
        "ranks": pa.array([[("a", 1)]] * len(ROWS), pa.map_(pa.string(), pa.int64())),
        "at": pa.array([datetime.datetime(2026, 1, 31, 12)] * len(ROWS), pa.timestamp("us")),
        "none": pa.nulls(len(ROWS)),
    }
)


def parquet(table: pa.Table, **how: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **how)
    return buffer.getvalue()


def arrow(table: pa.Table, writer: Any = ipc.new_file, compression: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with writer(buffer, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table)
    return buffer.getvalue()


def by_polars(table: pa.Table, **how: Any) -> bytes:
    buffer = io.BytesIO()
    pl.from_arrow(table).write_ipc(buffer, **how)  # type: ignore[union-attr]
    return buffer.getvalue()


def read(folder: Path, data: bytes, **limits: int) -> Table:
    path = folder / "x.bin"
    path.write_bytes(data)
    (source,) = read_sources([path], **limits)
    return Table.of(source)


@pytest.mark.parametrize(
    "data",
    [
        parquet(TABLE, compression="zstd", row_group_size=700),
        parquet(TABLE, compression="snappy", use_dictionary=False, data_page_version="2.0"),
        arrow(TABLE),
        arrow(TABLE, compression="lz4"),
        arrow(TABLE, ipc.new_stream, "zstd"),
        arrow(TABLE.set_column(0, "text", TABLE["text"].dictionary_encode()), compression="zstd"),
        gzip.compress(parquet(TABLE)),
        zstandard.compress(arrow(TABLE)),
    ],
)
def test_rows_are_those_of_json_whatever_wrote_the_file(tmp_path: Path, data: bytes) -> None:
    table = read(tmp_path, data)
    assert table.shape == "columns"
    assert table.columns == (*ROWS[0], "none")
    rows = list(table.rows())
    assert [row.values for row in rows if isinstance(row, Record)] == ROWS
    assert isinstance(rows[16], Record)
    assert rows[16].place == "x.bin:17"


@pytest.mark.parametrize("how", [{}, {"compression": "zstd"}])
def test_files_of_polars_with_its_own_kind_of_texts(tmp_path: Path, how: dict[str, Any]) -> None:
    rows = read(tmp_path, by_polars(TABLE.select(["text", "turns"]), **how)).rows()
    assert [one.values for one in rows if isinstance(one, Record)] == [
        {"text": row["text"], "turns": row["turns"]} for row in ROWS
    ]


def test_a_parquet_file_of_pairs_is_ingested(tmp_path: Path, store: FeedbackStore, settings: Settings) -> None:
    pairs = [{"prompt": f"Q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(40)]
    (tmp_path / "pairs.parquet").write_bytes(parquet(pa.Table.from_pylist(pairs)))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    report = ingest([tmp_path / "pairs.parquet"], store, settings, key=b"k" * 16)
    assert (report.importer, report.rows_taken) == ("pairs", 40)
    assert ingest([tmp_path / "pairs.jsonl"], store, settings, key=b"k" * 16).rows_duplicate == 40


def _word_of_a_megabyte(rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 1_000_000]))


@pytest.mark.parametrize(
    "data",
    [
        parquet(pa.table({"text": ["0" * 20_000_000]}), compression="zstd"),
        parquet(pa.table({"text": _word_of_a_megabyte(2_000)}), compression="zstd"),
        parquet(pa.table({"text": pa.nulls(3_000_000, pa.int8())})),
        arrow(pa.table({"text": ["0" * 20_000_000]}), compression="zstd"),
        arrow(pa.table({"text": _word_of_a_megabyte(2_000)}), compression="zstd"),
        by_polars(pa.table({"text": ["x" * 1_000_000] * 11}), compression="zstd"),
    ],
    ids=["page", "word", "nulls", "buffer", "word of arrow", "views"],
)
def test_a_small_file_of_much_is_refused(tmp_path: Path, data: bytes) -> None:
    assert len(data) < 100_000
    with pytest.raises(BadInputError, match=r"x.bin: more than [\d,]+ bytes are left to read at a time"):
        list(read(tmp_path, data, limit=1_000_000).rows())


def test_a_page_that_says_another_size_than_the_table_of_contents(tmp_path: Path) -> None:
    honest = parquet(pa.table({"text": ["0" * 5_000_000]}), compression="zstd", use_dictionary=False)
    size = pq.ParquetFile(io.BytesIO(honest)).metadata.row_group(0).column(0).total_uncompressed_size
    # 1,000 written as long as the size: every byte but the last has the bit that says that more follow.
    small = bytes([*(byte | 128 for byte in _varint(2 * 1_000)), 128, 128, 0])
    length = len(_varint(2 * size))
    lie = honest.replace(_varint(2 * size), small[: length - 1] + b"\0")
    assert lie != honest
    with pytest.raises(BadInputError, match="is damaged or cannot be read: the page at byte 4 says another size"):
        read(tmp_path, lie)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (parquet(TABLE)[:-100], "the Parquet file is damaged or cannot be read"),
        (arrow(TABLE)[:-100], "the Arrow file is damaged or cannot be read: it does not end as an Arrow file does"),
        (arrow(TABLE, ipc.new_stream)[:-5_000], "the Arrow file is damaged or cannot be read"),
        (parquet(TABLE.slice(0, 0)), "holds columns and no rows; expected rows of feedback"),
        (arrow(pa.table([[1], [2]], names=["a", "a"])), "column 'a' stands twice; rename one"),
    ],
)
def test_damaged_and_empty_files(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        list(read(tmp_path, data).rows())


def test_a_row_too_wide_is_rejected_alone(tmp_path: Path) -> None:
    data = parquet(pa.table({"text": ["a", "b" * 5_000, "c"]}))
    rows = list(read(tmp_path, data, max_row=1_000).rows())
    assert [isinstance(row, Rejected) for row in rows] == [False, True, False]
    assert isinstance(rows[1], Rejected)
    assert rows[1].row.place == "x.bin:2"
    assert "at most 1,000 in a row (store.max_row_characters)" in rows[1].reason


def test_bytes_that_are_no_text_reject_their_row(tmp_path: Path) -> None:
    rows = list(read(tmp_path, parquet(pa.table({"text": pa.array([b"a", b"\xff"])}))).rows())
    assert isinstance(rows[0], Record)
    assert rows[0].values == {"text": "a"}
    assert isinstance(rows[1], Rejected)
    assert "holds a value that is no text" in rows[1].reason


def test_a_union_is_no_column_of_feedback(tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(BadInputError, match=r"column 'u' has the type sparse_union.*which is not read"):
        read(tmp_path, arrow(pa.table({"u": union})))
