"""``rewardloop ingest``: files of feedback become one immutable batch of the store."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.config import Settings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.feedback.store import FeedbackStore


def ingest(
    files: Annotated[
        list[Path],
        typer.Argument(help="Feedback: files, plain or packed; saved data sets; hf://datasets/OWNER/NAME[/SPLIT]."),
    ],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="The format, or auto: decided by content.")] = "auto",
    map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=COLUMN,...", help="What the file calls its columns; repeatable."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="One column whose name holds a comma; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the format; repeatable.")
    ] = None,
    importer: Annotated[
        Path | None, typer.Option(metavar="FILE.py", help="An importer of your own. The file is code, and is run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: show the first records and the counts.")
    ] = False,
) -> None:
    """Take a batch of feedback into the store; the same file twice adds nothing.

    Formats, their columns and options: docs/feedback-formats.md.
    """
    from rewardloop.feedback.ingest import ingest as take
    from rewardloop.feedback.pseudonyms import store_key
    from rewardloop.feedback.store import FeedbackStore

    settings = read_settings(config, overrides).settings
    how = reading_options(format, map, column, option, importer)
    store = FeedbackStore.open(settings.store.url)
    if dry_run:
        _show(files, store, settings, how)
        return
    key = store_key(settings.home)
    report = take(files, store, settings, key=key, say=typer.echo, progress=True, **how)
    typer.echo(report.summary)
    for reason in report.reasons:
        typer.echo(f"  quarantined: {reason}")


def _show(files: list[Path], store: "FeedbackStore", settings: Settings, how: dict[str, Any]) -> None:
    from rewardloop.feedback.dry_run import in_words, look
    from rewardloop.feedback.pseudonyms import KEY_FILE, KEY_VARIABLE, store_key

    known = KEY_VARIABLE in os.environ or (Path(settings.home) / KEY_FILE).exists()
    key = store_key(settings.home) if known else secrets.token_hex(32).encode()
    found = look(files, store, settings, key=key, say=typer.echo, progress=True, **how)
    for line in in_words(found):
        typer.echo(line)
    if not known:
        typer.echo("labelers are shown under names for this dry run only: there is no labeler key yet")
    typer.echo("dry run: nothing was written")
    if found.refusal is not None:
        raise BadInputError(found.refusal)


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
