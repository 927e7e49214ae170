"""Columns of classes, which ``datasets`` keeps as numbers, get the names of their classes back.

In: the features that the library writes into a file's schema or beside a saved data set, and record batches. Out: the
batches with names: a number says nothing to a reader, and which class is 0 differs from data set to data set.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_FEATURES = b"huggingface"
"""Key of the schema's metadata under which ``datasets`` keeps what its columns are."""


def class_names(features: Any) -> dict[str, list[str]]:
    """Columns of classes -> the names that their numbers stand for, from the features of ``datasets`` (as JSON)."""
    listed = features.items() if isinstance(features, dict) else ()
    kinds = {name: kind for name, kind in listed if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"}
    return {
        name: kind["names"]
        for name, kind in kinds.items()
        if isinstance(kind.get("names"), list) and all(isinstance(one, str) for one in kind["names"])
    }


def schema_classes(schema: "pa.Schema") -> dict[str, list[str]]:
    """The same from what ``datasets`` writes into the files.

    Raises:
        ValueError: it is no JSON.
    """
    metadata = (schema.metadata or {}).get(_FEATURES)
    if metadata is None:
        return {}
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata of `datasets` are no JSON ({error})") from None
    info = found.get("info") if isinstance(found, dict) else None
    return class_names(info.get("features") if isinstance(info, dict) else None)


def named(batches: "Iterator[pa.RecordBatch]", classes: Mapping[str, list[str]]) -> "Iterator[pa.RecordBatch]":
    """The batches with names in place of the numbers of classes; what has no class (-1, by convention) becomes null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches:
        for place, field in enumerate(batch.schema):
            names = classes.get(field.name)
            if names is None or not pa.types.is_integer(field.type):
                continue
            numbers = pc.cast(batch.column(place), pa.int64())
            known = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, len(names)))
            places = pc.if_else(known, numbers, pa.scalar(None, pa.int64()))
            # As a dictionary: a name is counted, and made, once per row that has it.
            words = pa.DictionaryArray.from_arrays(places, pa.array(names, pa.string()))
            batch = batch.set_column(place, field.name, words)
        yield batch
