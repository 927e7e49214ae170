"""Files in every wrapping, and files that are broken."""

import gzip
import io
import os
import zipfile
from pathlib import Path

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.reading import read_sources

TEXT = "id,text\n1,grün\n"


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_plain_gzip_and_zip_give_the_same_text_whatever_their_names(tmp_path: Path) -> None:
    data = TEXT.encode()
    plain = _file(tmp_path, "plain.gz", data)
    packed = _file(tmp_path, "packed.csv", gzip.compress(data))
    archive = _file(tmp_path, "archive.bin", _zip({"inside.csv": data, "deep/er/two.csv.gz": gzip.compress(data)}))
    sources = read_sources([plain, packed, archive])
    assert [source.text for source in sources] == [TEXT] * 4
    assert [source.name for source in sources] == [
        "plain.gz",
        "packed.csv",
        "archive.bin/inside.csv",
        "archive.bin/two.csv.gz",
    ]


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
        (_zip({}), "x.csv: the zip file holds no files"),
        (_zip({"in.zip": _zip({"a.csv": b"x"})}), "x.csv/in.zip: is a zip file inside a zip file"),
        (b"", "x.csv: is empty"),
        (b" \r\n\n", "x.csv: is empty"),
        (b"id,text\n1,gr\xfcn\n", r"x.csv:2: byte 12 \(0xfc\) is not UTF-8"),
        (b"\xef\xbb\xbfid\n\n\xff\n", r"x.csv:3: byte 7 \(0xff\) is not UTF-8"),
        (TEXT.encode("utf-16"), "x.csv: is UTF-16"),
    ],
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
