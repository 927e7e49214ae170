"""``rewardloop gate --explain``: the gate's table for a run that is over, under any limits. A dry run: nothing changes.

In: a run's evidence, the limits of the configuration. Out: printed, every check and the verdict; exit code 0 or 3.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.config import Settings
from rewardloop.errors import BadInputError, NotBlessedError
from rewardloop.evidence import Blessing, Check

if TYPE_CHECKING:
    from rewardloop.reporting.run_evidence import RunEvidence

_SHOWN = 5


def gate(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's id or folder; by default the newest that was judged.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every check; nothing is changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Judge a finished run again by the configured limits, and show every check with its reason.

    Nothing is registered or changed. Exit codes: 0 it would be blessed, 3 it would not.
    """
    if not explain:
        raise BadInputError(
            "gate: only its dry run can be asked for: rewardloop gate --explain. A candidate is judged and promoted by "
            "rewardloop run"
        )
    settings = read_settings(config, overrides).settings
    found = find_run(Path(settings.home).resolve() / "runs", run)
    blessing = _decide(found, settings)
    if as_json:
        typer.echo(blessing.model_dump_json(indent=1))
    else:
        _show(found, blessing, str(config))
    raise typer.Exit(0 if blessing.blessed else NotBlessedError.exit_code)


def find_run(runs: Path, wanted: str | None) -> "RunEvidence":
    """The run called ``wanted`` (an id or a folder), or the newest of ``runs`` with an evaluated candidate.

    Raises:
        BadInputError: there is none, or its evaluation is missing or unreadable.
    """
    from rewardloop.reporting.run_evidence import RunEvidence

    # Ids of runs begin with their time.
    judged = sorted(path.parent.parent.name for path in runs.glob("*/evidence/evaluation.json"))
    if wanted is None and not judged:
        raise BadInputError(f"{runs}: no run has evaluated a candidate yet; start one: rewardloop run")
    folder = runs / (judged[-1] if wanted is None else wanted)
    if wanted is not None and not folder.is_dir():
        folder = Path(wanted)
    if not (folder / "run.json").is_file():
        known = ", ".join(reversed(judged[-_SHOWN:])) or "none"
        raise BadInputError(f"run {wanted}: is neither a run of {runs} nor a run's folder; the latest: {known}")
    found = RunEvidence.read(folder)
    if found.evaluation is None:
        why = found.unreadable.get("evidence/evaluation.json", "the run ended before its candidate was evaluated")
        raise BadInputError(f"{folder}: no evaluation to judge: {why}; name another run")
    return found


def _decide(run: "RunEvidence", settings: Settings) -> Blessing:
    from rewardloop.evaluation.gate import decide
    from rewardloop.evaluation.policy_gate import decide_policy
    from rewardloop.tracking.history import champion_version

    evaluation, before = run.evaluation, run.blessing
    assert evaluation is not None
    # A candidate that became the champion is not stale for it: then the comparison was with the champion of its time.
    promoted = run.registration is not None and run.registration.champion
    compared = evaluation.champion.version if evaluation.champion else None
    blessing = decide(
        evaluation,
        settings.gate,
        candidate=before.candidate if before else "",
        corpus_digest=run.run.corpus_digest,
        champion_now=compared if promoted else champion_version(settings.store.url, settings.organization),
    )
    if run.policy_evaluation is not None and settings.align is not None:
        blessing.policy = decide_policy(
            run.policy_evaluation,
            settings.gate.policy,
            kl_budget=settings.align.kl.budget,
            candidate=before.policy.candidate if before and before.policy else "",
        )
        if not blessing.blessed:
            blessing.policy.blessed = False
            blessing.policy.reasons.insert(0, "The reward model that it was aligned to was not blessed.")
    return blessing


def _show(run: "RunEvidence", blessing: Blessing, limits: str) -> None:
    then = "not decided" if run.blessing is None else "blessed" if run.blessing.blessed else "not blessed"
    typer.echo(f"Run {run.run.run_id} ({then} when it ran), judged by the limits of {limits}; nothing is changed.\n")
    _table(blessing.checks)
    _verdict("reward model", blessing.blessed, blessing.reasons)
    if blessing.policy:
        typer.echo()
        _table(blessing.policy.checks)
        _verdict("policy", blessing.policy.blessed, blessing.policy.reasons)


def _table(checks: list[Check]) -> None:
    rows = [("check", "value", "interval", "limit", "passed", "reason"), *map(_row, checks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(check: Check) -> tuple[str, str, str, str, str, str]:
    from rewardloop.reporting.wording import fraction, one_line

    interval = "–" if check.low is None or check.high is None else f"{fraction(check.low)} to {fraction(check.high)}"
    limit = "–" if check.limit is None else f"{check.limit:g}"
    # A segment's name comes from the feedback: it must not steer a terminal.
    name, reason = (one_line(text, len(text) or 1) for text in (check.name, check.reason))
    return name, fraction(check.value), interval, limit, "yes" if check.passed else "NO", reason


def _verdict(what: str, blessed: bool, reasons: list[str]) -> None:
    from rewardloop.reporting.wording import one_line

    typer.echo(f"\n{what}: {'would be blessed' if blessed else 'would not be blessed'}")
    for reason in reasons:
        typer.echo(f"  {one_line(reason, len(reason) or 1)}")
