"""What a trained reward model does with texts it has never seen, beyond a number on a split."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rewardloop.config import ModelSettings, load_settings
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.modeling.reward_model import build_reward_model, encoding_for
from rewardloop.modeling.scoring import Encoder, RewardScorer
from rewardloop.preferences.build import build
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import encode_groups
from rewardloop.training.reward import RewardTrainer
from tests.smoke_data import write_ratings


@pytest.fixture(scope="module")
def scorer(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> RewardScorer:
    """A tiny model trained on the planted preference: "good" over "bad"."""
    folder = tmp_path_factory.mktemp("behaviour")
    settings = load_settings(Path("conf/smoke.yaml")).settings
    store = FeedbackStore.open(str(folder / "store"))
    report = ingest([write_ratings(folder / "batch.csv", texts=700, seed=11)], store, settings, key=b"k" * 32)
    assert report.digest is not None
    built = build(
        store.read_batch(report.digest).with_columns(batch=pl.lit(report.digest)),
        preferences=settings.preferences,
        splits=settings.splits,
        evaluation=settings.evaluation,
        golden=frozenset(),
    )
    model, tokenizer = build_reward_model(tiny_base, settings.training)
    encoding = encoding_for(tokenizer, ModelSettings(base=tiny_base, max_length=128), has_prompts=False)
    train, validation = (
        encode_groups(
            built.items.filter(split=split), built.pairs.filter(split=split), Encoder(tokenizer, encoding)
        ).groups
        for split in ("train", "validation")
    )
    trainer = RewardTrainer(model, 0, settings.training, train=train, validation=validation, max_length=128)
    trainer.run(CheckpointFolder(folder / "work"))
    return RewardScorer(
        model,
        tokenizer,
        {"template": "plain", "max_length": 128, "truncation_side": "left", "scale": {"raw": [0, 1], "public": [0, 1]}},
    )


def scores(scorer: RewardScorer, *texts: str) -> list[float]:
    return [float(score) for score in scorer.score([[]] * len(texts), list(texts))]


def test_prefers_the_better_answer(scorer: RewardScorer) -> None:
    good, bad = scores(scorer, "good good film story cast 7001", "bad bad film story cast 7002")
    assert good > bad


def test_more_of_the_good_is_better_and_more_of_the_bad_is_worse(scorer: RewardScorer) -> None:
    ladder = scores(
        scorer, "bad bad bad film end 1", "bad film end 1", "film end 1", "good film end 1", "good good good film end 1"
    )
    assert np.argsort(ladder).tolist() == [0, 1, 2, 3, 4]


def test_longer_is_not_better(scorer: RewardScorer) -> None:
    short, long = scores(scorer, "good good film 5", "bad bad film story light scene voice music end cast film 5")
    assert short > long


def test_where_the_word_stands_matters_less_than_which_it_is(scorer: RewardScorer) -> None:
    first, last, other = scores(scorer, "good good film story 3", "film story good good 3", "film story bad bad 3")
    assert abs(first - last) < min(first, last) - other


def test_an_unrelated_number_hardly_moves_the_score(scorer: RewardScorer) -> None:
    good = scores(scorer, *(f"good good film story {number}" for number in (1, 42, 577)))
    bad = scores(scorer, *(f"bad bad film story {number}" for number in (1, 42, 577)))
    assert min(good) > max(bad)
    assert np.ptp(good) < min(good) - max(bad)
