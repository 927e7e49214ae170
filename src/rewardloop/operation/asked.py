"""Which served answers were given to people already: ``asked/<sha256>.json`` in the feedback store.

In: the rows of an export. Out: the hashes of all exported texts, so that a second export before the labels are back
asks about others. No text is kept.
"""

import hashlib

import polars as pl
from pydantic import TypeAdapter, ValidationError

from rewardloop.errors import BadInputError
from rewardloop.operation.late_labels import TEXT
from rewardloop.storage import Storage

_FOLDER = "asked"
_TEXTS = TypeAdapter(list[tuple[str, str]])
"""(prompt_hash, response_hash), as in ``DECISIONS``."""


def keep_asked(storage: Storage, rows: pl.DataFrame) -> None:
    """Remember ``rows`` (with the columns ``TEXT``); remembering the same again changes nothing."""
    data = _TEXTS.dump_json(sorted(rows.select(TEXT).iter_rows())) + b"\n"
    storage.create(f"{_FOLDER}/{hashlib.sha256(data).hexdigest()}.json", data)


def asked_before(storage: Storage) -> frozenset[tuple[str, str]]:
    """(prompt_hash, response_hash) of every answer that was exported.

    Raises:
        BadInputError: a file is not one of ``keep_asked``.
    """
    found: set[tuple[str, str]] = set()
    for name in storage.list(_FOLDER):
        place = f"{_FOLDER}/{name}"
        try:
            found.update(_TEXTS.validate_json(storage.read(place)))
        except ValidationError as error:
            raise BadInputError(
                f"{storage.path(place)}: is not a list of exported answers: {error.errors()[0]['msg']}; restore it, or "
                "delete it to let its answers be asked about again"
            ) from error
    return frozenset(found)
