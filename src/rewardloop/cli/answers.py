"""Files of answers to score: JSONL or CSV of any length, one row at a time.

In: a file with the columns response and, where there is one, prompt. Out: rows as dictionaries of these two.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewardloop.errors import BadInputError


def check_rows(file: Path) -> None:
    """Read the whole file once, so that a mistake in its last row is found before anything is scored.

    Raises:
        BadInputError: names the row, what was found and what is expected.
    """
    rows = sum(1 for _ in read_rows(file))
    if not rows:
        raise BadInputError(f"{file}: no rows; expected one answer per row")


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Rows with ``prompt`` (text, messages or nothing) and ``response``."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream) if file.suffix == ".csv" else _json_rows(file, stream)
            for number, row in enumerate(rows, start=1):
                if "response" not in row:
                    raise BadInputError(f"{file}: row {number}: no column response; found {sorted(map(str, row))}")
                response = row["response"]
                if response is None or response == "":
                    raise BadInputError(f"{file}: row {number}: the response is empty; expected a text")
                if not isinstance(response, str):
                    raise BadInputError(f"{file}: row {number}: the response is {response!r}; expected a text")
                yield {"prompt": row.get("prompt", ""), "response": response}
    except OSError as error:
        raise BadInputError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def _json_rows(file: Path, stream: Any) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInputError(
                f"{file}: line {number} is not JSON ({error.msg}); expected JSONL, or CSV in a file named *.csv"
            ) from error
        if not isinstance(row, dict):
            raise BadInputError(f"{file}: line {number} is {type(row).__name__}; expected an object with response")
        yield row
