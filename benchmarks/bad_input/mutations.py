"""Ways in which files of feedback go wrong, by accident and by intent.

In: a seeded random generator and the bytes of a sound file. Out: other bytes. ``OF_TEXT`` are for plain text,
``OF_BYTES`` for any file, packed ones included.
"""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import zstandard

from benchmarks.bad_input.seeds import zipped

Mutation = Callable[[random.Random, bytes], bytes]

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 1e308, -0.0, 5e-324, "", " ", "\n", "null"),
    *([], {}, [[]], [None], [{}], {"": None}, ["a", 1, None], "a" * 30_000, "=HYPERLINK(0)", "../../etc/passwd"),
    *("\u0000", "\u2028", "\ufeff", "\u202e", "e\u0301" * 40, "\U0001f600", "NaN", "Infinity", "1e999", "-1", "1,5"),
)
_RAW = (
    *("1e999", "-1e999", "1" + "0" * 400, "9" * 5_000, "NaN", "-Infinity", "01", "+1", "1.", ".5", "0x10", "1_000"),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', "'a'", "undefined", "tru", '"', "[" * 50, '{"a":' * 50, "//", ","),
)
"""What stands where a value should, as it is."""
_LINE_ENDS = (b"\r", b"\r\n", b"\n\n", b"\x0b", b"\x0c", "\u2028".encode(), b"\x85", b"")
_FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", '=HYPERLINK("file:///etc/passwd")', "\t=1")
_NESTED = ("[" * 5_000, '"[' + "[" * 900 + "]" * 901 + '"', '"{""a"":' + '{""a"":' * 900 + "1" + "}" * 901 + '"')
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp037", "utf-7", "shift_jis")
_PATHS = ("../../evil.csv", "/etc/passwd", "..\\..\\evil.csv", "C:\\evil.csv", "a/../../b", "\x00.csv", "a" * 300, ".")
_BOMB = 300 << 20
_PIECE = b"0" * (1 << 20)


def truncated(rng: random.Random, data: bytes) -> bytes:
    """Cut anywhere."""
    return data[: rng.randrange(len(data) + 1)]


def flipped(rng: random.Random, data: bytes) -> bytes:
    """One to thirty bytes are others."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 30))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def flipped_at_the_end(rng: random.Random, data: bytes) -> bytes:
    """Tables of contents lie: of zip, Parquet and Arrow files they are the last bytes."""
    start = max(0, len(data) - rng.choice((16, 64, 400)))
    return data[:start] + flipped(rng, data[start:])


def spliced(rng: random.Random, data: bytes) -> bytes:
    """A piece stands twice, is gone, or stands elsewhere."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    piece, place = data[a:b], rng.randrange(len(data) + 1)
    return rng.choice((data[:a] + data[b:], data[:b] + piece + data[b:], data[:place] + piece + data[place:]))


def with_rubbish(rng: random.Random, data: bytes) -> bytes:
    """Random bytes, or a null byte, in the middle, before or behind."""
    rubbish = rng.choice((b"\0", b"\0" * 100, rng.randbytes(20), b"\xef\xbb\xbf", b"\xff\xfe", b"PK\x03\x04", b"PAR1"))
    place = rng.choice((0, len(data), rng.randrange(len(data) + 1)))
    return data[:place] + rubbish + data[place:]


def doubled(rng: random.Random, data: bytes) -> bytes:
    """The file twice, one behind the other."""
    return data * rng.choice((2, 3))


def packed(rng: random.Random, data: bytes) -> bytes:
    """Packed; for the second time, where it was before."""
    return rng.choice((gzip.compress, zstandard.compress, lambda inner: zipped({"in.zip": inner})))(data)


def odd_value(rng: random.Random, data: bytes) -> bytes:
    """A value of another type, or a key that is gone, renamed or new, somewhere in a record."""
    return _in_json(rng, data, lambda record: json.dumps(_changed(rng, record)))


def raw_value(rng: random.Random, data: bytes) -> bytes:
    """What is no JSON, or hardly any, in place of a value: huge numbers, half surrogates, nesting."""
    mark = "0f0f0f0f-mark"
    return _in_json(rng, data, lambda record: json.dumps(_replaced(rng, record, mark)).replace(f'"{mark}"', _raw(rng)))


def key_twice(rng: random.Random, data: bytes) -> bytes:
    """One key stands twice in one object, with two values."""
    text = data.decode("utf-8", "replace")
    places = [at for at, one in enumerate(text) if one == "{"]
    if not places:
        lines = text.split("\n")
        return "\n".join([f"{lines[0]},{lines[0].split(',')[0]}", *lines[1:]]).encode()
    at = rng.choice(places) + 1
    key = text[at:].partition(":")[0]
    return f"{text[:at]}{key}:{_raw(rng) if rng.random() < 0.3 else 1},{text[at:]}".encode("utf-8", "replace")


def deep(rng: random.Random, data: bytes) -> bytes:
    """A value nested thousands deep."""
    depth, (opens, closes) = rng.choice((900, 5_000, 200_000)), rng.choice((("[", "]"), ('{"a":', "}")))
    nested = opens * depth + "1" + closes * depth
    mark = "0f0f0f0f-mark"
    return _in_json(rng, data, lambda record: json.dumps(_replaced(rng, record, mark)).replace(f'"{mark}"', nested))


def long_line(rng: random.Random, data: bytes) -> bytes:
    """A line of ten megabytes, or a longer one."""
    text = rng.choice(("x", "é", '\\"', "[]", " ", "1,")) * (10_000_000 if rng.random() < 0.8 else 20_000_000)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if lines[at].startswith(b"{"):
        lines[at] = lines[at].replace(b'": "', b'": "' + text.encode(), 1)
    else:
        lines[at] += text.encode()
    return b"\n".join(lines)


def line_ends(rng: random.Random, data: bytes) -> bytes:
    """Lines end in several ways."""
    return b"".join(line + rng.choice((b"\n", *_LINE_ENDS)) for line in data.split(b"\n"))


def lines_moved(rng: random.Random, data: bytes) -> bytes:
    """Lines stand elsewhere, twice, or not at all: the header too."""
    lines = data.split(b"\n")
    return b"\n".join(rng.choices(lines, k=max(1, len(lines) + rng.randrange(-2, 3))))


def encoded(rng: random.Random, data: bytes) -> bytes:
    """Another encoding, or one inside another."""
    text = data.decode("utf-8", "replace") + rng.choice(("", "é", "€", "日本"))
    return text.encode(rng.choice(_ENCODINGS), "replace")


def cells(rng: random.Random, data: bytes) -> bytes:
    """Cells of a table are formulas, quotes, nothing, or one more or less."""
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((1, 3))):
        at = rng.randrange(len(lines))
        row = lines[at].split(",")
        cell = rng.randrange(len(row))
        row[cell] = rng.choice(
            (*_FORMULAS, '"', '""', '"a"b', "", "a,b", "\0", "1e999", "9" * 400, "nan", "-0", "５", *_NESTED)
        )
        lines[at] = ",".join(row)
    return "\n".join(lines).encode()


