"""Texts that are no feedback: what files are understood, what is refused, and that the store keeps what was read."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.text_sets import TEXTS, Kind, keep_text_set, load_text_set, read_text_set
from rewardloop.records import prompt_key
from rewardloop.storage import Storage

USER = [{"role": "user", "content": "Why?"}]
CHAT = [{"role": "system", "content": "Be brief."}, *USER]
ANSWER = {"role": "assistant", "content": "Because."}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "row", "prompt", "response"),
    [
        ("prompts", {"prompt": "Why?"}, USER, None),
        ("prompts", {"prompt": CHAT}, CHAT, None),
        ("prompts", {"prompt": {"text": "Why?", "toxicity": 0.9}, "continuation": {"text": "x"}}, USER, None),
        ("prompts", {"prompt": "Why?", "response": "what is not asked for"}, USER, None),
        ("demonstrations", {"prompt": "Why?", "response": "Because."}, USER, "Because."),
        ("demonstrations", {"prompt": "Why?", "completion": "Because."}, USER, "Because."),
        ("demonstrations", {"prompt": "Why?", "output": "Because."}, USER, "Because."),
        ("demonstrations", {"prompt": CHAT, "completion": [ANSWER]}, CHAT, "Because."),
        ("demonstrations", {"messages": [*CHAT, ANSWER]}, CHAT, "Because."),
        ("texts", {"text": "A text."}, [], "A text."),
        ("texts", {"response": "A text."}, [], "A text."),
    ],
)
def test_shapes(
    tmp_path: Path, kind: Kind, row: dict[str, Any], prompt: list[dict[str, str]], response: str | None
) -> None:
    table = read_text_set(jsonl(tmp_path / "texts.jsonl", row), kind)
    assert table.schema == TEXTS
    key = prompt_key((message["role"], message["content"]) for message in prompt)
    assert table.rows() == [(prompt, response, key)]


def test_csv_and_gzip(tmp_path: Path) -> None:
    plain = tmp_path / "plain.csv"
    with plain.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "prompt", "response"], [1, 'a, "b"\nand c', "yes"], [2, "d", "no"]])
    table = read_text_set(plain, "demonstrations")
    assert [prompt[0]["content"] for prompt in table["prompt"]] == ['a, "b"\nand c', "d"]
    assert table["response"].to_list() == ["yes", "no"]
    packed = tmp_path / "packed.bin"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_text_set(packed, "demonstrations").equals(table)


def test_texts_of_any_length_and_with_any_line_separator(tmp_path: Path) -> None:
    """JSON strings hold U+2028 and U+0085 as they are, and a document in a cell may have more than 128 KiB."""
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps({"prompt": "a\u2028b\x85c"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_text_set(path, "prompts")["prompt"].to_list() == [[{"role": "user", "content": "a\u2028b\x85c"}]]
    long = tmp_path / "long.csv"
    long.write_text("text\n" + "x" * 200_000 + "\n", encoding="utf-8")
    assert read_text_set(long, "texts")["response"].str.len_chars().to_list() == [200_000]


def test_equal_rows_are_kept_once_and_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": "b"}, {"prompt": "a"}, {"prompt": "b", "id": 7}, {"prompt": "B"}]
    table = read_text_set(jsonl(tmp_path / "prompts.jsonl", *rows), "prompts")
    assert [prompt[0]["content"] for prompt in table["prompt"]] == ["b", "a", "B"]
    # The same prompt to whoever splits by it.
    assert table["key"][0] == table["key"][2] != table["key"][1]


@pytest.mark.parametrize(
    ("kind", "rows", "says"),
    [
        ("prompts", [{"prompt": "a"}, {"text": "b"}], "row 2: the prompt is missing; expected a column prompt"),
        ("prompts", [{"prompt": "a"}, {"prompt": "  "}], "row 2: the prompt is empty"),
        ("prompts", [{"prompt": {"text": ""}}], "row 1: the prompt is empty"),
        ("prompts", [{"prompt": 7}], "row 1: "),
        ("prompts", [{"prompt": [{"role": "user"}]}], "row 1: "),
        ("prompts", [{"prompt": [{"role": "robot", "content": "a"}]}], "row 1: "),
        ("demonstrations", [{"prompt": "a"}], "row 1: response is None; expected the columns prompt and response"),
        ("demonstrations", [{"prompt": "a", "response": " "}], "row 1: response is ' '"),
        ("demonstrations", [{"prompt": "a", "completion": []}], "row 1: completion is None"),
        ("demonstrations", [{"prompt": "a", "response": 3}], "row 1: response is 3"),
        ("demonstrations", [{"messages": CHAT}], "row 1: messages do not end with an answer of the assistant"),
        ("demonstrations", [{"messages": [ANSWER]}], "row 1: messages do not end with"),
        ("prompts", [{"prompt": "a \ud800"}], "row 1: 'utf-8' codec can't encode character"),
        ("texts", [{"text": "a"}, {"text": None}], "row 2: text is None; expected a column text"),
        ("prompts", [["a"]], "line 1 is a list; expected an object"),
    ],
)
def test_a_bad_row_is_named_with_its_file(tmp_path: Path, kind: Kind, rows: list[Any], says: str) -> None:
    with pytest.raises(BadInputError) as refused:
        read_text_set(jsonl(tmp_path / "bad.jsonl", *rows), kind)
    assert str(refused.value).startswith(f"bad.jsonl: {says}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"prompt": "a"}\n\n{"prompt": ', "bad: line 3 is not JSON"),
        ("prompt\n", "bad: no rows; expected a column prompt"),
        ("question\na\n", "bad: row 1: the prompt is missing"),
        ("id,prompt\n1,a\n\n2,b\n3,\n", "bad: row 3: the prompt is empty"),
        ('prompt\na\n"b\nc\n', "bad: row 2 is not CSV (unexpected end of data); close every quote"),
        ("id,prompt\n1,Why, then?\n", "bad: row 1 has more cells than the header; put texts with commas into quotes"),
        ("", "bad: is empty"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInputError) as refused:
        read_text_set(path, "prompts")
    assert says in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.jsonl: cannot be read"):
        read_text_set(tmp_path / "nowhere.jsonl", "prompts")


def test_the_store_knows_texts_by_their_content(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path / "store"))
    rows = [{"prompt": "a"}, {"prompt": CHAT}]
    digest = keep_text_set(storage, read_text_set(jsonl(tmp_path / "one.jsonl", *rows), "prompts"))
    # Another file, another form, the same texts.
    other = [{"id": 1, "prompt": {"text": "a"}}, {"prompt": CHAT}, {"prompt": "a"}]
    assert keep_text_set(storage, read_text_set(jsonl(tmp_path / "two.jsonl", *other), "prompts")) == digest
    assert storage.list("texts") == [f"{digest}.parquet"]
    assert load_text_set(storage, digest).equals(read_text_set(tmp_path / "one.jsonl", "prompts"))
    reversed_rows = read_text_set(jsonl(tmp_path / "three.jsonl", *reversed(rows)), "prompts")
    assert keep_text_set(storage, reversed_rows) != digest


def test_texts_that_were_changed_are_refused(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path / "store"))
    table = read_text_set(jsonl(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"}), "prompts")
    digest = keep_text_set(storage, table)
    file = tmp_path / "store" / "texts" / f"{digest}.parquet"
    for changed in (table.head(1), table.with_columns(pl.lit(1).alias("more"))):
        changed.write_parquet(file)
        with pytest.raises(BadInputError, match=r"was changed; remove it and start the run again"):
            load_text_set(storage, digest)
    file.write_bytes(b"no table")
    with pytest.raises(BadInputError, match=r"cannot be read: .*; start the run again"):
        load_text_set(storage, digest)
    file.unlink()
    with pytest.raises(BadInputError, match=f"{digest}.parquet: cannot be read"):
        load_text_set(storage, digest)
