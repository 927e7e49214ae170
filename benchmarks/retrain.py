"""A warm-started retrain on a tenth more feedback beside a training from nothing on all of it, in one run.

    python -m benchmarks.retrain FOLDER_WITH_BATCH_1_CSV [--sentences N]

The demo's film sentences and base model, the demo's training settings. A champion is trained on the old sentences; then
a tenth more come, and both ways are taken with all that belongs to them (loading, checks before and after). Held-out
accuracy is on test pairs at least 1 apart in mean rating. The last line is one JSON object; without the data or the
base model's package it says that the benchmark was skipped.
"""

import csv
import json
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from rewardloop.config import Settings, load_settings
from rewardloop.errors import BadInputError
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.preferences.build import build
from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame
from rewardloop.training.fit import FitJob, fit
from rewardloop.training.warm_start import Champion, fit_from_champion

_SPLITS = ("splits.train=0.7", "splits.validation=0.1", "splits.calibration=0.02", "splits.test=0.18")
_NEW_SHARE = 0.1
_GAP = 1.0
_TIMES = {"old": datetime(2026, 1, 1, tzinfo=UTC), "new": datetime(2026, 2, 1, tzinfo=UTC)}


def preferences(path: Path, sentences: int, settings: Settings, folder: Path) -> tuple[Path, Path]:
    """Tables of the old sentences, and of the old and the new ones."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for _, row in zip(range(round(sentences * (1 + _NEW_SHARE))), csv.DictReader(stream), strict=False)]
    groups = [
        FeedbackGroup.model_validate(
            {
                "group_id": row["id"],
                "responses": [{"response_id": "a", "content": row["text"]}],
                "labels": [{"kind": "rating", "scores": {"a": value}} for value in json.loads(row["ratings"])],
            }
        )
        for row in rows
    ]
    batch = pl.Series("batch", ["old" if place < sentences else "new" for place in range(len(groups))])
    feedback = feedback_frame((f"row {place}", group) for place, group in enumerate(groups)).with_columns(batch)
    made = []
    for name, part in (("old", feedback.filter(batch="old")), ("all", feedback)):
        built = build(
            part,
            preferences=settings.preferences,
            splits=settings.splits,
            evaluation=settings.evaluation,
            golden=frozenset(),
        )
        target = folder / name
        target.mkdir()
        built.items.write_parquet(target / "items.parquet")
        built.pairs.write_parquet(target / "pairs.parquet")
        made.append(target)
    return made[0], made[1]


def accuracy(directory: Path, tables: Path) -> float:
    """On the test split's pairs at least 1 apart."""
    items = pl.read_parquet(tables / "items.parquet").filter(split="test")
    pairs = pl.read_parquet(tables / "pairs.parquet").filter((pl.col("split") == "test") & (pl.col("gap") >= _GAP))
    raw = RewardScorer.load(directory).raw_scores(items["prompt"].to_list(), items["response"].to_list())
    scores = np.full(int(items["item"].max()) + 1, np.nan)  # type: ignore[arg-type]
    scores[items["item"].to_numpy()] = raw
    a, b, p = (pairs[name].to_numpy() for name in ("a", "b", "p"))
    return float(np.mean((scores[a] > scores[b]) == (p > 0.5)))


def measure(data: Path, sentences: int, home: Path) -> dict[str, Any]:
    """Champion, then both ways to learn the new sentences."""
    settings = load_settings(Path("conf/demo.yaml"), _SPLITS).settings
    base = prepare_base(settings.model.base, home / "base-models")
    with tempfile.TemporaryDirectory(dir=home) as temporary:
        folder = Path(temporary)
        old, everything = preferences(data, sentences, settings, folder)
        section = settings.section("model", "training")

        def job(tables: Path, name: str) -> FitJob:
            return FitJob(str(tables), base, section, str(folder / name / "checkpoints"), str(folder / name))

        fit(job(old, "champion"))
        started = time.perf_counter()
        scratch = fit(job(everything, "scratch"))
        scratch_seconds = time.perf_counter() - started
        champion = Champion("models:/film-reviews-reward/1", folder / "champion", {"old"})
        started = time.perf_counter()
        warm = fit_from_champion(job(everything, "warm"), champion, _TIMES, fallback=folder / "fallback")
        warm_seconds = time.perf_counter() - started
        found = {name: accuracy(folder / name, everything) for name in ("champion", "scratch", "warm")}
        shutil.rmtree(folder / "champion")
    report = warm.warm_start
    assert report is not None
    return {
        "share_of_scratch_time": round(warm_seconds / scratch_seconds, 3),
        "reached": found["warm"] >= found["scratch"] - 0.005,
        "accuracy": {name: round(value, 4) for name, value in found.items()},
        "seconds": {"scratch": round(scratch_seconds, 1), "warm": round(warm_seconds, 1)},
        "training_seconds": {"scratch": round(scratch.seconds, 1), "warm": round(report.seconds, 1)},
        "groups": {"scratch": scratch.groups, "new": report.new_groups, "replayed": report.replayed_groups},
        "warm_start": report.model_dump(mode="json"),
        "sentences": sentences,
        "date": datetime.now(UTC).date().isoformat(),
    }


def main(
    data: Annotated[Path, typer.Argument(help="batch-1.csv of demo/film_reviews.py.")] = Path(
        ".rewardloop/demo/batch-1.csv"
    ),
    sentences: Annotated[int, typer.Option(help="How many the champion knows.")] = 3900,
    home: Annotated[Path, typer.Option(help="Where the converted base model is kept.")] = Path(
        ".rewardloop/benchmarks"
    ),
) -> None:
    """Measure and print one JSON object as the last line."""
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not data.is_file():
        print(json.dumps({"skipped": f"no {data}: python demo/film_reviews.py FOLDER fetches the sentences"}))
        return
    try:
        print(json.dumps(measure(data, sentences, home)))
    except BadInputError as error:
        if "is not installed" not in str(error):
            raise
        print(json.dumps({"skipped": str(error)}))


if __name__ == "__main__":
    typer.run(main)
