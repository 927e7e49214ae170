"""The pipeline with alignment: feedback in, a registered reward model and a policy aligned to it out."""

from kfp import dsl

from components.check_reward_gate import check_reward_gate
from components.decide_promotion import decide_promotion
from components.publish_report import publish_report
from components.register_models import register_models
from pipelines.align import add_alignment
from pipelines.reward_model import add_reward_model


@dsl.pipeline(
    name="retrain-and-align",
    description="Feedback in, a registered reward model with its threshold and a policy aligned to it out.",
)
def retrain_and_align(
    store_uri: str,
    corpus_digest: str,
    config_digest: str,
    trigger_reason: str,
    code_version: str,
    champion: str,
    tracking_uri: str,
    text_sets: str,
    prerequisite_settings: str,
    data_settings: str,
    training_settings: str,
    evaluation_settings: str,
    sft_settings: str,
    alignment_settings: str,
    policy_settings: str,
    promotion_settings: str,
) -> None:
    """One retraining with alignment; parameters as those of ``retrain``, and for the policy:

    Args:
        store_uri: URL of the feedback store.
        corpus_digest: the batches to train on; the cache knows data by it.
        config_digest: the settings that can change a model.
        trigger_reason: why this run was started, for people; only uncached tasks take it.
        code_version: fingerprint of the library; part of every cached step's key.
        champion: ``models:/NAME/VERSION`` to go on from and to compare with, or empty.
        tracking_uri: MLflow's URI.
        text_sets: JSON of digests, in the store, of prompts, demonstrations and texts.
        prerequisite_settings: JSON of the sections that the first check reads.
        data_settings: JSON of the sections that validation and pairing read.
        training_settings: JSON of the sections that training reads.
        evaluation_settings: JSON of the sections that evaluation reads.
        sft_settings: JSON of the sections that supervised fine-tuning reads.
        alignment_settings: JSON of the sections that alignment reads.
        policy_settings: JSON of the sections that references and the policy's evaluation read.
        promotion_settings: JSON of the sections that the gate and the registry read.
    """
    report = publish_report(
        corpus_digest=corpus_digest,
        config_digest=config_digest,
        trigger_reason=trigger_reason,
        tracking_uri=tracking_uri,
        settings=promotion_settings,
    ).set_caching_options(False)
    with dsl.ExitHandler(report):
        measured = add_reward_model(
            store=store_uri,
            corpus_digest=corpus_digest,
            code_version=code_version,
            champion=champion,
            tracking_uri=tracking_uri,
            prerequisite_settings=prerequisite_settings,
            data_settings=data_settings,
            training_settings=training_settings,
            evaluation_settings=evaluation_settings,
        )
        passed = check_reward_gate(evaluation=measured.evaluation, store=store_uri, settings=promotion_settings)
        passed.set_caching_options(False)
        # The local runner takes a named output for false, and cannot merge artifacts of two branches.
        with dsl.If(passed.output == True, name="reward-model-passed"):  # noqa: E712  KFP builds the condition from ==
            made = add_alignment(
                measured,
                store=store_uri,
                code_version=code_version,
                text_sets=text_sets,
                sft_settings=sft_settings,
                alignment_settings=alignment_settings,
                policy_settings=policy_settings,
            )
            decided = decide_promotion(
                evaluation=measured.evaluation,
                policy_evaluation=made.policy_evaluation,
                store=store_uri,
                settings=promotion_settings,
                corpus_digest=corpus_digest,
            ).set_caching_options(False)
            with dsl.If(decided.outputs["Output"] == True, name="blessed"):  # noqa: E712
                register_models(
                    reward_model=measured.reward_model,
                    evaluation=measured.evaluation,
                    blessing=decided.outputs["blessing"],
                    policy=made.policy,
                    store=store_uri,
                    settings=promotion_settings,
                    tracking_uri=tracking_uri,
                    corpus_digest=corpus_digest,
                    config_digest=config_digest,
                ).set_caching_options(False)
        with dsl.Else(name="reward-model-refused"):
            decide_promotion(
                evaluation=measured.evaluation,
                store=store_uri,
                settings=promotion_settings,
                corpus_digest=corpus_digest,
            ).set_caching_options(False)
