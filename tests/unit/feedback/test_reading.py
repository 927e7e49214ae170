"""Files in every wrapping, and files that are broken."""

import bz2
import gzip
import io
import json
import os
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import zstandard

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Rejected
from rewardloop.feedback.importers.rows import Record, rows_of, shape_of
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import Source, read_sources

TEXT = "id,text\n1,grün\n"


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _by_method(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.csv", TEXT)
    return buffer.getvalue()


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_plain_and_packed_give_the_same_text_whatever_their_names(tmp_path: Path) -> None:
    data = TEXT.encode()
    plain = _file(tmp_path, "plain.gz", data)
    packed = _file(tmp_path, "packed.csv", gzip.compress(data))
    archive = _file(tmp_path, "archive.bin", _zip({"inside.csv": data, "deep/er/two.csv.gz": gzip.compress(data)}))
    frames = _file(tmp_path, "frames.txt", zstandard.compress(data[:7]) + zstandard.compress(data[7:]))
    sources = read_sources([plain, packed, archive, frames])
    assert [source.text for source in sources] == [TEXT] * 5
    assert [source.name for source in sources] == [
        "plain.gz",
        "packed.csv",
        "archive.bin/inside.csv",
        "archive.bin/two.csv.gz",
        "frames.txt",
    ]
    assert [source.path for source in sources] == [plain, None, None, None, None]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (source,) = read_sources([_file(tmp_path, "bom.csv", b"\xef\xbb\xbf" + TEXT.encode())])
    assert source.text == TEXT


def test_zip_members_are_never_written_and_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    data = _zip({"../../evil.csv": TEXT.encode(), "__MACOSX/evil.csv": b"\xff", ".DS_Store": b"\xff", "folder/": b""})
    (source,) = read_sources([_file(tmp_path, "a.zip", data)])
    assert source.name == "a.zip/evil.csv"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert not (tmp_path.parent / "evil.csv").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(TEXT.encode() * 100, mtime=0)[:-12], "x.csv: the gzip file is truncated"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-8] + b"\0" * 8, "x.csv: the gzip file is damaged"),
        (_zip({"a.csv": TEXT.encode()})[:60], "x.csv: the zip file is damaged"),
        (zstandard.compress(TEXT.encode() * 100)[:-5], "x.csv: the zstd file is truncated"),
        (zstandard.compress(TEXT.encode()) + b"more", "x.csv: the zstd file is damaged"),
        (gzip.compress(zstandard.compress(TEXT.encode()), mtime=0), "x.csv: is packed twice; unpack the outer one"),
        (_zip({"[Content_Types].xml": b"<x/>"}), "x.csv: is an Office document; save the sheet as CSV"),
        (bz2.compress(TEXT.encode()), "x.csv: is a bzip2 file; give it plain or packed as gzip, zstd or zip"),
        (_by_method(zipfile.ZIP_LZMA), "x.csv/a.csv is packed by method 14; pack it again by the common one"),
        (_by_method(zipfile.ZIP_BZIP2), "x.csv/a.csv is packed by method 12"),
        (b"id,text\n1,\xe2\x82", r"x.csv:2: byte 10 \(0xe2\) is not UTF-8"),
        (b"a" * ((1 << 18) - 1) + b"\n\xe2\x82x", r"x.csv:2: byte 262144 \(0xe2\) is not UTF-8"),
        (b"a\n" * ((1 << 17) - 1) + b"b\xe2\x82x", r"x.csv:131072: byte 262143 \(0xe2\) is not UTF-8"),
        (_zip({}), "x.csv: the zip file holds no files"),
        (_zip({"in.zip": _zip({"a.csv": b"x"})}), "x.csv/in.zip: is a zip file inside a zip file"),
        (b"", "x.csv: is empty"),
        (b" \r\n\n", "x.csv: is empty"),
        (b"id,text\n1,gr\xfcn\n", r"x.csv:2: byte 12 \(0xfc\) is not UTF-8"),
        (b"\xef\xbb\xbfid\n\n\xff\n", r"x.csv:3: byte 7 \(0xff\) is not UTF-8"),
        (TEXT.encode("utf-16"), "x.csv: is UTF-16"),
    ],
    # Named by what is said of them: bytes that packers made are not the same in every process.
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_broken_files_are_refused_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_sources([_file(tmp_path, "x.csv", data)])


