"""The store's feedback as one file for other tools.

In: the store, which batches, splits and format. Out: a file that is there whole or not at all, and counts of what went
into it and what did not. Golden documents stay in the store unless they are asked for: whoever trains on them elsewhere
can no longer judge by them here.
"""

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from rewardloop.config import SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.labeling.preference_files import Format, Rule, group_of, preference_pairs, trl_row
from rewardloop.preferences.splits import TOUCHES_GOLDEN, place_rows
from rewardloop.tables import MESSAGES, canonical_json

GOLDEN = "golden: never trained on, so they stay here (--golden lets them out)"
OTHER_SPLIT = "in splits that were not asked for"
_PART = 20_000
"""Rows of a Parquet file that are held as Python objects at once."""
_TEXTS: dict[bool, pl.DataType] = {True: MESSAGES, False: pl.String()}


class Exported(NamedTuple):
    """What was written."""

    rows: int
    groups: int
    """Feedback groups that were looked at."""
    left_out: dict[str, int]
    """Reason -> groups that were not looked at."""
    not_carried: dict[str, int]
    """What the format has no place for -> how often."""
    with_margin: int


def chosen_rows(
    store: FeedbackStore, digests: Sequence[str], *, golden: bool, splits: Sequence[str] = ()
) -> tuple[pl.DataFrame, dict[str, int]]:
    """``FEEDBACK`` rows of batches, each record once, in an order of their own; and what was left out by reason.

    Args:
        store: where they are.
        digests: of batches.
        golden: golden documents, too.
        splits: only rows of these; all where it is empty.

    Raises:
        BadInputError: nothing is left.
    """
    frames = [store.read_batch(digest) for digest in digests]
    if not frames:
        raise BadInputError(f"{store.storage.url}: has no batch to export; ingest feedback first, or accept a batch")
    rows = pl.concat(frames).unique("record").sort("content", "record")
    placed = place_rows(rows, store.splits() or SplitSettings(), frozenset(store.golden_documents()))
    is_golden = (pl.col("split") == "golden") | (pl.col("why") == TOUCHES_GOLDEN)
    why = pl.when(is_golden).then(pl.lit(None if golden else GOLDEN, pl.String)).otherwise(pl.lit(None, pl.String))
    if splits:
        other = pl.when(~pl.col("split").is_in([*splits, *(["golden"] if golden else [])]))
        why = pl.coalesce(why, other.then(pl.lit(OTHER_SPLIT)).otherwise("why"))
    reasons = placed.select(why.alias("reason"))["reason"]
    left_out = {str(reason): int(count) for reason, count in sorted(reasons.drop_nulls().value_counts().rows())}
    kept = rows.filter(reasons.is_null())
    if kept.is_empty():
        found = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise BadInputError(f"{store.storage.url}: nothing is left to export ({found or 'no groups'})")
    return kept, left_out


def export_feedback(
    rows: pl.DataFrame, output: Path, *, format: Format, rule: Rule, criterion: str, left_out: dict[str, int]
) -> Exported:
    """Write the rows of ``chosen_rows`` to ``output``: Parquet where its name ends so, else JSON lines.

    Raises:
        BadInputError: the file cannot be written, is there with other content, or would be empty.
    """
    counts: Counter[str] = Counter()
    made = Counter[str]()
    parquet = output.suffix.lower() == ".parquet"
    if format == "canonical":
        if parquet:
            raise BadInputError(f"{output}: canonical records are JSON lines; name a file that ends in .jsonl")
        lines: Iterable[str] = (canonical_json(group_of(row)) for row in rows.iter_rows(named=True))
        _whole(output, made, lambda path: _write_lines(path, lines, made))
    else:
        talk = format == "trl-conversational"
        found = _trl_rows(rows, criterion, rule, talk, counts, made)
        if parquet:
            _whole(output, made, lambda path: _write_parquet(path, found, _TEXTS[talk], made))
        else:
            _whole(output, made, lambda path: _write_lines(path, map(_dumped, found), made))
    not_carried = {reason: count for reason, count in counts.items() if count}
    return Exported(made["rows"], len(rows), left_out, not_carried, made["margins"])


def _trl_rows(
    rows: pl.DataFrame, criterion: str, rule: Rule, conversational: bool, counts: Counter[str], made: Counter[str]
) -> Iterator[dict[str, Any]]:
    for _, same in itertools.groupby(rows.iter_rows(named=True), key=lambda row: row["content"]):
        for pair in preference_pairs([group_of(row) for row in same], criterion, rule, counts):
            row = trl_row(pair, conversational=conversational, counts=counts)
            if row is not None:
                made["margins"] += pair.margin is not None
                yield row


def _dumped(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str], made: Counter[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for line in lines:
            stream.write(line + "\n")
            made["rows"] += 1


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]], text: pl.DataType, made: Counter[str]) -> None:
    prompt = pl.String() if text == pl.String else MESSAGES
    columns = {"prompt": prompt, "chosen": text, "rejected": text, "margin": pl.Float64()}
    parts = [pl.DataFrame(schema=columns)]
    while part := list(itertools.islice(rows, _PART)):
        parts.append(pl.DataFrame(part, schema=columns))
    whole = pl.concat(parts)
    made["rows"] += len(whole)
    # A column of nulls would be taken for margins.
    (whole if made["margins"] else whole.drop("margin")).write_parquet(path)


def _whole(output: Path, made: Counter[str], write: Callable[[Path], None]) -> None:
    """Under another name first; what is there is only replaced by the same."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        write(temporary)
        if not made["rows"]:
            raise BadInputError(f"{output}: no row can be written in this format; see docs/labeling.md for its rules")
        if output.exists() and output.read_bytes() != temporary.read_bytes():
            raise BadInputError(f"{output}: is there with other content; name a new file")
        temporary.replace(output)
    except OSError as error:
        raise BadInputError(f"{output}: {error.strerror or error}; name a file that can be written") from error
    finally:
        temporary.unlink(missing_ok=True)
