"""A store with feedback and a champion, and the steps that judge a candidate there.

In: a seed and a size. Out: a ``Scene``; ``Scene.judge`` puts a planted candidate through ``build_preferences``,
``evaluate_reward_model`` and ``decide_promotion`` and returns what the blessing on disk says.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import yaml

from benchmarks.decisions import generator
from benchmarks.decisions.generator import Labelers, World
from benchmarks.decisions.planted_model import planted_model
from rewardloop.config import SplitSettings
from rewardloop.errors import RewardloopError
from rewardloop.feedback.store import BatchManifest, FeedbackStore, batch_digest
from rewardloop.snapshots import write_rows
from rewardloop.steps.build_preferences import build_preferences
from rewardloop.steps.decide_promotion import decide_promotion
from rewardloop.steps.evaluate_reward_model import evaluate_reward_model
from rewardloop.steps.register_models import register_models

SETTINGS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "settings.yaml").read_text(encoding="utf-8"))
CORPUS = "planted"
CHAMPION_ACCURACY = 0.86
SOUND_ACCURACY = 0.91
RESEMBLANCE = 0.9
"""Correlation of a candidate's errors with the champion's: it goes on from it."""
LABELERS = Labelers([0.95] * 30)
VOTES = 3
_ACCEPTABLE = -0.15  # quality from which an answer may be shown: about 0.72 of the answers
_FIXTURE = 16


class Size(NamedTuple):
    """How much feedback a scene has."""

    prompts: dict[str, int]
    """By segment."""
    splits: SplitSettings


SMALL = Size(
    {"code": 2000, "letters": 1000, "travel": 1000},
    SplitSettings(train=0.18, validation=0.09, calibration=0.31, test=0.42, golden=0.13),
)
LARGE = Size(
    # At least 4,000 prompts about code come into the test split.
    {"code": 8300, "letters": 1500, "travel": 1500},
    SplitSettings(train=0.07, validation=0.04, calibration=0.14, test=0.75, golden=0.31),
)


SIZES = {"small": SMALL, "large": LARGE}


class Verdict(NamedTuple):
    """What a run left behind."""

    blessed: bool
    """What ``blessing.json`` says; false where there is none."""
    why: list[str]
    """Names of the failed checks; or the step that stopped the run, so that no blessing was written."""


class Scene(NamedTuple):
    """``champion`` is ``models:/NAME/1``, registered by ``register_models`` and champion in the store's history."""

    folder: Path
    size: Size
    world: World
    rows: pl.DataFrame
    """The first batch."""
    verdicts: list[list[dict[str, Any]]]
    champion: str
    tracking_uri: str

    @property
    def store(self) -> Path:
        """The feedback store with the first batch and the history."""
        return self.folder / "store"

    @property
    def organization(self) -> str:
        """Names the registered model."""
        return self.folder.name

    def feedback(self, choices: list[list[dict[str, Any]]]) -> pl.DataFrame:
        """The first batch with other choices."""
        return feedback_of(self.world, choices, self.verdicts)

    def sound(self, accuracy: float | Callable[[str], float] = SOUND_ACCURACY) -> dict[str, float]:
        """Word values of a candidate with ``accuracy`` whose errors are like the champion's."""
        like = generator.noise(self.world, "champion")
        return generator.model_values(self.world, generator.noise(self.world, "candidate", like, RESEMBLANCE), accuracy)

    def judge(
        self,
        values: Mapping[str, float],
        *,
        feedback: pl.DataFrame | None = None,
        tamper: Callable[[Path], None] | None = None,
        meanwhile: Callable[[Path], None] | None = None,
    ) -> Verdict:
        """Judge the candidate with these word ``values`` against the champion.

        Args:
            values: planted in the candidate.
            feedback: rows for ``build_preferences``; None: those of the store.
            tamper: changes the folder that ``build_preferences`` wrote.
            meanwhile: happens between evaluation and decision, in a copy of the store.
        """
        with self.workplace() as folder:
            try:
                evaluate(self, folder, values, self.rows if feedback is None else feedback, tamper, self.champion)
                if meanwhile:
                    meanwhile(folder)
                decide(self, folder, SETTINGS["gate"])
            except RewardloopError:
                pass  # the step has written down that it failed, and there is no blessing
            return read_verdict(folder)

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder that is removed afterwards, with a copy of the store: a fault must not reach the next one."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            shutil.copytree(self.store, Path(name) / "store")
            yield Path(name)


def make_scene(folder: Path, seed: int, size: Size, tracking_uri: str) -> Scene:
    """Ingest a first batch into ``folder/store`` and make the planted champion version 1."""
    world = generator.make_world(seed, size.prompts)
    rows, verdicts = labeled(world, seed)
    scene = Scene(folder, size, world, rows, verdicts, "", tracking_uri)
    ingest(scene.store, rows, size.splits.model_copy(update={"salt": str(seed)}))
    values = generator.model_values(world, generator.noise(world, "champion"), CHAMPION_ACCURACY)
    promote(scene, folder / "first", scene.store, values, "")
    return scene._replace(champion=f"models:/{scene.organization}-reward/1")


