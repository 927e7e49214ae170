"""``rewardloop score``: ask the champion, one text or a whole file of an LLM's answers."""

import heapq
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tqdm import tqdm

from rewardloop.cli.answers import check_rows, read_rows
from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides
from rewardloop.cli.registered import find_version
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
    precision: Annotated[
        Literal["auto", "float32"], typer.Option(help="auto: bfloat16 where it is faster and changes no decision.")
    ] = "auto",
) -> None:
    """Score answers with the organization's own reward model and its threshold.

    A file of an LLM's answers gives its mean score, accepted share and worst answers.
    """
    if bool(text) == (file is not None):
        raise BadInputError("score: give either --text (once or more) or --file")
    # Loading a model is no news here.
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    if output is not None and not output.parent.is_dir():
        raise BadInputError(f"--output {output}: there is no folder {output.parent}; make it first")
    if file is not None:
        check_rows(file)
    scorer, name = _load(config, overrides, version, rounding=precision == "auto")
    if file is None:
        for result in _results(scorer, name, ({"prompt": prompt, "response": item} for item in text or [])):
            verdict = result["decision"] or ""
            typer.echo(f"{_shown(result['score'])}  {verdict:6}  {result['response'][:100]}")
        typer.echo(f"{_named(scorer)}, {name}")
        return
    summary = _Summary()
    with _writer(output) as write, tqdm(desc="scoring", unit="answer", disable=None, leave=False) as bar:
        for result in _results(scorer, name, read_rows(file)):
            summary.add(result)
            write(result)
            bar.update()
    summary.show(file, name, scorer)


def _load(config: Path, overrides: list[str] | None, version: str, *, rounding: bool) -> tuple[Any, str]:
    from rewardloop.tracking.registry import load_scorer

    model, uri = find_version(config, overrides, version)
    return load_scorer(model, uri, rounding=rounding), model.removeprefix("models:/")


def _results(scorer: Any, name: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows with their score and verdict, in their order; only some thousand are in memory."""
    import numpy as np

    from rewardloop.modeling.scoring import as_messages, decisions

    def prepared() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows, start=1):
            try:
                yield {"row": row, "prompt": as_messages(row["prompt"]), "response": row["response"]}
            except ValueError as error:
                raise BadInputError(f"row {number}: {error}") from error

    for prepared_row, score in scorer.stream(prepared()):
        decision = None
        if scorer.threshold is not None:
            # A version scores with the code it was registered with, which may be older than three-way decisions.
            decision = str(decisions(np.array(score), scorer.threshold, _block_threshold(scorer)))
        yield {
            **prepared_row["row"],
            "score": round(score, 4) if math.isfinite(score) else None,
            "allowed": decision and decision == "accept",
            "decision": decision,
            "threshold": scorer.threshold,
            "model": name,
        }


@contextmanager
def _writer(output: Path | None) -> Iterator[Callable[[dict[str, Any]], object]]:
    """Takes results one by one; the file appears when all are in it."""
    if output is None:
        yield lambda result: None
        return
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            yield lambda result: stream.write(json.dumps(result, ensure_ascii=False) + "\n")
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


class _Summary:
    """What is said of a file, whatever its length."""

    def __init__(self) -> None:
        self.rows = self.accepted = self.for_review = self.scored = 0
        self.total = 0.0
        self.worst: list[tuple[float, int, str]] = []

    def add(self, result: dict[str, Any]) -> None:
        """Count one more result."""
        self.rows += 1
        self.accepted += bool(result["allowed"])
        self.for_review += result["decision"] == "review"
        if result["score"] is None:
            return
        self.scored += 1
        self.total += result["score"]
        # The largest of the negated scores are the worst; of equal ones the first stays.
        entry = (-result["score"], -self.rows, result["response"][:100])
        (heapq.heappush if len(self.worst) < _WORST else heapq.heappushpop)(self.worst, entry)

    def show(self, file: Path, name: str, scorer: Any) -> None:
        """Print it."""
        typer.echo(f"{file}: {self.rows:,} answers, scored by {name}")
        typer.echo(f"  mean score       {self.total / max(self.scored, 1):+.3f}")
        share = "-" if scorer.threshold is None else f"{self.accepted / max(self.rows, 1):.1%}"
        typer.echo(f"  accepted         {share} ({_named(scorer)})")
        asks = _block_threshold(scorer) is not None
        if asks:
            typer.echo(f"  for a person     {self.for_review / max(self.rows, 1):.1%}")
        if self.scored < self.rows:
            fate = "for a person" if asks else "blocked"
            typer.echo(f"  too long         {self.rows - self.scored:,} answers, {fate}")
        typer.echo("  worst answers")
        for negated, _, response in sorted(self.worst, reverse=True):
            typer.echo(f"    {_shown(-negated)}  {response!r}")


def _block_threshold(scorer: Any) -> float | None:
    value: float | None = scorer.scoring.get("block_threshold")
    return value


def _named(scorer: Any) -> str:
    if scorer.threshold is None:
        return "no threshold was certified"
    block = _block_threshold(scorer)
    return f"threshold {scorer.threshold:+.3f}" + ("" if block is None else f", blocked below {block:+.3f}")


def _shown(score: float | None) -> str:
    return "too long" if score is None else f"{score:+8.3f}"
