"""``rewardloop export-tasks``: tasks for people, as files that Label Studio imports.

In: the answers of an evaluated policy, served answers from the log, or new responses from a file. Out: tasks and their
labeling configuration; what no labeler may see (whose answer it is) is kept in the feedback store only.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rewardloop.cli.export_comparisons import export_comparisons
from rewardloop.cli.export_new import export_new
from rewardloop.cli.export_uncertain import export_uncertain
from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides
from rewardloop.cli.task_files import write_files
from rewardloop.errors import BadInputError

Kind = Literal["policy-comparison", "uncertain", "pairwise", "ranker"]
_BELONGS = {
    "run": (("policy-comparison",), "uncertain answers come from the log, new ones from --responses"),
    "again": (("uncertain",), "another draw of comparisons comes with --seed"),
    "responses": (("pairwise", "ranker"), "these answers are found by themselves"),
    "labelers": (("pairwise", "ranker"), "set it in the project's quality settings"),
    "annotators": (("pairwise", "ranker"), "these tasks are one file for all"),
    "control": (("pairwise", "ranker"), "these tasks have no controls"),
}


def export_tasks(
    kind: Annotated[
        Kind,
        typer.Option(
            help="A policy's answers beside its reference's, served answers that are hard to decide, or new responses "
            "as pairs or to rank."
        ),
    ],
    count: Annotated[int | None, typer.Option(min=1, help="How many tasks (of new responses: items), at most.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("tasks"),
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="The run that evaluated the policy; the newest by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, and of which answer stands where.")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Served answers that were exported before may come again.")
    ] = False,
    responses: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Prompts with responses, as sample-responses writes them.")
    ] = None,
    labelers: Annotated[
        int | None, typer.Option(min=1, help="Different labelers of each item; 3, or as many as there are annotators.")
    ] = None,
    annotators: Annotated[
        str | None, typer.Option(metavar="anna,ben,...", help="Who labels: each gets tasks of his own.")
    ] = None,
    control: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Control items: canonical records with the right answer.")
    ] = None,
) -> None:
    """Write tasks for people to judge in Label Studio.

    policy-comparison: blind comparisons of a policy with its reference. uncertain: logged answers of the last
    drift.days, half of them nearest the champion's threshold, half where the previous champion decides otherwise;
    each answer is exported once. pairwise, ranker: the responses of a file, given out to annotators.

    Ingest what they said like any feedback: rewardloop ingest EXPORT.json.
    """
    given: dict[str, Any] = {
        "run": run,
        "again": again or None,
        "responses": responses,
        "labelers": labelers,
        "annotators": annotators,
        "control": control,
    }
    for name, value in given.items():
        kinds, why = _BELONGS[name]
        if value is not None and kind not in kinds:
            raise BadInputError(f"--{name}: belongs to --kind {' and '.join(kinds)}; {why}")
    if kind == "pairwise" or kind == "ranker":
        if responses is None:
            raise BadInputError(f"--responses: is needed by --kind {kind}; make some with rewardloop sample-responses")
        export_new(
            config, overrides, kind=kind, responses=responses, output=output, count=count, seed=seed,
            labelers=labelers, annotators=annotators, control=control,
        )  # fmt: skip
        return
    if count is None:
        raise BadInputError(f"--count: is needed by --kind {kind}; say how many tasks are wanted at most")
    if kind == "uncertain":
        export_uncertain(config, overrides, count=count, output=output, again=again, write=write_files)
    else:
        export_comparisons(config, overrides, count=count, output=output, run=run, seed=seed)
