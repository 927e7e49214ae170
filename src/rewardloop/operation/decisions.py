"""Logged decisions as a table, for drift, late labels and the choice of what is labeled next.

In: ``decisions/<date>/*.jsonl`` of the feedback store, as ``rewardloop serve`` writes them. Out: ``DECISIONS``, and
every line that is no decision with its place: nothing is skipped without being counted.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl
from pydantic import ValidationError

from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.storage import Storage
from rewardloop.tables import MESSAGES, schema

_FOLDER = "decisions"
_DAY = timedelta(days=1)

DECISIONS = schema(
    {
        "at": pl.Datetime("us", "UTC"),
        "model_version": pl.String,
        "segment": pl.String,
        "prompt": MESSAGES,  # null where texts are not logged
        "response": pl.String,
        "prompt_hash": pl.String,  # records.prompt_key
        "response_hash": pl.String,  # records.text_digest of the normalized text
        "prompt_characters": pl.Int64,
        "response_characters": pl.Int64,
        "score": pl.Float64,  # public; null where the answer could not be scored
        "decision": pl.String,  # accept | review | block; null without a threshold
        "threshold": pl.Float64,
    }
)
_TEXTS = {"prompt", "response"}


class LoggedDecisions(NamedTuple):
    """``broken``: lines that are not decisions, as place and cause."""

    frame: pl.DataFrame
    broken: list[str]


def read_decisions(
    storage: Storage, since: datetime, version: str | None = None, *, texts: bool = False
) -> LoggedDecisions:
    """Decisions from ``since`` on, oldest first.

    Args:
        storage: of the feedback store.
        since: an aware time.
        version: of the model that decided; None: any.
        texts: read prompts and responses too, where they were logged; without, both columns are null.
    """
    # A file is named by its first record: one of the day before may hold records of this day.
    first = (since.astimezone(UTC) - _DAY).date().isoformat()
    rows: list[dict[str, Any]] = []
    broken: list[str] = []
    for date in (name for name in storage.list(_FOLDER) if name >= first):
        for name in storage.list(f"{_FOLDER}/{date}"):
            if name.endswith(".jsonl"):
                _read_file(storage, f"{_FOLDER}/{date}/{name}", since, version, texts, rows, broken)
    return LoggedDecisions(pl.DataFrame(rows, schema=DECISIONS).sort("at", maintain_order=True), broken)


def _read_file(
    storage: Storage,
    place: str,
    since: datetime,
    version: str | None,
    texts: bool,
    rows: list[dict[str, Any]],
    broken: list[str],
) -> None:
    left_out = set() if texts else _TEXTS
    # Not splitlines(): JSON strings may hold U+2028 and the like as they are.
    for number, line in enumerate(storage.read(place).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = DecisionRecord.model_validate_json(line)
            at = datetime.fromisoformat(record.at)
            if at.tzinfo is None:
                raise ValueError(f"at: {record.at} has no time zone")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"]))
            broken.append(f"{place}:{number}: {field + ': ' if field else ''}{first['msg']}")
            continue
        except ValueError as error:
            broken.append(f"{place}:{number}: {error}")
            continue
        if at < since or (version is not None and record.model_version != version):
            continue
        row = {name: None if name in left_out else getattr(record, name) for name in DECISIONS.names()}
        rows.append(row | {"at": at.astimezone(UTC)})
