"""``rewardloop export-tasks``: tasks for people, as files that Label Studio imports.

In: the answers of an evaluated policy, in its run's folder, or served answers from the log. Out: ``tasks.json`` and
``labeling-config.xml``; which answer is a policy's is kept in the feedback store only, so that no labeler can see it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from rewardloop.cli.export_uncertain import export_uncertain
from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.errors import BadInputError

_ANSWERS, _ABOUT, _EVIDENCE = "policy-answers.parquet", "policy-answers.json", "evidence/policy_evaluation.json"


class _Evaluated(NamedTuple):
    """A run with an evaluated policy."""

    folder: Path
    policy: str
    run_id: str


def export_tasks(
    kind: Annotated[
        Literal["policy-comparison", "uncertain"],
        typer.Option(help="A policy's answers beside its reference's, or served answers that are hard to decide."),
    ],
    count: Annotated[int, typer.Option(min=1, help="How many tasks, at most.")],
    output: Annotated[Path, typer.Option(help="Folder for the files.")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="The run that evaluated the policy; the newest by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, and of which answer stands left.")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Served answers that were exported before may come again.")
    ] = False,
) -> None:
    """Write tasks for people to judge in Label Studio.

    policy-comparison: blind comparisons of a policy with its reference. uncertain: logged answers of the last
    drift.days, half of them nearest the champion's threshold, half where the previous champion decides otherwise;
    each answer is exported once.

    Ingest what they said like any feedback: rewardloop ingest EXPORT.json.
    """
    from rewardloop.feedback.comparisons import LABELING_CONFIG, keep_key, make_tasks
    from rewardloop.storage import Storage

    if kind == "uncertain":
        if run is not None:
            raise BadInputError("--run: belongs to --kind policy-comparison; uncertain answers come from the log")
        export_uncertain(config, overrides, count=count, output=output, again=again, write=_write)
        return
    if again:
        raise BadInputError("--again: belongs to --kind uncertain; another draw of comparisons comes with --seed")
    settings = read_settings(config, overrides).settings
    evaluated = _evaluated(Path(settings.home).resolve() / "runs", run)
    answers = _answers(evaluated.folder / _ANSWERS)
    tasks, key = make_tasks(answers, count=count, seed=seed, policy=evaluated.policy, run_id=evaluated.run_id)
    files = {
        "tasks.json": json.dumps(tasks, ensure_ascii=False, indent=1) + "\n",
        "labeling-config.xml": LABELING_CONFIG,
    }
    store = Storage.open(settings.store.url)
    # The key before the files: tasks without one could never be ingested.
    _write(output, files, keep=lambda: keep_key(store, key))
    left_out = "".join(f"; left out: {rows:,} where {why}" for why, rows in key.left_out.items())
    fewer = f" ({count:,} were asked for, no more can be compared)" if key.count < count else ""
    typer.echo(
        f"{key.count:,} comparisons of policy {key.policy[:12]} with its reference (run {key.run_id}){fewer}"
        f"{left_out}\n"
        f"Next, in a new Label Studio project:\n"
        f"  Settings > Labeling Interface > Code: paste {output / 'labeling-config.xml'}\n"
        f"  Import: {output / 'tasks.json'}\n"
        f"When they are labeled: Export > JSON, and then\n"
        f"  rewardloop ingest EXPORT.json -c {config}"
    )


def _evaluated(runs: Path, wanted: str | None) -> _Evaluated:
    """The run called ``wanted``, or the newest, that has the answers of an evaluated policy."""
    found = sorted(path.parent.name for path in runs.glob(f"*/{_ANSWERS}") if (path.parent / _EVIDENCE).is_file())
    if wanted is not None and wanted not in found:
        known = ", ".join(reversed(found[-5:])) or "none"
        raise BadInputError(
            f"--run {wanted}: {runs} has no run of that name that evaluated a policy; the latest that did: {known}"
        )
    if not found:
        raise BadInputError(
            f"{runs}: no run has evaluated a policy yet; add a section align to the "
            "configuration and start a run: rewardloop run"
        )
    folder = runs / (wanted or found[-1])
    place = folder / _ABOUT
    try:
        about: dict[str, Any] = json.loads(place.read_bytes())
        return _Evaluated(folder, str(about["policy"]), str(about["run_id"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{place}: cannot be read ({type(error).__name__}: {error}); expected policy and run_id. Name another run "
            "with --run, or start one again"
        ) from error


def _answers(path: Path) -> Any:
    import polars as pl

    from rewardloop.feedback.comparisons import ANSWERS

    try:
        answers = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BadInputError(
            f"{path}: cannot be read: {error}; start a run again, or name another with --run"
        ) from error
    for name, expected in ANSWERS.items():
        if answers.schema.get(name) != expected:
            found = answers.schema.get(name, "nothing")
            raise BadInputError(f"{path}: column {name}: found {found}; expected {expected}. Start a run again")
    return answers


def _write(output: Path, files: Mapping[str, str], keep: Callable[[], object] = lambda: None) -> None:
    """Write the files, unless others of these names are there; ``keep`` stores a key before them."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if (output / name).exists() and (output / name).read_bytes() != content.encode():
                raise BadInputError(f"--output {output}: {name} is there with other content; name a new folder")
        keep()
        for name, content in files.items():
            (output / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"--output {output}: {error.strerror or error}; name a folder that can be written"
        ) from error