def archive_of_paths(rng: random.Random, data: bytes) -> bytes:
    """Members whose names are paths out of the archive, or no names."""
    return zipped(dict.fromkeys(rng.sample(_PATHS, k=rng.randrange(1, 4)), data))


def bomb(rng: random.Random, data: bytes) -> bytes:
    """A small file of hundreds of megabytes."""
    return rng.choice((_gzip_bomb, _zstd_bomb, _zip_bomb, _parquet_bomb, _dictionary_bomb, _arrow_bomb))(data)


def _gzip_bomb(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream:
        _fill(stream, data)
    return buffer.getvalue()


def _zstd_bomb(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(buffer, closefd=False) as stream:
        _fill(stream, data)
    return buffer.getvalue()


def _zip_bomb(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as stream:
        _fill(stream, data)
    return buffer.getvalue()


def _fill(stream: Any, data: bytes) -> None:
    stream.write(data)
    for _ in range(_BOMB // len(_PIECE)):
        stream.write(_PIECE)


def _parquet_bomb(data: bytes) -> bytes:
    """A text of a megabyte that thousands of rows name by one number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = pa.DictionaryArray.from_arrays(pa.array([0] * 4_000, pa.int32()), pa.array(["x" * 1_000_000]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": words, "label": pa.array(["1"] * 4_000)}), buffer, compression="zstd")
    return buffer.getvalue()


def _dictionary_bomb(data: bytes) -> bytes:
    """The same in an Arrow file, as one list."""
    import pyarrow as pa
    from pyarrow import ipc

    words = pa.DictionaryArray.from_arrays(pa.array([0] * 4_000, pa.int32()), pa.array(["x" * 1_000_000]))
    lists = pa.ListArray.from_arrays(pa.array([0, 4_000], pa.int32()), words)
    table = pa.table({"text": pa.array(["a"]), "ratings": lists})
    buffer = io.BytesIO()
    with ipc.new_file(buffer, table.schema, options=ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return buffer.getvalue()


def _arrow_bomb(data: bytes) -> bytes:
    import pyarrow as pa
    from pyarrow import ipc

    batch = pa.record_batch({"score": pa.array(np.zeros(1 << 23, dtype=np.int64))})
    buffer = io.BytesIO()
    with ipc.new_stream(buffer, batch.schema, options=ipc.IpcWriteOptions(compression="zstd")) as stream:
        for _ in range(4):
            stream.write_batch(batch)
    return buffer.getvalue()


def _raw(rng: random.Random) -> str:
    return rng.choice((*_RAW, "9" * 100_000)) if rng.random() < 0.95 else "[" * 100_000


def _in_json(rng: random.Random, data: bytes, change: Callable[[Any], str]) -> bytes:
    """The file with one of its records changed; a table gets odd cells."""
    text = data.decode("utf-8", "replace")
    if text.lstrip().startswith("["):
        try:
            return change(json.loads(text)).encode("utf-8", "replace")
        except (ValueError, RecursionError):
            return data
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    try:
        lines[at] = change(json.loads(lines[at]))
    except (ValueError, RecursionError):
        return cells(rng, data)
    return "\n".join(lines).encode("utf-8", "replace")


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree but its root."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*place, key)
        yield from _places(one, (*place, key))


def _replaced(rng: random.Random, record: Any, value: Any) -> Any:
    places = list(_places(record))
    if not places:
        return value
    *path, last = rng.choice(places)
    target = record
    for key in path:
        target = target[key]
    target[last] = value
    return record


def _changed(rng: random.Random, record: Any) -> Any:
    places = list(_places(record))
    if not places or rng.random() < 0.7:
        return _replaced(rng, record, rng.choice(_ODD))
    *path, last = rng.choice(places)
    target = record
    for key in path:
        target = target[key]
    value = target.pop(last)
    if isinstance(target, dict) and rng.random() < 0.5:
        target[rng.choice((f" {last}", str(last).upper(), "", "__class__"))] = value
    elif isinstance(target, list) and rng.random() < 0.5:
        target += [value, value, value]
    return record


OF_TEXT: tuple[Mutation, ...] = (
    *(odd_value, odd_value, odd_value, odd_value, raw_value, raw_value, key_twice, deep, cells, line_ends),
    *(lines_moved, encoded, truncated, flipped, spliced, with_rubbish, doubled),
)
OF_BYTES: tuple[Mutation, ...] = (
    *(
        truncated,
        flipped,
        flipped,
        flipped_at_the_end,
        flipped_at_the_end,
        spliced,
        with_rubbish,
        doubled,
        packed,
    ),
    archive_of_paths,
)
RARE: tuple[Mutation, ...] = (long_line, bomb)
"""Large ones: one file in a hundred."""
