"""The retraining pipeline: feedback in, a registered reward model with its threshold out."""

from kfp import dsl

from components.build_preferences import build_preferences
from components.decide_promotion import decide_promotion
from components.evaluate_reward_model import evaluate_reward_model
from components.load_corpus import load_corpus
from components.publish_report import publish_report
from components.register_models import register_models
from components.train_reward_model import train_reward_model
from components.validate_feedback import validate_feedback


@dsl.pipeline(name="retrain", description="Feedback in, a registered reward model with its threshold out.")
def retrain(
    store: str,
    corpus_digest: str,
    config_digest: str,
    code_version: str,
    champion: str,
    tracking_uri: str,
    data_settings: str,
    training_settings: str,
    evaluation_settings: str,
    promotion_settings: str,
) -> None:
    """One retraining.

    Args:
        store: URL of the feedback store.
        corpus_digest: the batches to train on; the cache knows data by it.
        config_digest: the settings that can change a model.
        code_version: fingerprint of the library; part of every cached step's key.
        champion: ``models:/NAME/VERSION`` to go on from and to compare with, or empty.
        tracking_uri: MLflow's URI.
        data_settings: JSON of the sections that validation and pairing read.
        training_settings: JSON of the sections that training reads.
        evaluation_settings: JSON of the sections that evaluation reads.
        promotion_settings: JSON of the sections that the gate and the registry read.
    """
    with dsl.ExitHandler(publish_report().set_caching_options(False)):
        corpus = load_corpus(store=store, corpus_digest=corpus_digest, code_version=code_version)
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
        decided = decide_promotion(
            evaluation=evaluated.outputs["evaluation"], settings=promotion_settings, corpus_digest=corpus_digest
        ).set_caching_options(False)
        # The local runner takes a named output for false: the gate is the component's one return value.
        with dsl.If(decided.outputs["Output"] == True, name="blessed"):  # noqa: E712  KFP builds the condition from ==
            register_models(
                reward_model=trained.outputs["reward_model"],
                evaluation=evaluated.outputs["evaluation"],
                blessing=decided.outputs["blessing"],
                store=store,
                settings=promotion_settings,
                tracking_uri=tracking_uri,
                corpus_digest=corpus_digest,
                config_digest=config_digest,
            ).set_caching_options(False)
