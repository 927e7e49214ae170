"""``rewardloop score``: ask the champion, one text or a whole file of an LLM's answers."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError

_WORST = 5


def score(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    text: Annotated[list[str] | None, typer.Option(help="An answer to score; repeatable.")] = None,
    prompt: Annotated[str, typer.Option(help="The prompt that --text answers.")] = "",
    file: Annotated[
        Path | None, typer.Option(help="JSONL or CSV with the columns response and, where there is one, prompt.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write every score of --file here, as JSONL.")] = None,
    version: Annotated[str, typer.Option(help="Version or alias of the reward model.")] = "champion",
) -> None:
    """Score answers with the organization's own reward model and its threshold.

    A file of an LLM's answers gives its mean score, accepted share and worst answers.
    """
    if bool(text) == (file is not None):
        raise BadInputError("score: give either --text (once or more) or --file")
    # Loading a model is no news here.
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    from rewardloop.modeling.scoring import as_messages

    if output is not None and not output.parent.is_dir():
        raise BadInputError(f"--output {output}: there is no folder {output.parent}; make it first")
    rows = _read(file) if file else [{"prompt": prompt, "response": item} for item in text or []]
    try:
        prompts = [as_messages(row["prompt"]) for row in rows]
    except ValueError as error:
        raise BadInputError(f"{file or '--prompt'}: {error}") from error
    scorer, name = _load(config, overrides, version)
    scores = scorer.score(prompts, [row["response"] for row in rows])
    allowed = scorer.allowed(scores) if scorer.threshold is not None else [None] * len(scores)
    results = [
        {
            **row,
            "score": round(float(value), 4),
            "allowed": None if ok is None else bool(ok),
            "threshold": scorer.threshold,
            "model": name,
        }
        for row, value, ok in zip(rows, scores, allowed, strict=True)
    ]
    if file is None:
        for result in results:
            verdict = {True: "accept", False: "block ", None: ""}[result["allowed"]]
            typer.echo(f"{_shown(result['score'])}  {verdict}  {result['response'][:100]}")
        typer.echo(f"{_named(scorer.threshold)}, {name}")
        return
    if output:
        output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in results), encoding="utf-8")
    _summarize(results, file, name, scorer.threshold)


def _load(config: Path, overrides: list[str] | None, version: str) -> tuple[Any, str]:
    from rewardloop.storage import Storage
    from rewardloop.tracking.connection import connect
    from rewardloop.tracking.registry import load_scorer, resolve

    settings = read_settings(config, overrides).settings
    uri = connect(
        settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI"),
        Path(settings.home).resolve(),
        settings.tracking.timeout_seconds,
    )
    model = resolve(settings.model_name, version, uri, Storage.open(settings.store.url))
    return load_scorer(model, uri), model.removeprefix("models:/")


def _read(file: Path) -> list[dict[str, Any]]:
    """Rows with ``prompt`` (text, messages or nothing) and ``response``."""
    import polars as pl

    try:
        table = pl.read_csv(file, infer_schema=False) if file.suffix == ".csv" else pl.read_ndjson(file)
    except OSError as error:
        raise BadInputError(f"{file}: cannot be read: {error}") from error
    except pl.exceptions.PolarsError as error:
        raise BadInputError(f"{file}: is neither JSONL nor CSV (named *.csv): {error}") from error
    if "response" not in table.columns:
        raise BadInputError(f"{file}: no column response; found {table.columns}")
    if "prompt" not in table.columns:
        table = table.with_columns(prompt=pl.lit(""))
    empty = table.with_row_index("line").filter(pl.col("response").is_null())
    if len(empty):
        raise BadInputError(f"{file}: row {empty['line'][0] + 1}: the response is empty; expected a text")
    if not len(table):
        raise BadInputError(f"{file}: no rows; expected one answer per row")
    return table.select(pl.col("prompt"), pl.col("response").cast(pl.String)).to_dicts()


def _named(threshold: float | None) -> str:
    return "no threshold was certified" if threshold is None else f"threshold {threshold:+.3f}"


def _summarize(results: list[dict[str, Any]], file: Path, name: str, threshold: float | None) -> None:
    known = sorted((row for row in results if row["score"] is not None), key=lambda row: float(row["score"]))
    accepted = sum(bool(row["allowed"]) for row in results)
    typer.echo(f"{file}: {len(results):,} answers, scored by {name}")
    mean = sum(float(row["score"]) for row in known) / max(len(known), 1)
    typer.echo(f"  mean score       {mean:+.3f}")
    share = "-" if threshold is None else f"{accepted / len(results):.1%}"
    typer.echo(f"  accepted         {share} ({_named(threshold)})")
    if len(known) < len(results):
        typer.echo(f"  too long         {len(results) - len(known):,} answers, blocked")
    typer.echo("  worst answers")
    for row in known[:_WORST]:
        typer.echo(f"    {_shown(row['score'])}  {row['response'][:100]!r}")


def _shown(score: float | None) -> str:
    return "too long" if score is None else f"{score:+8.3f}"
