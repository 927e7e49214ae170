"""``rewardloop sample-responses``: responses for people to judge, from one or several models.

In: a file of prompts. Out: JSON lines with K different responses per prompt, as ``export-tasks --responses`` takes
them.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.config import Settings
    from rewardloop.labeling.sampling import Asked
    from rewardloop.labeling.sources import Registered, Resolve
    from rewardloop.modeling.policy import Policy


def sample_responses(
    prompts: Annotated[Path, typer.Option(help="JSONL or CSV with the column prompt (text or messages).")],
    output: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Appended to; a killed run goes on in it.")],
    k: Annotated[int, typer.Option("--k", min=2, max=64, help="Different responses per prompt.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Instead of labeling.models: a base, a folder, models:/NAME/VERSION; repeatable."),
    ] = None,
) -> None:
    """Let language models answer prompts, K different answers to each, for people to compare.

    The same command again goes on where it was stopped. Models, temperatures and shares: the section labeling.
    """
    from rewardloop.feedback.text_sets import read_text_set
    from rewardloop.labeling import sampling
    from rewardloop.labeling.response_file import alone, append_responses
    from rewardloop.labeling.sources import open_sources, wanted_models

    settings = read_settings(config, overrides).settings
    labeling = settings.labeling
    table = read_text_set(prompts, "prompts", limit=settings.store.max_read_bytes)
    unique = table.unique("key", keep="first", maintain_order=True)
    asked = [sampling.Asked(*row) for row in unique.select("prompt", "key").iter_rows()]
    resolve, registered = _registry(settings)
    sources = open_sources(wanted_models(settings, model or ()), settings, resolve=resolve, registered=registered)
    sampled = _digest(
        [k, labeling.max_new_tokens, labeling.attempts, labeling.seed, [tuple(source[:4]) for source in sources]]
    )
    counts: Counter[str] = Counter()
    made: Counter[int] = Counter()
    models = sampling.Loaded(sources, keep=labeling.keep_models_loaded)

    def answer(some: "Sequence[Asked]") -> list[dict[str, Any]]:
        found = sampling.sample_responses(some, sources, models, labeling, k=k, counts=counts)
        made.update(map(len, found))
        return [sampling.line_of(one, responses, sampled) for one, responses in zip(some, found, strict=True)]

    with alone(output, Path(settings.home).resolve() / "locks"), _bar(len(asked)) as progress:
        there = append_responses(
            output, asked, answer, sampled=sampled, at_once=labeling.prompts_at_once, progress=progress
        )
    again = len(table) - len(asked)
    typer.echo(
        f"{output}: {len(asked):,} prompts, {there:,} of them answered before; models: "
        + ", ".join(source.name for source in sources)
    )
    if again:
        typer.echo(f"  {again:,} prompts that the file has already")
    fewer = sum(number for found, number in made.items() if found < k)
    if fewer:
        typer.echo(f"  {fewer:,} prompts with fewer than {k} responses (labeling.attempts: {labeling.attempts})")
    for reason, number in counts.items():
        typer.echo(f"  not used: {number:,} {reason}")
    typer.echo(f"Next: rewardloop export-tasks --kind ranker --responses {output} --annotators anna,ben -c {config}")


def _bar(total: int) -> Any:
    from contextlib import contextmanager

    from tqdm import tqdm

    @contextmanager
    def shown() -> Any:
        with tqdm(total=total, unit="prompt", disable=None) as bar:
            yield bar.update

    return shown()


def _registry(settings: "Settings") -> "tuple[Resolve, Registered]":
    """How registered policies are found; MLflow is asked only where a model is one."""

    def connected() -> str:
        from rewardloop.tracking.connection import connect

        uri = settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
        return connect(uri, Path(settings.home).resolve(), settings.tracking.timeout_seconds)

    def resolve(model: str) -> str:
        name, slash, version = model.removeprefix("models:/").partition("/")
        if not name or not slash or not version:
            raise BadInputError(f"labeling.models: {model}: expected models:/NAME/VERSION, or an alias for VERSION")
        from rewardloop.storage import Storage
        from rewardloop.tracking.registry import resolve as find

        return find(name, version, connected(), Storage.open(settings.store.url))

    def load(uri: str, load: "Callable[[Path], Policy]") -> "Policy":
        from rewardloop.tracking.flavors import POLICY
        from rewardloop.tracking.registry import open_version

        with open_version(uri, connected(), POLICY) as (folder, _):
            return load(folder)

    return resolve, load


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
