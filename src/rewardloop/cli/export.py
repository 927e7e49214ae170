"""``rewardloop export``: the store's feedback as one file for other tools.

In: the corpus of the next run, or named batches. Out: TRL's preference data or canonical records, as JSON lines or
Parquet.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError

_SPLITS = ("train", "validation", "calibration", "test")


def export(
    file: Annotated[Path, typer.Argument(help="Where to: .jsonl, or .parquet for preference data.")],
    format: Annotated[
        Literal["trl", "trl-conversational", "canonical"],
        typer.Option(help="TRL's preference data as texts or as messages, or rewardloop's own records."),
    ],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    batch: Annotated[
        list[str] | None, typer.Option(metavar="DIGEST", help="Only this batch; repeatable. Default: the corpus.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="|".join(_SPLITS), help="Only documents of this split; repeatable. Default: all."),
    ] = None,
    rule: Annotated[
        Literal["majority", "labels"],
        typer.Option(help="One row per pair that has a majority, or one per label that prefers an answer."),
    ] = "majority",
    criterion: Annotated[str | None, typer.Option(help="Default: preferences.criterion.")] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Golden documents, too.")] = False,
) -> None:
    """Write labeled feedback for other tools, and say what the format cannot carry."""
    if file.suffix.lower() not in (".jsonl", ".parquet"):
        raise BadInputError(f"{file}: expected a name that ends in .jsonl or .parquet")
    for name in split or ():
        if name not in _SPLITS:
            raise BadInputError(f"--split {name}: expected {', '.join(_SPLITS)} (golden documents: --golden)")
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.labeling.export import chosen_rows, export_feedback

    settings = read_settings(config, overrides).settings
    store = FeedbackStore.open(settings.store.url)
    if batch:
        digests = sorted({store.batch(prefix).digest for prefix in batch})
    else:
        digests = [one.digest for one in store.current_corpus(settings.corpus).batches]
    rows, left_out = chosen_rows(store, digests, golden=golden, splits=split or ())
    wanted = criterion or settings.preferences.criterion
    done = export_feedback(rows, file, format=format, rule=rule, criterion=wanted, left_out=left_out)
    of = "" if format == "canonical" else f" by {rule} on {wanted!r}"
    typer.echo(f"{file}: {done.rows:,} rows ({format}{of}) from {done.groups:,} groups of {len(digests):,} batches")
    if done.with_margin and done.with_margin < done.rows:
        typer.echo(f"  margin: on {done.with_margin:,} rows only, those with ratings; a trainer may want all or none")
    for reason, count in done.left_out.items():
        typer.echo(f"  left out: {count:,} groups {reason}")
    for reason, count in done.not_carried.items():
        typer.echo(f"  not carried: {count:,} {reason}")
