"""Texts that are no feedback: prompts to align on, demonstrations, prompts and texts to evaluate with.

In: a JSONL or CSV file of the user's (plain, gzip or zip). Out: a content-addressed table in the store,
``texts/<digest>.parquet``, which every step reads by its digest, wherever it runs. Rows keep their order; equal rows
are kept once.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl

from rewardloop.errors import BadInputError
from rewardloop.feedback.reading import MAX_BYTES, Source, read_sources
from rewardloop.modeling.scoring.encoding import as_messages
from rewardloop.records import prompt_key
from rewardloop.storage import Storage
from rewardloop.tables import MESSAGES, schema

Kind = Literal["prompts", "demonstrations", "texts"]
TEXTS = schema({"prompt": MESSAGES, "response": pl.String, "key": pl.String})
"""``response`` is null in sets of prompts, ``prompt`` empty in sets of texts; ``key`` is the prompt's digest as splits
see it."""
_RESPONSES = ("response", "completion", "output")
_EXPECTED = {
    "prompts": "a column prompt (text or messages)",
    "demonstrations": "the columns prompt and response (or completion), or messages that end with the assistant's",
    "texts": "a column text",
}


def read_text_set(path: Path, kind: Kind, *, limit: int = MAX_BYTES) -> pl.DataFrame:
    """Rows of a user's file, of at most ``limit`` bytes once unpacked, as a ``TEXTS`` table.

    Raises:
        BadInputError: the file cannot be read, or names the first row that is not what ``kind`` needs.
    """
    rows: dict[bytes, dict[str, Any]] = {}
    for source in read_sources([path], limit=limit):
        for number, content in _rows(source):
            try:
                row = _row(content, kind)
                # Half of a surrogate pair is no text: it cannot be encoded.
                known = json.dumps(row, sort_keys=True, ensure_ascii=False).encode()
            except (ValueError, TypeError, KeyError) as error:
                raise BadInputError(f"{source.name}: row {number}: {error}; expected {_EXPECTED[kind]}") from error
            rows.setdefault(known, row)
    if not rows:
        raise BadInputError(f"{path}: no rows; expected {_EXPECTED[kind]}")
    return pl.DataFrame(list(rows.values()), schema=TEXTS)


def keep_text_set(storage: Storage, frame: pl.DataFrame) -> str:
    """Put a ``TEXTS`` table into the store and return its digest."""
    digest = _digest(frame)
    name = f"texts/{digest}.parquet"
    if not storage.exists(name):
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        storage.create(name, buffer.getvalue())
    return digest


def load_text_set(storage: Storage, digest: str) -> pl.DataFrame:
    """The ``TEXTS`` table with this digest.

    Raises:
        BadInputError: it is missing or was changed.
    """
    name = f"texts/{digest}.parquet"
    try:
        frame = pl.read_parquet(io.BytesIO(storage.read(name)))
    except (FileNotFoundError, pl.exceptions.PolarsError) as error:
        raise BadInputError(f"{storage.path(name)}: cannot be read: {error}; start the run again") from error
    if frame.schema != TEXTS or _digest(frame) != digest:
        raise BadInputError(f"{storage.path(name)}: was changed; remove it and start the run again")
    return frame


def _digest(frame: pl.DataFrame) -> str:
    total = hashlib.sha256()
    for row in frame.iter_rows(named=True):
        total.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return total.hexdigest()


def _rows(source: Source) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if source.text.lstrip()[:1] not in "{[":
        yield from _csv_rows(source)
        return
    # Not splitlines(): JSON strings may hold U+2028 and the like as they are.
    for number, line in enumerate(source.text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise BadInputError(f"{source.name}: line {number} is not JSON ({reason}); expected JSONL") from error
        if not isinstance(content, dict):
            raise BadInputError(f"{source.name}: line {number} is a {type(content).__name__}; expected an object")
        yield number, content


def _csv_rows(source: Source) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(len(source.text) + 1)  # the file as a whole is limited
    reader = csv.DictReader(io.StringIO(source.text, newline=""), strict=True)
    number = 0
    try:
        for number, content in enumerate(reader, start=1):
            if None in content:
                raise BadInputError(
                    f"{source.name}: row {number} has more cells than the header; put texts with commas into quotes"
                )
            yield number, content
    except csv.Error as error:
        raise BadInputError(
            f"{source.name}: row {number + 1} is not CSV ({error}); close every quote, and double those inside a text"
        ) from error


def _row(content: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    if kind == "texts":
        return _made([], _text(content.get("text", content.get("response")), "text"))
    if kind == "demonstrations" and content.get("messages"):
        messages = as_messages(content["messages"])
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise ValueError("messages do not end with an answer of the assistant")
        return _made(messages[:-1], _text(messages[-1]["content"], "last message"))
    prompt = content.get("prompt")
    if isinstance(prompt, Mapping) and "text" in prompt:  # RealToxicityPrompts
        prompt = prompt["text"]
    messages = as_messages(prompt)
    if not messages or not any(message["content"].strip() for message in messages):
        raise ValueError(f"the prompt is {'missing' if 'prompt' not in content else 'empty'}")
    if kind == "prompts":
        return _made(messages, None)
    name = next((name for name in _RESPONSES if content.get(name) is not None), "response")
    response = content.get(name)
    if isinstance(response, list):  # TRL writes a completion as messages
        response = as_messages(response)[-1]["content"] if response else None
    return _made(messages, _text(response, name))


def _made(messages: list[dict[str, str]], response: str | None) -> dict[str, Any]:
    key = prompt_key((message["role"], message["content"]) for message in messages)
    return {"prompt": messages, "response": response, "key": key}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}")
    return value