def test_a_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    bombs = [
        _file(tmp_path, "bomb.gz", gzip.compress(b"0" * 100_000)),
        _file(tmp_path, "bomb.zip", _zip({"a.csv": b"0" * 100_000})),
        _file(tmp_path, "gz_in.zip", _zip({"a.gz": gzip.compress(b"0" * 100_000)})),
        _file(tmp_path, "many.zip", _zip({"a.csv": b"0" * 9_000, "b.csv": b"0" * 9_000})),
        _file(tmp_path, "plain.csv", b"0" * 100_000),
        _file(tmp_path, "bomb.zst", zstandard.compress(b"0" * 100_000)),
        _file(tmp_path, "zst_in.zip", _zip({"a.zst": zstandard.compress(b"0" * 100_000)})),
    ]
    for bomb in bombs:
        with pytest.raises(BadInputError, match=r"more than [\d,]+ bytes are left to read"):
            read_sources([bomb], limit=10_000)


def test_the_limit_holds_over_all_files_together(tmp_path: Path) -> None:
    first, second = _file(tmp_path, "a.csv", b"0" * 6_000), _file(tmp_path, "b.csv", b"0" * 6_000)
    with pytest.raises(BadInputError, match=r"b.csv: more than 4,000 bytes"):
        read_sources([first, second], limit=10_000)


@pytest.mark.parametrize(("name", "message"), [("none.csv", "No such file"), ("folder", "is a folder")])
def test_what_is_no_file(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInputError, match=message):
        read_sources([tmp_path / name])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", b"x")
    path.chmod(0)
    with pytest.raises(BadInputError, match="cannot be read: Permission denied"):
        read_sources([path])


def test_no_file_at_all() -> None:
    with pytest.raises(BadInputError, match="no file named"):
        read_sources([])


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", TEXT.encode())
    (source,) = read_sources([path])
    path.write_bytes(TEXT.encode() * 2)
    with pytest.raises(BadInputError, match="was changed while it was read; start again when it is complete"):
        _ = source.text


def test_a_pipe_gives_its_bytes_once_and_is_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    packed = gzip.compress(TEXT.encode())
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(packed,), daemon=True)
    writer.start()
    try:
        (source,) = read_sources([tmp_path / "pipe"])
    finally:
        writer.join()
    assert (source.text, source.text) == (TEXT, TEXT)


def test_files_are_not_held(tmp_path: Path) -> None:
    """Six megabytes, packed, are looked at and read row by row in a few."""
    lines = "".join(json.dumps({"text": os.urandom(5_000).hex()}) + "\n" for _ in range(600)).encode()
    path = _file(tmp_path, "x.zst", zstandard.compress(lines))
    (tmp_path / "x.zip").write_bytes(_zip({"a.jsonl": lines}))
    tracemalloc.start()
    try:
        for one in (path, tmp_path / "x.zip"):
            (source,) = read_sources([one])
            assert sum(1 for _ in Table.of(source).rows()) == 600
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


def _rows(text: str, **limits: int) -> list[str | None]:
    """The reason of each row that is rejected, None for the others."""
    rows = rows_of(source := Source("x", text, "", **limits), shape_of(source))
    return [one.reason if isinstance(one, Rejected) else None for one in rows]


def test_a_row_longer_than_a_row_may_be_is_rejected_and_the_next_one_read() -> None:
    text = '{"a": 1}\n{"a": "' + "x" * 100 + '"}\n{"a": 2}\n'
    assert _rows(text, max_row=50) == [None, "is longer than 50 characters (store.max_row_characters)", None]


@pytest.mark.parametrize("text", ['a,b\n1,"' + "x\n" * 60, '[{"a": "' + "x" * 100_000 + '"}]'])
def test_where_the_end_of_a_long_row_is_unknown_the_file_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=r"is longer than 50 characters \(store.max_row_characters\)"):
        _rows(text, max_row=50)


@pytest.mark.parametrize("form", ["%s\n{}", "[%s, {}]"])
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "a key stands twice in one object"),
        ('{"a": "\\ud800"}', "holds half of a surrogate pair"),
        (f'{{"a": {"[" * 300}1{"]" * 300}}}', "is nested more than 100 levels deep; no format of feedback is"),
        ("7", "found a JSON int; expected an object"),
    ],
)
def test_rows_that_are_json_and_no_record(form: str, row: str, reason: str) -> None:
    text = form % row
    # A list of numbers begins like a list of objects; a line with a number alone begins like a table.
    first, second = _rows(text if text[0] in "[{" else "{}\n" + text)[-2:]
    assert first is not None
    assert reason in first
    assert second is None


@pytest.mark.parametrize("size", [10, 65_530, 65_536, 65_540, 200_000])
def test_a_json_list_is_the_same_however_its_entries_lie_in_the_buffer(size: int) -> None:
    entries = [{"a": "x" * size, "n": [1.5, -2e10, True, None]}, {"b": "é\\" * (size // 3)}, {}, {"c": 12345}]
    text = " [ " + " ,\n".join(json.dumps(one) for one in entries) + " \n] "
    source = Source("x", text, "")
    assert [one.values for one in rows_of(source, shape_of(source)) if isinstance(one, Record)] == entries
