"""The files of an export of tasks, and what is said of it.

In: tasks. Out: file name -> content: one file of tasks per annotator, who got what, the labeling configuration; and
the words for whoever hands them out.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence

from rewardloop.config import LabelingSettings
from rewardloop.errors import BadInputError
from rewardloop.labeling.assignment import items_needed
from rewardloop.labeling.label_config import label_config
from rewardloop.labeling.tasks import Tasks

_NAME = re.compile(r"[\w@.+-]{1,64}")


def annotator_names(value: str | None) -> list[str]:
    """``anna,ben`` as a list.

    Raises:
        BadInputError: a name cannot be a part of a file's name, or two are the same.
    """
    if value is None:
        return []
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if not _NAME.fullmatch(name) or name.startswith("."):
            raise BadInputError(f"--annotators: found {name!r}; expected letters, digits and ._@+- (anna,ben)")
    if len({name.casefold() for name in names}) < len(names):
        raise BadInputError(f"--annotators {value}: a name comes twice; name every annotator once")
    return names


def task_files(tasks: Tasks, settings: LabelingSettings) -> dict[str, str]:
    """File name -> content."""
    files = {"labeling-config.xml": label_config(settings, tasks.key.kind)}
    for name, own in tasks.of_annotator.items():
        files[f"tasks-{name}.json" if name else "tasks.json"] = _json(own)
    if tasks.assignment is not None:
        names = list(tasks.of_annotator)
        shared = {
            f"{one} {other}": int(tasks.assignment.shared[i, j])
            for i, one in enumerate(names)
            for j, other in enumerate(names)
            if i < j
        }
        files["assignments.json"] = _json(
            {
                "labeling": tasks.key.id,
                "tasks": {name: len(own) for name, own in tasks.of_annotator.items()},
                "shared_items": shared,
                "items": tasks.assigned,
            }
        )
    return files


def summary(
    tasks: Tasks,
    settings: LabelingSettings,
    left_out: Counter[str],
    *,
    per_item: int,
    count: int | None,
    controls: int,
    seed: int,
) -> list[str]:
    """What was made, and what should be known before it is handed out.

    Args:
        tasks: what was made.
        settings: the section ``labeling``.
        left_out: reason -> prompts.
        per_item: different labelers of each item.
        count: items that were asked for.
        controls: control items that were given.
        seed: of the assignment.
    """
    what = "pairs" if tasks.key.kind == "pairwise" else "rankings"
    fewer = f" ({count:,} were asked for)" if count is not None and tasks.items < count else ""
    lines = [f"{tasks.items:,} {what}{fewer}, {tasks.controls:,} control tasks (labeling {tasks.key.id[:12]})"]
    lines += [f"  left out: {number:,} ({reason})" for reason, number in left_out.items()]
    total = sum(len(own) for own in tasks.of_annotator.values())
    # Half a task of rounding for each annotator is no lack.
    if controls and tasks.controls + len(tasks.of_annotator) / 2 < settings.control_share * total:
        lines.append(
            f"  control tasks are {tasks.controls / total:.0%} of all, labeling.control_share asks for "
            f"{settings.control_share:.0%}: name more control items"
        )
    if tasks.assignment is None:
        return [*lines, f"  labelers of each: {per_item}; set that in the project's quality settings"]
    names = list(tasks.of_annotator)
    lines += [f"  {name}: {len(own):,} tasks" for name, own in tasks.of_annotator.items()]
    least, wanted = tasks.assignment.least_shared, settings.min_shared_items
    if len(names) < 2 or per_item < 2:
        lines.append("  no item is labeled by two annotators: their agreement cannot be measured (--labelers 2)")
    elif not tasks.assignment.connected:
        lines.append("  some annotators share no item with the others, not even through a third: give out more items")
    elif least < wanted:
        needed = items_needed(len(names), per_item, wanted, seed)
        items = "more items" if needed is None else f"{needed:,} items"
        lines.append(
            f"  two annotators share {least:,} items at least, labeling.min_shared_items asks for {wanted:,}: that "
            f"takes {items}, more labelers per item, or fewer annotators"
        )
    else:
        lines.append(f"  every two annotators share {least:,} items or more")
    return lines


def next_steps(files: Sequence[str], output: str, config: str) -> str:
    """What to do with the files."""
    several = [name for name in files if name.startswith("tasks-")]
    where = "in a new Label Studio project for each annotator" if several else "in a new Label Studio project"
    tasks = f"{output}/tasks-NAME.json" if several else f"{output}/tasks.json"
    return (
        f"Next, {where}:\n"
        f"  Settings > Labeling Interface > Code: paste {output}/labeling-config.xml\n"
        f"  Import: {tasks}\n"
        f"When they are labeled: Export > JSON, and then\n"
        f"  rewardloop ingest EXPORT.json -c {config}"
    )


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
