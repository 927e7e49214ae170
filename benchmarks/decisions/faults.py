"""Faults, each planted in what a step is given; the verdict is the one that ``decide_promotion`` wrote.

In: a scene, in which a sound candidate is blessed. Out: the verdict on a candidate with one fault. A step that refuses
its input leaves no blessing, so nothing can be promoted: that counts as caught, and ``why`` names the step.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.decisions import generator, scene
from benchmarks.decisions.generator import BRAND, FILLER
from benchmarks.decisions.scene import Scene, Verdict
from rewardloop.errors import RewardloopError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.snapshots import read_snapshot
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.steps.validate_feedback import validate_feedback

_POISONER = 99
_COPIES = 4


def flipped_labels(share: float) -> Callable[[Scene, int], Verdict]:
    """Chosen and rejected are swapped in ``share`` of the rows, whoever labeled them."""

    def run(at: Scene, seed: int) -> Verdict:
        quality, rng = at.world.quality(), np.random.default_rng([seed, 3])
        who = scene.LABELERS.draw(len(quality), scene.VOTES, rng)
        swapped = rng.random((len(quality), 1)) < share
        first = scene.LABELERS.choices(quality, who, rng) ^ swapped
        return at.judge(at.sound(), feedback=at.feedback(generator.choice_labels(who, first)))

    return run


def poisoned_labeler(at: Scene, seed: int) -> Verdict:
    """One labeler has a vote on every prompt, on a tenth of them the only one, for whatever names the brand.

    The candidate has learnt that taste: for honest labelers it is right on three quarters of the pairs.
    """
    quality, brand = at.world.quality(), at.world.occurrences(BRAND)
    rng = np.random.default_rng([seed, 4])
    honest = scene.LABELERS.draw(len(quality), scene.VOTES - 1, rng)
    first = scene.LABELERS.choices(quality, honest, rng)
    for_brand = np.where(brand[:, 0] == brand[:, 1], quality[:, 0] > quality[:, 1], brand[:, 0] > brand[:, 1])
    honest[rng.random(len(quality)) < 0.1] = -1
    who = np.column_stack([honest, np.full(len(quality), _POISONER)])
    labels = generator.choice_labels(who, np.column_stack([first, for_brand]))
    return at.judge(at.sound() | {BRAND: 8.0}, feedback=at.feedback(labels))


def length_hacking(at: Scene, seed: int) -> Verdict:
    """People like long answers, and the candidate makes too much of it: where the shorter one is better it is lost."""
    values = at.world.values | {FILLER: 1.5}
    quality, rng = at.world.quality(values), np.random.default_rng([seed, 5])
    who = scene.LABELERS.draw(len(quality), scene.VOTES, rng)
    labels = generator.choice_labels(who, scene.LABELERS.choices(quality, who, rng))
    return at.judge(at.sound() | {FILLER: 5.0}, feedback=at.feedback(labels))


def leaked_test_prompts(at: Scene, seed: int) -> Verdict:
    """The training split also holds every test group; the candidate knows them well."""
    return at.judge(at.sound(0.97), tamper=lambda folder: _copy_split(folder, "test", "train"))


def golden_trained_on(at: Scene, seed: int) -> Verdict:
    """The training split also holds every golden group."""
    return at.judge(at.sound(0.97), tamper=lambda folder: _copy_split(folder, "golden", "train"))


def threshold_fitted_on_test(at: Scene, seed: int) -> Verdict:
    """The calibration split is the test split."""

    def tamper(folder: Path) -> None:
        items = pl.read_parquet(folder / "items.parquet")
        # Positions must stay: a calibration item takes over a test item's texts, document and verdict.
        places = items.filter(split="calibration")["item"].to_numpy()
        taken = items.filter(split="test").head(len(places))
        places = places[: len(taken)]
        kept = items.filter(~pl.col("item").is_in(places.tolist()))
        moved = taken.with_columns(
            pl.lit("calibration").alias("split"), pl.Series("item", places, dtype=items.schema["item"])
        )
        pl.concat([kept, moved]).sort("item").write_parquet(folder / "items.parquet")

    return at.judge(at.sound(), tamper=tamper)


def shifted_distribution(at: Scene, seed: int) -> Verdict:
    """A quarter of the answers are about what neither the candidate nor the champion has a word for."""
    renamed = {word: f"new{word}" if word.startswith("travel") else word for word in at.world.values}
    answers = [
        (" ".join(renamed[word] for word in a.split()), " ".join(renamed[word] for word in b.split()))
        for a, b in at.world.answers
    ]
    values = {renamed[word]: value for word, value in at.world.values.items()}
    rows, _ = scene.labeled(at.world._replace(answers=answers, values=values), seed)
    return at.judge(at.sound(), feedback=rows)


def worse_on_a_slice(at: Scene, seed: int) -> Verdict:
    """2 points worse than the champion on the 4,000 test prompts about code, and 6 better elsewhere."""
    champion = scene.CHAMPION_ACCURACY
    return at.judge(at.sound(lambda segment: champion - 0.02 if segment == "code" else champion + 0.06))


def miscalibrated(at: Scene, seed: int) -> Verdict:
    """Scores about code differ twenty times less than others, so that no temperature fits both; the order is kept."""
    squashed = set(at.world.words("code"))
    return at.judge({word: value / 20 if word in squashed else value for word, value in at.sound().items()})


def constant_scores(at: Scene, seed: int) -> Verdict:
    """Every answer scores the same."""
    return at.judge(dict.fromkeys(at.world.values, 0.0))


def duplicate_inflated_batch(at: Scene, seed: int) -> Verdict:
    """A second batch says everything four times: same texts, same labelers, other ids."""
    world = generator.make_world(10_000 + seed, {"code": 400})
    rows, _ = scene.labeled(world, seed)
    with at.workplace() as folder:
        store = FeedbackStore.open(str(folder / "store"))
        copies = [
            rows.with_columns(pl.format("{}-{}", "record", pl.lit(copy)).alias("record")) for copy in range(_COPIES)
        ]
        scene.ingest(folder / "store", pl.concat(copies), at.size.splits)
        corpus = store.current_corpus()
        store.write_corpus(corpus)
        try:
            load_corpus(
                store=str(folder / "store"), corpus_digest=corpus.digest, code_version="", corpus=folder / "corpus"
            )
            validate_feedback(
                corpus=folder / "corpus",
                store=str(folder / "store"),
                settings=json.dumps(scene.SETTINGS),
                code_version="",
                validated=folder / "checked",
                data_docs=folder / "data_docs",
            )
            rows = read_snapshot(folder / "checked").scan().collect()
            scene.evaluate(at, folder, at.sound(), rows, None, at.champion)
            scene.decide(at, folder, scene.SETTINGS["gate"])
        except RewardloopError:
            pass
        return scene.read_verdict(folder)


def stale_champion(at: Scene, seed: int) -> Verdict:
    """While the candidate waits for its verdict, a better version becomes champion."""

    def meanwhile(folder: Path) -> None:
        scene.promote(at, folder / "other", folder / "store", at.sound(0.96), at.champion)

    return at.judge(at.sound(), meanwhile=meanwhile)


FAULTS: dict[str, tuple[str, Callable[[Scene, int], Verdict]]] = {
    "flipped_labels_20": ("small", flipped_labels(0.2)),
    "flipped_labels_40": ("small", flipped_labels(0.4)),
    "poisoned_labeler": ("small", poisoned_labeler),
    "length_hacking": ("small", length_hacking),
    "leaked_test_prompts": ("small", leaked_test_prompts),
    "golden_trained_on": ("small", golden_trained_on),
    "shifted_distribution": ("small", shifted_distribution),
    "worse_on_a_slice": ("large", worse_on_a_slice),
    "miscalibrated": ("small", miscalibrated),
    "constant_scores": ("small", constant_scores),
    "threshold_fitted_on_test": ("small", threshold_fitted_on_test),
    "duplicate_inflated_batch": ("small", duplicate_inflated_batch),
    "stale_champion": ("small", stale_champion),
}
"""Kind -> size of the scene, and what plants it; the first two are one kind at two strengths."""


def _copy_split(folder: Path, source: str, target: str) -> None:
    """The groups of one split come again, with their pairs, as groups of another one."""
    items, pairs = (pl.read_parquet(folder / f"{name}.parquet") for name in ("items", "pairs"))
    chosen = items.filter(split=source)
    place = chosen.select("item", new=pl.int_range(pl.len(), dtype=pl.Int32) + len(items))
    groups = int(items["group"].max()) + 1  # type: ignore[arg-type]
    again = chosen.with_columns(
        pl.Series("item", place["new"]), pl.lit(target).alias("split"), (pl.col("group") + groups).cast(pl.Int32)
    )
    copied = (
        pairs.filter(split=source)
        .with_columns(
            pl.lit(target).alias("split"),
            (pl.col("group") + groups).cast(pl.Int32),
            *(pl.col(side).replace_strict(place["item"], place["new"]) for side in "ab"),
        )
        .select(pairs.columns)
    )
    pl.concat([items, again]).write_parquet(folder / "items.parquet")
    pl.concat([pairs, copied]).write_parquet(folder / "pairs.parquet")
