"""``rewardloop export-tasks --kind policy-comparison``: a policy's answers beside its reference's, blind.

In: the answers of an evaluated policy, in its run's folder. Out: ``tasks.json`` and ``labeling-config.xml``; which
answer is the policy's is kept in the feedback store only.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import typer

from rewardloop.cli.options import read_settings
from rewardloop.cli.task_files import write_files
from rewardloop.errors import BadInputError

_ANSWERS, _ABOUT, _EVIDENCE = "policy-answers.parquet", "policy-answers.json", "evidence/policy_evaluation.json"


class _Evaluated(NamedTuple):
    """A run with an evaluated policy."""

    folder: Path
    policy: str
    run_id: str


def export_comparisons(
    config: Path, overrides: list[str] | None, *, count: int, output: Path, run: str | None, seed: int
) -> None:
    """Draw, write, and say what to do next; arguments as of ``export_tasks``."""
    from rewardloop.feedback.comparisons import LABELING_CONFIG, keep_key, make_tasks
    from rewardloop.storage import Storage

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
    write_files(output, files, keep=lambda: keep_key(store, key))
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
