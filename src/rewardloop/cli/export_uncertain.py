"""``rewardloop export-tasks --kind uncertain``: served answers that a person's verdict would teach most.

In: decisions logged with their texts. Out: ``tasks.json`` and ``labeling-config.xml`` for Label Studio.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rewardloop.cli.options import read_settings
from rewardloop.cli.registered import find_version
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.operation.selection import Ask, Selection

Write = Callable[[Path, dict[str, str], Callable[[], object]], None]


def export_uncertain(
    config: Path, overrides: list[str] | None, *, count: int, output: Path, again: bool, write: Write
) -> None:
    """Pick, write, and say what to do next; arguments as of ``export_tasks``."""
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.feedback.uncertain import LABELING_CONFIG, Answer, make_tasks
    from rewardloop.operation.asked import asked_before, keep_asked
    from rewardloop.operation.decisions import read_decisions
    from rewardloop.operation.selection import select

    settings = read_settings(config, overrides).settings
    model, _ = find_version(config, overrides, "champion")
    store = FeedbackStore.open(settings.store.url)
    since = datetime.now(UTC) - timedelta(days=settings.drift.days)
    decisions, broken = read_decisions(store.storage, since, model.rpartition("/")[2], texts=True)
    ask = _previous(config, overrides)
    asked = frozenset() if again else asked_before(store.storage)
    picked = select(decisions, store, settings, count=count, ask=ask, asked=asked)
    tasks = make_tasks(
        (Answer(*row) for row in picked.rows.select("prompt", "response", "segment").iter_rows()),
        model=model,
        criterion=settings.preferences.criterion,
    )
    write(
        output,
        {
            "tasks.json": json.dumps(tasks, ensure_ascii=False, indent=1) + "\n",
            "labeling-config.xml": LABELING_CONFIG,
        },
        lambda: keep_asked(store.storage, picked.rows),
    )
    _say(picked, model, count, asked=ask is not None, broken=broken)
    typer.echo(
        f"Next, in a new Label Studio project:\n"
        f"  Settings > Labeling Interface > Code: paste {output / 'labeling-config.xml'}\n"
        f"  Import: {output / 'tasks.json'}\n"
        f"When they are labeled: Export > JSON, and then\n"
        f"  rewardloop ingest EXPORT.json -c {config}"
    )


def _previous(config: Path, overrides: list[str] | None) -> "Ask | None":
    """The previous champion's opinion; None where there was none."""
    import numpy as np

    from rewardloop.modeling.scoring import decisions
    from rewardloop.operation.selection import Opinion
    from rewardloop.tracking.registry import load_scorer

    try:
        model, uri = find_version(config, overrides, "previous")
    except BadInputError:
        return None

    def ask(rows: Any) -> Opinion:
        """What the version says of the same answers."""
        scorer = load_scorer(model, uri)
        scores = scorer.score(rows["prompt"].to_list(), rows["response"].to_list())
        # Without a threshold it decides nothing, so it cannot decide otherwise.
        if scorer.threshold is None:
            return Opinion(rows["decision"].to_list(), np.full(len(rows), np.nan))
        decided = decisions(scores, scorer.threshold, scorer.scoring.get("block_threshold"))
        # What it cannot read it has no opinion of.
        known = np.where(np.isfinite(scores), decided, rows["decision"].to_numpy())
        return Opinion(known.tolist(), np.abs(scores - scorer.threshold))

    return ask


def _say(picked: "Selection", model: str, count: int, *, asked: bool, broken: list[str]) -> None:
    found = len(picked.rows)
    fewer = f" ({count:,} were asked for, no more can be judged)" if found < count else ""
    by_distance = f"{found - picked.divided:,} nearest the threshold"
    divided = f"{picked.divided:,} that the previous champion decides otherwise" if asked else "no previous champion"
    typer.echo(f"{found:,} answers decided by {model.removeprefix('models:/')}{fewer}: {by_distance}, {divided}")
    for reason, answers in picked.left_out.items():
        typer.echo(f"  left out: {answers:,} ({reason})")
    if broken:
        typer.echo(f"  {len(broken):,} lines of the log are not decisions, the first: {broken[0]}", err=True)
