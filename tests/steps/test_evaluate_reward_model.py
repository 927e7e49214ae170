"""The step with real files: what it leaves for drift to be measured against is what it scored."""

import json
from pathlib import Path

import polars as pl

from rewardloop.evaluation.reference import REFERENCE, REFERENCE_FILE
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.steps.build_preferences import build_preferences
from rewardloop.steps.evaluate_reward_model import evaluate_reward_model
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.steps.train_reward_model import train_reward_model
from tests.preferences_tables import smoke_settings
from tests.smoke_data import write_ratings


def test_the_reference_has_the_scores_and_decisions_of_held_out_answers(tmp_path: Path) -> None:
    settings = smoke_settings("training.epochs=1", "evaluation.robustness_items=2")
    opened = FeedbackStore.open(str(tmp_path / "store"))
    ingest([write_ratings(tmp_path / "ratings.csv", texts=300, seed=1)], opened, settings, key=b"key")
    corpus = opened.current_corpus()
    opened.write_corpus(corpus)
    place = {name: tmp_path / name for name in ("corpus", "preferences", "reward_model", "evaluation")}
    same = {"store": str(tmp_path / "store"), "code_version": "1"}
    load_corpus(corpus_digest=corpus.digest, corpus=place["corpus"], **same)
    build_preferences(
        validated=place["corpus"],
        settings=settings.section("preferences", "splits", "evaluation"),
        preferences=place["preferences"],
        **same,
    )
    model = {"champion": "", "tracking_uri": "", "preferences": place["preferences"]}
    train_reward_model(
        settings=settings.section("model", "training"), reward_model=place["reward_model"], **model, **same
    )
    evaluate_reward_model(
        reward_model=place["reward_model"],
        settings=settings.section("evaluation", "threshold"),
        evaluation=place["evaluation"],
        **model,
        **same,
    )
    reference = pl.read_parquet(place["evaluation"] / REFERENCE_FILE)
    assert reference.schema == REFERENCE
    items = pl.read_parquet(place["preferences"] / "items.parquet")
    scores = pl.read_parquet(place["evaluation"] / "scores.parquet")["score"]
    held_out = items.with_columns(score=scores).filter(pl.col("split").is_in(["calibration", "test"]))
    assert len(reference) == held_out["document"].n_unique() > 50
    assert set(reference["score"]) <= set(held_out["score"])
    assert set(reference["response_characters"]) <= set(held_out["response"].str.len_chars())
    threshold = json.loads((place["evaluation"] / "scoring.json").read_text())["threshold"]
    accepted = reference["decision"] == "accept" if threshold is not None else None
    assert threshold is not None
    assert accepted is not None
    assert accepted.to_list() == (reference["score"] >= threshold).to_list()
