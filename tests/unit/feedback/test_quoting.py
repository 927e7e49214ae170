"""Values in reasons are short, and a cut leaves nothing of an address or a number."""

from typing import Any

import pytest

from rewardloop.feedback.importers.quoting import cut, quoted, shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("short", '"short"'),
        (None, "null"),
        ("a" * 100, '"' + "a" * 59 + "..."),
        ("word " * 40, '"' + "word " * 11 + "word..."),
        ("write to me at my private address: anna.smith.longer@mail.example", '"write to me at my private address:...'),
        (
            "my number is, if you ever want to call me here: +44 20 7946 0958",
            '"my number is, if you ever want to call me...',
        ),
        (
            "my account is the one with number GB29 NWBK 6016 1331 9268 19",
            '"my account is the one with...',
        ),
        ("anna.smith." * 8 + "@mail.example", '"...'),
        (list(range(100)), "[..."),
        ({"a": "b" * 30, "c": "d e f " * 20}, '{"a": "' + "b" * 30 + '", "c": "d e f d e f d ...'),
        ("ä \u009b31m \u202e \ud800 \u2028", r'"ä \u009b31m \u202e \ud800 \u2028"'),
        ("one\ntwo", r'"one\ntwo"'),
    ],
)
def test_a_value_in_a_reason(value: Any, expected: str) -> None:
    assert shown(value) == expected


def test_a_cut_address_of_a_file_ends_between_its_folders() -> None:
    assert (
        cut("s3://bucket/output/job-17/annotations/worker-response", 40)
        == "s3://bucket/output/job-17/annotations/wo..."
    )
    assert cut("s3://bucket/output/job-17/annotations/1/2/3/4/5/6/7/8/9", 39) == "s3://bucket..."


def test_a_quoted_text() -> None:
    assert quoted("it's \x07") == r"'it's \u0007'"
    assert quoted("word " * 40) == "'" + "word " * 12 + "...'"
