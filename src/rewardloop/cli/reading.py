"""Options that say how files of feedback are read, for every command that reads some."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rewardloop.errors import BadInputError

Format = Annotated[str, typer.Option(help="The format, or auto: decided by content.")]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=COLUMN,...", help="What the file calls its columns; repeatable."),
]
Column = Annotated[
    list[str] | None, typer.Option(metavar="NAME=COLUMN", help="One column whose name holds a comma; repeatable.")
]
Option = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the format; repeatable.")]
Importer = Annotated[
    Path | None, typer.Option(metavar="FILE.py", help="An importer of your own. The file is code, and is run.")
]


def reading_options(
    format: str, map: list[str] | None, column: list[str] | None, option: list[str] | None, importer: Path | None
) -> dict[str, Any]:
    """How files are read, for ``ingest`` and its like, from what the command line says.

    Raises:
        BadInputError: a malformed or contradicting value, or a name that no format knows.
    """
    from rewardloop.feedback.importers.base import load_importer

    if importer is not None:
        load_importer(importer)
    columns = mapped_columns(map)
    for name, value in named_values("--column", column).items():
        if columns.setdefault(name, value) != value:
            raise BadInputError(f"--column {name}={value}: --map says {name}={columns[name]}; name the column once")
    options = named_values("--option", option)
    if format == "auto":
        _check_known("--map" if map else "--column", columns, columns=True)
        _check_known("--option", options, columns=False)
    return {"format": format, "columns": columns, "options": options}


def _check_known(flag: str, names: dict[str, str], *, columns: bool) -> None:
    """With a format that is found by content, a name that no format knows must not end as "not recognized"."""
    from rewardloop.feedback.importers.base import importers

    known = {one.name: one.column_options() if columns else one.other_options() for one in importers().values()}
    for name in names:
        if not any(name in allowed for allowed in known.values()):
            listed = "".join(f"\n  {format}: {', '.join(allowed) or 'none'}" for format, allowed in known.items())
            raise BadInputError(f"{flag} {name}: no format knows this name. Formats and theirs:{listed}")


def mapped_columns(values: list[str] | None) -> dict[str, str]:
    """``NAME=COLUMN,NAME=COLUMN`` as pairs; a name with two columns is refused."""
    result: dict[str, str] = {}
    for name, column in _mapped(values or []):
        if result.setdefault(name, column) != column:
            raise BadInputError(f"--map {name}={column}: {name} is {result[name]!r} already; name the column once")
    return result


def _mapped(values: list[str]) -> Iterator[tuple[str, str]]:
    for value in values:
        for part in value.split(","):
            name, equals, column = part.partition("=")
            if not equals or not name.strip() or not column.strip():
                raise BadInputError(
                    f"--map {value!r}: found {part!r}; expected NAME=COLUMN,NAME=COLUMN. A column whose name holds a "
                    "comma goes to --column NAME=COLUMN"
                )
            yield name.strip(), column.strip()


def named_values(flag: str, values: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` texts as pairs; of a name given twice the last counts."""
    result = {}
    for value in values or []:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise BadInputError(f"{flag} {value!r}: expected NAME=VALUE")
        result[name] = text
    return result