def labeled(world: World, seed: int) -> tuple[pl.DataFrame, list[list[dict[str, Any]]]]:
    """``FEEDBACK`` rows with honest choices and verdicts, and the verdicts alone."""
    quality, rng = world.quality(), np.random.default_rng([seed, 2])
    who = LABELERS.draw(len(quality), VOTES, rng)
    verdicts = generator.verdict_labels(quality >= _ACCEPTABLE)
    return feedback_of(world, generator.choice_labels(who, LABELERS.choices(quality, who, rng)), verdicts), verdicts


def feedback_of(
    world: World, choices: list[list[dict[str, Any]]], verdicts: list[list[dict[str, Any]]], batch: str = "batch-1"
) -> pl.DataFrame:
    """``FEEDBACK`` rows with choices and verdicts."""
    return generator.feedback(world, [a + b for a, b in zip(choices, verdicts, strict=True)], batch)


def ingest(store: Path, rows: pl.DataFrame, splits: SplitSettings) -> str:
    """Commit ``rows`` as a batch of the store and return its digest."""
    frame = rows.drop("batch")
    digest = batch_digest(frame["record"].to_list())
    labels = frame.select(pl.col("labels").explode()).unnest("labels")
    FeedbackStore.open(str(store)).write_batch(
        frame,
        BatchManifest(
            digest=digest,
            ingested_at=datetime.now(UTC),
            rewardloop="benchmark",
            sources=[],
            importer="planted",
            importer_reason="made by the benchmark",
            rows_in=len(frame),
            rows_taken=len(frame),
            rows_quarantined=0,
            rows_duplicate=0,
            groups=len(frame),
            labels=len(labels),
            labelers=labels["labeler"].n_unique(),
            splits=splits,
        ),
    )
    return digest


def evaluate(
    scene: Scene,
    folder: Path,
    values: Mapping[str, float],
    rows: pl.DataFrame,
    tamper: Callable[[Path], None] | None,
    champion: str,
) -> None:
    """From validated rows and a planted candidate to ``folder/evaluation``."""
    settings = json.dumps(SETTINGS | {"splits": scene.size.splits.model_dump()})
    (folder / "validated").mkdir(parents=True)
    write_rows(folder / "validated", rows, datetime.now(UTC))
    build_preferences(
        validated=folder / "validated",
        store=str(folder / "store"),
        settings=settings,
        code_version="",
        preferences=folder / "preferences",
    )
    if tamper:
        tamper(folder / "preferences")
    texts = [(prompt, pair[0]) for prompt, pair in zip(scene.world.prompt, scene.world.answers, strict=True)]
    planted_model(folder / "reward_model", values, texts[:_FIXTURE])
    evaluate_reward_model(
        reward_model=folder / "reward_model",
        preferences=folder / "preferences",
        store=str(folder / "store"),
        settings=settings,
        champion=champion,
        tracking_uri=scene.tracking_uri,
        code_version="",
        evaluation=folder / "evaluation",
    )


def decide(scene: Scene, folder: Path, gate: Mapping[str, Any]) -> None:
    """Write ``folder/blessing/blessing.json``."""
    decide_promotion(
        evaluation=folder / "evaluation",
        store=str(folder / "store"),
        settings=json.dumps({"organization": scene.organization, "gate": gate}),
        corpus_digest=CORPUS,
        blessing=folder / "blessing",
    )


def promote(scene: Scene, folder: Path, store: Path, values: Mapping[str, float], champion: str) -> None:
    """Make a planted model the champion of ``store``: the limit is one that it cannot fail."""
    (folder / "store").parent.mkdir(parents=True, exist_ok=True)
    (folder / "store").symlink_to(store.resolve())
    evaluate(scene, folder, values, scene.rows, None, champion)
    decide(scene, folder, {"min_accuracy": 0.5, "require_threshold": False})
    register_models(
        reward_model=folder / "reward_model",
        evaluation=folder / "evaluation",
        blessing=folder / "blessing",
        store=str(store),
        settings=json.dumps(
            {"organization": scene.organization, "threshold": SETTINGS["threshold"], "promotion": {"mode": "auto"}}
        ),
        tracking_uri=scene.tracking_uri,
        corpus_digest=CORPUS,
        config_digest=folder.name,
        registration=folder / "registration",
    )


def read_verdict(folder: Path) -> Verdict:
    """The verdict on disk; where there is none, the step that stopped the run."""
    place = folder / "blessing" / "blessing.json"
    if place.is_file():
        blessing = json.loads(place.read_text(encoding="utf-8"))
        return Verdict(blessing["blessed"], [check["name"] for check in blessing["checks"] if not check["passed"]])
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/steps/*.json")]
    return Verdict(False, sorted({f"stopped by {one['step']}" for one in records if one["status"] == "failed"}))
