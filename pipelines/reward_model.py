"""The first half of both pipelines: from feedback to a measured reward model."""

from typing import Any, NamedTuple

from components.build_preferences import build_preferences
from components.check_prerequisites import check_prerequisites
from components.evaluate_reward_model import evaluate_reward_model
from components.load_corpus import load_corpus
from components.train_reward_model import train_reward_model
from components.validate_feedback import validate_feedback


class RewardModelTasks(NamedTuple):
    """Artifacts that later tasks take."""

    preferences: Any
    reward_model: Any
    evaluation: Any


def add_reward_model(
    *,
    store: str,
    corpus_digest: str,
    code_version: str,
    champion: str,
    tracking_uri: str,
    prerequisite_settings: str,
    data_settings: str,
    training_settings: str,
    evaluation_settings: str,
) -> RewardModelTasks:
    """Add the tasks to the pipeline that is being defined."""
    checked = check_prerequisites(store=store, tracking_uri=tracking_uri, settings=prerequisite_settings)
    checked.set_caching_options(False)
    corpus = load_corpus(store=store, corpus_digest=corpus_digest, code_version=code_version).after(checked)
    validated = validate_feedback(
        corpus=corpus.outputs["corpus"], store=store, settings=data_settings, code_version=code_version
    )
    built = build_preferences(
        validated=validated.outputs["validated"], store=store, settings=data_settings, code_version=code_version
    )
    trained = train_reward_model(
        preferences=built.outputs["preferences"],
        store=store,
        settings=training_settings,
        champion=champion,
        tracking_uri=tracking_uri,
        code_version=code_version,
    )
    evaluated = evaluate_reward_model(
        reward_model=trained.outputs["reward_model"],
        preferences=built.outputs["preferences"],
        store=store,
        settings=evaluation_settings,
        champion=champion,
        tracking_uri=tracking_uri,
        code_version=code_version,
    )
    return RewardModelTasks(
        built.outputs["preferences"], trained.outputs["reward_model"], evaluated.outputs["evaluation"]
    )
