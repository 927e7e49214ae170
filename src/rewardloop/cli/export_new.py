"""``rewardloop export-tasks --kind pairwise|ranker``: responses that nobody has judged, given out to labelers.

In: a file of prompts with responses, and if wanted a file of control items. Out: tasks for each annotator, the labeling
configuration, who got what; models and controls are in the feedback store only.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rewardloop.cli.options import read_settings
from rewardloop.cli.task_files import write_files

if TYPE_CHECKING:
    from rewardloop.feedback.task_keys import TaskKind

_LABELERS = 3


def export_new(
    config: Path,
    overrides: list[str] | None,
    *,
    kind: "TaskKind",
    responses: Path,
    output: Path,
    count: int | None,
    seed: int,
    labelers: int | None,
    annotators: str | None,
    control: Path | None,
) -> None:
    """Make tasks, write them, and say what to do next; arguments as of ``export_tasks``."""
    from rewardloop.feedback.task_keys import keep_task_key
    from rewardloop.labeling.give_out import annotator_names, next_steps, summary, task_files
    from rewardloop.labeling.items import read_controls, read_items
    from rewardloop.labeling.tasks import make_tasks
    from rewardloop.storage import Storage

    settings = read_settings(config, overrides).settings
    limit = settings.store.max_read_bytes
    names = annotator_names(annotators)
    per_item = labelers or (min(_LABELERS, len(names)) if names else _LABELERS)
    controls = read_controls(control, limit=limit) if control else []
    items = read_items(responses, limit=limit, besides=frozenset(item.id for item in controls))
    tasks = make_tasks(
        items.items,
        controls,
        kind=kind,
        settings=settings.labeling,
        criterion=settings.preferences.criterion,
        annotators=names,
        per_item=per_item,
        count=count,
        seed=seed,
    )
    files = task_files(tasks, settings.labeling)
    store = Storage.open(settings.store.url)
    # The key before the files: tasks without one could never be ingested.
    write_files(output, files, keep=lambda: keep_task_key(store, tasks.key))
    said = summary(
        tasks, settings.labeling, items.left_out, per_item=per_item, count=count, controls=len(controls), seed=seed
    )
    for line in said:
        typer.echo(line)
    typer.echo(next_steps(list(files), str(output), str(config)))
