"""``rewardloop judge``: a model or programs label answers; their labels are ingested like any others.

In: files of answers or of feedback, or a batch of the store. Out: canonical records in a file, in the store, or both,
and how far a model agrees with the people who judged the same.
"""

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.cli.reading import Column, Format, Importer, Map, Option, reading_options
from rewardloop.errors import BadInputError, RewardloopError

if TYPE_CHECKING:
    import polars as pl

    from rewardloop.config import Settings
    from rewardloop.evidence import LabelerLine
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.judging.backends import Backend
    from rewardloop.judging.items import Item
    from rewardloop.judging.judge import Judged
    from rewardloop.records import FeedbackGroup


def judge(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Answers without labels (prompt and responses), or feedback.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    batch: Annotated[str | None, typer.Option(metavar="DIGEST", help="Judge a batch of the store instead.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the labels here, as canonical records.")] = None,
    ingest: Annotated[bool, typer.Option("--ingest", help="Take the labels into the store.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="Programs label (judge.rules), no model.")] = False,
    format: Format = "auto",
    map: Map = None,
    column: Column = None,
    option: Option = None,
    importer: Importer = None,
) -> None:
    """Let a model judge answers by the constitution of the configuration, or programs by its rules.

    What was answered is kept: after a stop or a kill the same command goes on from there. See docs/ai-feedback.md.
    """
    from rewardloop.feedback.pseudonyms import store_key
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.judging.items import items_of_batch, read_items
    from rewardloop.judging.rules import apply_rules
    from rewardloop.tables import feedback_frame

    if bool(files) == (batch is not None):
        raise BadInputError("judge: name either files of answers, or a batch of the store with --batch")
    if output is None and not ingest:
        raise BadInputError("judge: name where labels go: --output FILE, --ingest, or both")
    settings = read_settings(config, overrides).settings
    home = Path(settings.home).resolve()
    store = FeedbackStore.open(settings.store.url)
    key = store_key(home)
    if files:
        how = reading_options(format, map, column, option, importer)
        items, labels = read_items(files, settings, store, key=key, **how)
    else:
        items, labels = items_of_batch(store, batch or ""), feedback_frame([])
    if rules:
        judged = apply_rules(items, settings.judge.rules, limit=settings.store.max_read_bytes)
    else:
        judged = _by_model(items, settings, home)
    _show(judged, key)
    if not rules and judged.groups:
        _show_agreement(judged.groups, labels, store, settings)
    _deliver(judged, settings, store, key, output=output, ingest=ingest)
    if judged.asked and judged.asked.unasked:
        raise RewardloopError(
            f"judge: stopped before judge.max_cost ({settings.judge.max_cost:g}) was exceeded; "
            f"{len(judged.asked.unasked):,} questions were not asked. What was answered is kept: run the same again to "
            "go on"
        )


def _by_model(items: "list[Item]", settings: "Settings", home: Path) -> "Judged":
    from tqdm import tqdm

    from rewardloop.judging.cache import AnswerCache
    from rewardloop.judging.judge import judge_items

    backend = _backend(settings, home)
    with tqdm(desc="asking", unit=" questions", delay=2) as bar:
        judged = judge_items(items, backend, AnswerCache(home), settings.judge, progress=bar.update)
    budget, asked = backend.budget, judged.asked
    assert asked is not None, "a model was asked"
    cost = f", cost {budget.cost:.4g}" if budget.priced else ""
    typer.echo(
        f"asked {budget.requests:,} times ({budget.input_tokens:,} tokens read, {budget.output_tokens:,} written"
        f"{cost}), {asked.from_cache:,} answers were known, {asked.again:,} could not be read"
    )
    if items and not judged.groups and not asked.unasked:
        reasons = "; ".join(f"{count:,} {why}" for why, count in judged.left_out.items())
        raise RewardloopError(f"judge: no group has a label ({reasons}); correct judge.model or the constitution")
    return judged


def _backend(settings: "Settings", home: Path) -> "Backend":
    chosen = settings.judge
    if chosen.constitution is None:
        raise BadInputError("judge.constitution: is not set; write what the model is to judge by (guidelines)")
    if chosen.url is not None:
        from rewardloop.judging.endpoint import Endpoint

        return Endpoint(chosen, os.environ.get(chosen.key_variable) if chosen.key_variable else None)
    if chosen.base is not None:
        from rewardloop.judging.local import LocalJudge

        return LocalJudge(chosen, home / "base-models")
    raise BadInputError("judge: no model is named; set judge.base, or judge.url and judge.model")


def _show(judged: "Judged", key: bytes) -> None:
    from rewardloop.feedback.pseudonyms import pseudonym

    for labeler in judged.labelers:
        typer.echo(f"labeler {labeler} (in the store and in reports: {pseudonym(key, labeler)})")
    typer.echo(f"{len(judged.groups):,} of {judged.items:,} groups labeled, {judged.labels:,} labels")
    if judged.compared:
        typer.echo(
            f"  {judged.compared:,} pairs judged in both orders: {judged.inconsistent:,} contradict themselves, "
            f"{judged.ties:,} are ties, these among them"
        )
    if judged.decided:
        typer.echo(f"  the answer shown first was preferred in {judged.first / judged.decided:.1%} of verdicts")
    for reason, count in judged.left_out.items():
        typer.echo(f"  left out: {count:,} {reason}")


def _show_agreement(
    groups: "list[FeedbackGroup]", labels: "pl.DataFrame", store: "FeedbackStore", settings: "Settings"
) -> None:
    from rewardloop.judging.with_people import agreement_with_people
    from rewardloop.preferences.model_labelers import ALL_ALIKE

    line: LabelerLine | None = agreement_with_people(
        groups,
        labels,
        store,
        settings.preferences,
        criterion=settings.judge.criterion,
        seed=settings.evaluation.seed,
    )
    wanted = settings.preferences.model_labelers
    if line is None or line.alpha_with_people is None:
        weight = wanted.unproven if wanted.weight == "agreement" else wanted.weight
        few = (
            f"agreement with people is not known: fewer than {wanted.min_shared:,} pairs were judged by people too "
            "(preferences.model_labelers.min_shared)"
        )
        why = ALL_ALIKE if line is not None and ALL_ALIKE in line.findings else few
        typer.echo(f"{why}. A vote counts {weight:g} of a person's")
        return
    alpha, share = line.alpha_with_people, line.agreement
    assert share is not None, "where there is alpha, there are shared pairs"
    typer.echo(
        f"agreement with people: Krippendorff's alpha {alpha.value:.3f} ({alpha.low:.3f} to {alpha.high:.3f}); on "
        f"{share.value:.1%} of the pairs ({share.low:.1%} to {share.high:.1%}; {share.count:,} independent "
        f"comparisons) the same answer is preferred. A vote counts {line.weight:.2f} of a person's"
    )


def _deliver(
    judged: "Judged", settings: "Settings", store: "FeedbackStore", key: bytes, *, output: Path | None, ingest: bool
) -> None:
    from rewardloop.feedback.ingest import ingest as take
    from rewardloop.tables import canonical_json

    if not judged.groups:
        return
    with nullcontext() if output else tempfile.TemporaryDirectory() as folder:
        place = output or Path(str(folder)) / "judge.jsonl"
        _write(place, [canonical_json(group) for group in judged.groups])
        if output:
            typer.echo(f"wrote {output}; next: rewardloop ingest {output}" if not ingest else f"wrote {output}")
        if ingest:
            report = take([place], store, settings, key=key, format="canonical")
            typer.echo(report.summary)


def _write(output: Path, lines: list[str]) -> None:
    """Whole or not at all."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        raise BadInputError(f"--output {output}: {error.strerror or error}; name a file that can be written") from error
    finally:
        temporary.unlink(missing_ok=True)
