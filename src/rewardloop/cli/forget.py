"""``rewardloop forget``: a labeler or a text out of everything that rewardloop keeps.

In: whom or what, and the configuration. Out: what went, which models were trained on it, and every copy that is left,
as words or as JSON.
"""

import contextlib
import dataclasses
import json
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.operation.forget import ForgetReport, Subject

_SHA256 = re.compile(r"[0-9a-f]{64}")


def forget(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    labeler: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A labeler's id, as it came in the files; repeatable.")
    ] = None,
    pseudonym: Annotated[
        list[str] | None, typer.Option(metavar="P", help="A labeler's pseudonym, l_...; repeatable.")
    ] = None,
    text_hash: Annotated[
        list[str] | None,
        typer.Option(metavar="SHA256", help="Of a text, as it is or normalized, or of a whole prompt; repeatable."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept for ever. Name nobody here.")] = "not said",
    by: Annotated[str | None, typer.Option(help="Who decides; your user name by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for runs that read it, in place of refusing.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Go on with what a process of another machine began, and left.")
    ] = False,
    despite: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="A run that is surely not at work any more; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove a labeler or a text from everything, and never take it again.

    Batches that hold it are rewritten under new digests; quarantine, decision log, golden set, run folders, steps'
    outputs and checkpoints lose it. Every model that was trained on it and every copy that is left is named. Without
    anybody to forget, what was cut short before is finished.
    """
    from rewardloop.cli.promote import connected
    from rewardloop.feedback.pseudonyms import pseudonym as pseudonym_of
    from rewardloop.feedback.pseudonyms import store_key
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.operation.forget import Asked, Forgetter
    from rewardloop.tracking.history import this_user

    settings = read_settings(config, overrides).settings
    key = store_key(settings.home)
    named = [pseudonym_of(key, _checked_id(one)) for one in labeler or []]
    asked = Asked(
        subject=_subject([*named, *(pseudonym or [])], text_hash or []),
        by=by or this_user(),
        reason=reason,
        dry_run=dry_run,
        wait=wait,
        take_over=take_over,
        despite=frozenset(despite or ()),
    )
    # Whatever is said on the way is not part of the JSON.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        store = FeedbackStore.open(settings.store.url)
        reports = Forgetter(settings, store, key, connected(settings), say=typer.echo).forget(asked)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(report) for report in reports], indent=1))
        return
    for report in reports:
        _show(report)


def _checked_id(labeler: str) -> str:
    if not labeler.strip():
        raise BadInputError("--labeler: is empty; give the id as it came in the files")
    return labeler


def _subject(labelers: list[str], texts: list[str]) -> "Subject":
    from rewardloop.feedback.pseudonyms import is_pseudonym
    from rewardloop.operation.forget import Subject

    for one in labelers:
        if not is_pseudonym(one):
            raise BadInputError(
                f"--pseudonym {one!r}: is no pseudonym; expected l_ and 16 hex digits. An id goes to --labeler"
            )
    for one in texts:
        if not _SHA256.fullmatch(one.lower()):
            raise BadInputError(
                f"--text-hash {one!r}: is no SHA-256; expected 64 hex digits: printf %s TEXT | sha256sum"
            )
    return Subject(frozenset(labelers), frozenset(one.lower() for one in texts))


def _show(report: "ForgetReport") -> None:
    if report.sequence is None and not report.dry_run:
        typer.echo("Nothing to do: it was forgotten before, or nothing was asked for, and no batch holds it")
        return
    would = "Would remove" if report.dry_run else "Removed"
    typer.echo(
        f"{would} {report.labels:,} labels and {report.groups:,} groups from {len(report.batches):,} batches, "
        f"{report.quarantined:,} quarantined rows, {report.decisions:,} decisions"
    )
    for old, new in sorted(report.batches.items()):
        became = (
            "would be rewritten" if report.dry_run else f"is now {new[:12]}" if new else "is gone: nothing was left"
        )
        typer.echo(f"  batch {old[:12]} {became}")
    _list("Cleaned" if not report.dry_run else "Would be cleaned in the store", report.places)
    _list("Models that were trained on it", report.models)
    _list("It is left here, for you to remove", report.remaining)
    if not report.dry_run:
        typer.echo("The next run's corpus has none of it, and no ingest takes it again: rewardloop run")


def _list(title: str, lines: list[str]) -> None:
    if lines:
        typer.echo(f"{title}:")
    for line in lines:
        typer.echo(f"  {line}")
