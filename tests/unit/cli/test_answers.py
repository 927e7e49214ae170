"""Files of answers: read row by row, and every mistake named by its row."""

import json
from pathlib import Path

import pytest

from rewardloop.cli.answers import check_rows, read_rows
from rewardloop.errors import BadInputError


def test_jsonl_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text('{"prompt": "p", "response": "r, s"}\n\n{"response": "t"}\n')
    table.write_text('prompt,response\np,"r, s"\n,t\n')
    expected = [{"prompt": "p", "response": "r, s"}, {"prompt": "", "response": "t"}]
    assert list(read_rows(lines)) == expected
    assert list(read_rows(table)) == expected


def test_a_prompt_may_be_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": messages, "response": "r"}))
    assert next(read_rows(path))["prompt"] == messages


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"response": "r"}\n{"response": ""}\n', "row 2: the response is empty"),
        ("a.jsonl", '{"response": "r"}\n{"answer": "s"}\n', r"row 2: no column response; found \['answer'\]"),
        ("a.jsonl", '{"response": 4}\n', "row 1: the response is 4; expected a text"),
        ("a.jsonl", '{"response": "r"}\nnonsense\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is list; expected an object"),
        ("a.csv", "prompt,answer\np,r\n", r"no column response; found \['answer', 'prompt'\]"),
        ("a.csv", "prompt,response\n", "no rows; expected one answer per row"),
    ],
)
def test_a_mistake_is_named_before_anything_is_scored(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInputError, match=message):
        check_rows(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        check_rows(tmp_path / "nowhere.jsonl")
