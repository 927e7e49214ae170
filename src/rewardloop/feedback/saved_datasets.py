"""Data sets of the ``datasets`` library: folders that it saved, and names on the Hugging Face hub.

In: a folder with ``state.json`` (or ``dataset_dict.json``: its splits), or ``hf://datasets/OWNER/NAME[/SPLIT]``, which
needs the network or a copy in the library's cache. Out: their columns. The library runs no code of a data set.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.archives import Content, file_at
from rewardloop.feedback.columnar import Columns, columns_of, refusing
from rewardloop.feedback.columnar_classes import class_names, named, schema_classes
from rewardloop.feedback.columnar_limits import check_types

if TYPE_CHECKING:
    import pyarrow as pa

_HUB = "hf:"
_SAVED, _SPLITS, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"
_ROWS = 1_024
_log = logging.getLogger(__name__)


def is_saved(path: Path) -> bool:
    """Whether the path is a saved data set, or the name of one on the hub."""
    if path.parts[:1] == (_HUB,) and not path.exists():
        return True
    return path.is_dir() and any((path / name).is_file() for name in (_SAVED, _SPLITS))


def saved_datasets(path: Path, limit: int) -> Iterator[tuple[str, str, Columns]]:
    """Name, digest and columns of the data set; one of each split where it has several.

    Raises:
        BadInputError: damaged, too large, or (a name on the hub) not to be had.
    """
    if path.parts[:1] == (_HUB,) and not path.exists():
        yield _from_hub(path, limit)
        return
    if (path / _SAVED).is_file():
        yield _from_folder(path, path.name, limit)
        return
    splits = _strings(_state(path, _SPLITS).get("splits"), path / _SPLITS)
    filled = [split for split in splits if _state(path / split, _SAVED).get("_data_files") != []]
    for split in splits:
        if filled and split not in filled:
            _log.warning("%s/%s: the split has no rows and is left out", path.name, split)
    for split in filled or splits:
        name, digest, columns = _from_folder(path / split, f"{path.name}/{split}", limit)
        limit -= columns.size
        yield name, digest, columns


def _from_folder(folder: Path, name: str, limit: int) -> tuple[str, str, Columns]:
    """The Arrow files that the folder's state names, one behind the other, as ``datasets.load_from_disk`` joins them.

    They are read by the limits of any Arrow file; the library maps them into memory as they are.
    """
    state = _state(folder, _SAVED)
    files = state.get("_data_files")
    if files == []:
        raise BadInputError(f"{name}: the saved data set has no rows; expected rows of feedback")
    if not isinstance(files, list) or not files or not all(isinstance(one, dict) for one in files):
        raise BadInputError(f"{folder / _SAVED}: names no data files; save the data set again")
    parts: list[Columns] = []
    digest = hashlib.sha256()
    for file in _strings([one.get("filename") for one in files], folder / _SAVED):
        found = file_at(folder / file, limit)
        digest.update(found.digest().encode())
        parts.append(columns_of(Content(f"{name}/{file}", found.open, found.path), limit))
        limit -= parts[-1].size
    if any(part.names != parts[0].names for part in parts):
        raise BadInputError(f"{folder}: its data files have different columns; save the data set again")

    # The files say it, too, unless they were written by something else than the library.
    classes = class_names(_state(folder, _INFO).get("features")) if (folder / _INFO).is_file() else {}

    def batches() -> Iterator["pa.RecordBatch"]:
        for part in parts:
            yield from named(part.batches(), classes)

    size = sum(part.size for part in parts)
    return name, digest.hexdigest(), Columns("the saved data set", parts[0].names, batches, size, limit + size)


def _state(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{folder / name}: cannot be read: {error}; save the data set again") from error
    if not isinstance(found, dict):
        raise BadInputError(f"{folder / name}: is not a JSON object; save the data set again")
    return found


def _strings(found: Any, place: Path) -> list[str]:
    """Names of files or folders inside the folder; nothing outside is ever read."""
    names = found if isinstance(found, list) else []
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or "\0" in name or Path(name).name != name:
            raise BadInputError(f"{place}: names {str(name)!r}, which is no file of the folder; save it again")
    if not names:
        raise BadInputError(f"{place}: names nothing; save the data set again")
    return names


def _from_hub(path: Path, limit: int) -> tuple[str, str, Columns]:
    """A split of a data set on the hub; the only one where none is named."""
    parts = path.parts[1:]
    if len(parts) not in (3, 4) or parts[0] != "datasets":
        raise BadInputError(f"hf://{'/'.join(parts)}: expected hf://datasets/OWNER/NAME, or with /SPLIT behind")
    shown, repository = f"hf://{'/'.join(parts)}", f"{parts[1]}/{parts[2]}"
    data = _loaded(shown, repository, parts[3] if len(parts) == 4 else None)
    schema = data.features.arrow_schema
    check_types(shown, schema)
    classes = schema_classes(schema)

    def batches() -> Iterator["pa.RecordBatch"]:
        for table in data.with_format("arrow").iter(batch_size=_ROWS):
            for batch in table.to_batches():
                batch.validate(full=True)
                yield batch

    digest = hashlib.sha256()
    for file in data.cache_files:
        digest.update(file_at(Path(file["filename"]), sys.maxsize).digest().encode())
    size = int(data.data.nbytes)
    if size > limit:
        raise BadInputError(
            f"{shown}: comes to {size:,} bytes; {limit:,} are left to read at a time (store.max_read_bytes). Raise "
            "it, or name a part of the data set: a file of it"
        )
    return (
        shown,
        digest.hexdigest(),
        Columns("the data set of the hub", tuple(schema.names), lambda: named(batches(), classes), size, limit),
    )


def _loaded(shown: str, repository: str, split: str | None) -> Any:
    from datasets import DatasetDict, load_dataset

    try:
        found = load_dataset(repository, split=split)
    except Exception as error:
        # The library and the hub's client have a dozen names for "not there" and "no network".
        reason = str(error).partition("\n")[0][:300] or type(error).__name__
        raise BadInputError(
            f"{shown}: cannot be had: {reason}. A data set of the hub needs the network, or a copy in the cache of "
            "`datasets`; without either, fetch its files elsewhere and name them"
        ) from error
    if isinstance(found, DatasetDict):
        if len(found) > 1:
            raise BadInputError(f"{shown}: has the splits {', '.join(found)}; name one: {shown}/{next(iter(found))}")
        found = next(iter(found.values()))
    with refusing(shown, "the data set of the hub"):
        return found
