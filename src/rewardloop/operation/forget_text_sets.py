"""Texts that runs were given beside feedback: prompts, demonstrations, and a start policy's answers to them.

In: the store, and what is forgotten. Out: the files that hold it. They go whole: a run makes them again from the file
of the user. Nothing says which run read which of them.
"""

import io
from collections.abc import Iterator

import polars as pl

from rewardloop.errors import BadInputError
from rewardloop.feedback.forgotten_texts import ForgottenTexts
from rewardloop.storage import Storage

_COLUMNS = ["prompt", "response"]


def text_sets_with(storage: Storage, sought: ForgottenTexts) -> list[str]:
    """Files in ``texts/`` and ``references/`` that hold it, as paths in the store."""
    if not sought.marks:
        return []
    tables = ((name, read_table(storage, name, _COLUMNS)) for name in _files(storage))
    # Every row is looked at: each may hold another text.
    return [name for name, table in tables if True in [sought.in_row(row) for row in table.iter_rows(named=True)]]


def read_table(storage: Storage, name: str, columns: list[str] | None = None) -> pl.DataFrame:
    """A Parquet file of the store.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        return pl.read_parquet(io.BytesIO(storage.read(name)), columns=columns)
    except pl.exceptions.PolarsError as error:
        raise BadInputError(f"{storage.path(name)}: cannot be read: {error}; restore it") from error


def _files(storage: Storage) -> Iterator[str]:
    for folder in ("texts", *(f"references/{key}" for key in storage.list("references"))):
        yield from (f"{folder}/{file}" for file in storage.list(folder) if file.endswith(".parquet"))
