"""What alignment made of the policy: its answers beside the reference's on prompts that nothing was learnt from.

In: the aligned policy, the references, the reward model, the preferences (for a second judge). Out: the policy's
evidence, and ``answers.parquet`` with both answers to every held-out prompt, for people to compare.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rewardloop.config import AlignSettings, EvaluationSettings, PolicyEvaluationSettings
from rewardloop.evaluation.judges import Judge, named_judge
from rewardloop.evaluation.policy import JudgeScores, Responses, TextLosses, ToxicityScores, compare_policies
from rewardloop.evaluation.toxicity import toxicity_scorer
from rewardloop.evidence import PolicyEvaluationEvidence
from rewardloop.feedback.text_sets import load_text_set
from rewardloop.modeling.policy import Policy, PolicyInfo, load_policy, load_start, policy_digest
from rewardloop.modeling.scoring import Floats
from rewardloop.steps.step_run import step_run
from rewardloop.storage import Storage
from rewardloop.training.devices import choose_device
from rewardloop.training.hardware import keep_freed_memory
from rewardloop.training.policies import rounds_policy
from rewardloop.training.reward_source import open_rewards
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import Answers, Readers, answer, kl_of, reference_answers
from rewardloop.training.text_losses import text_blocks, text_losses

_SEED = 2
"""Held-out prompts are answered with noise of their own."""


class _Compared(NamedTuple):
    """Answers to the same prompts, by the reference and by the policy."""

    before: Answers
    after: Answers


def evaluate_policy(
    *,
    policy: Path,
    start_policy: Path,
    references: Path,
    reward_model: Path,
    evaluation: Path,
    preferences: Path,
    store: str,
    settings: str,
    text_sets: str,
    code_version: str,
    policy_evaluation: Path,
) -> None:
    """Evaluate one policy.

    Args:
        policy: output of ``align_policy``.
        start_policy: output of ``train_sft``.
        references: output of ``generate_references``.
        reward_model: output of ``train_reward_model``.
        evaluation: output of ``evaluate_reward_model``.
        preferences: output of ``build_preferences``.
        store: URL of the feedback store.
        settings: JSON with the sections ``align``, ``policy_evaluation``, ``evaluation``, ``model`` and ``training``.
        text_sets: JSON of digests by name: ``reference_texts`` where there are some.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        policy_evaluation: output folder.
    """
    sections, sets = json.loads(settings), json.loads(text_sets)
    align = AlignSettings.model_validate(sections["align"])
    wanted = PolicyEvaluationSettings.model_validate(sections["policy_evaluation"])
    started = time.monotonic()
    with step_run("evaluate_policy", inputs=[policy, references, evaluation], output=policy_evaluation) as run:
        device = choose_device(align.device, "align.device")
        keep_freed_memory()
        cache = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop")) / "base-models"
        rewards, _ = open_rewards(align.model_copy(update={"missing_eos_penalty": 0.0}), reward_model, evaluation)
        loaded = load_policy(policy, cache, device=device, rounded=rounds_policy(align, device))
        whole = PolicyInfo.read(policy).trained == "model"
        reference = load_start(start_policy, cache, device=device) if whole else None
        readers = Readers(loaded, align, reference)
        table = pl.read_parquet(references / "references.parquet")
        held_out = _answers(loaded, table, "test", rewards, align, wanted)
        judge = _second_judge(wanted, sections, preferences, cache, code_version)
        public = rewards.public
        evidence = compare_policies(
            judged="the aligned policy's answers",
            prompts=[prompt.shown for prompt in held_out.after.prompts for _ in range(held_out.after.samples)],
            document=np.repeat(np.arange(len(held_out.after.prompts)), held_out.after.samples),
            before=_responses(held_out.before, public(held_out.before.reward_B)),
            after=_responses(held_out.after, public(held_out.after.reward_B)),
            kl=kl_of(readers, held_out.after),
            judges=[_judged(judge, held_out, rewards)],
            threshold=rewards.scorer.scoring.get("threshold"),
            tie_band=rewards.scorer.scoring.get("tie_band"),
            toxicity=_toxicity(held_out, loaded, table, rewards, align, wanted),
            text_losses=_losses(loaded, reference, preferences, store, sets, align, wanted),
            settings=EvaluationSettings.model_validate(sections["evaluation"]),
            seed=wanted.seed,
            seconds=round(time.monotonic() - started, 3),
        )
        _write(policy_evaluation, held_out, policy_digest(policy))
        run.write("policy_evaluation", evidence)
        run.produced = _in_words(evidence)
        run.log(_for_mlflow(evidence), tables={"samples": [sample.model_dump() for sample in evidence.samples]})


def _answers(
    policy: Policy,
    references: pl.DataFrame,
    split: str,
    rewards: Rewards,
    align: AlignSettings,
    wanted: PolicyEvaluationSettings,
) -> _Compared:
    before = reference_answers(references, split, rewards, strict=False)
    after = answer(
        policy,
        before.prompts,
        rewards,
        align,
        samples=before.samples,
        seed=(align.seed, wanted.seed, _SEED),
        strict=False,
    )
    return _Compared(before, after)


def _responses(answers: Answers, public: Floats) -> Responses:
    tokens = np.array([len(ids) for ids in answers.ids])
    return Responses(answers.texts, tokens, np.array(answers.finished), answers.reward_B, public)


def _judged(judge: Judge, compared: _Compared, rewards: Rewards) -> JudgeScores:
    before, after = (
        judge.score(*rewards.as_scored(answers.messages, answers.texts))
        for answers in (compared.before, compared.after)
    )
    return JudgeScores(judge.name, before, after)


def _second_judge(
    wanted: PolicyEvaluationSettings, sections: dict[str, Any], preferences: Path, cache: Path, code_version: str
) -> Judge:
    if wanted.judge == "base":
        # Training takes seconds to import, and the other judges do without.
        from rewardloop.training.second_judge import train_judge

        scorer = train_judge(preferences, sections["model"], sections["training"], cache, code_version)
        return Judge("a reward model trained from the base on the other half of the feedback", scorer.raw_scores)
    items, pairs = (pl.read_parquet(preferences / f"{name}.parquet") for name in ("items", "pairs"))
    return named_judge(wanted.judge, items, pairs, seed=wanted.seed)


def _toxicity(
    held_out: _Compared,
    policy: Policy,
    references: pl.DataFrame,
    rewards: Rewards,
    align: AlignSettings,
    wanted: PolicyEvaluationSettings,
) -> list[ToxicityScores]:
    scorer = toxicity_scorer(wanted.toxicity_scorer)
    sets = {"the held-out prompts": held_out}
    if wanted.toxicity_prompts:
        sets[f"the file {wanted.toxicity_prompts}"] = _answers(policy, references, "toxicity", rewards, align, wanted)
    return [
        ToxicityScores(
            scorer.name,
            name,
            np.repeat(np.arange(len(pair.after.prompts)), pair.after.samples),
            scorer.score(pair.before.texts),
            scorer.score(pair.after.texts),
        )
        for name, pair in sets.items()
    ]


def _losses(
    policy: Policy,
    reference: Policy | None,
    preferences: Path,
    store: str,
    sets: dict[str, str],
    align: AlignSettings,
    wanted: PolicyEvaluationSettings,
) -> TextLosses | None:
    if sets.get("reference_texts"):
        chosen, name = load_text_set(Storage.open(store), sets["reference_texts"]), f"the file {wanted.reference_texts}"
    else:
        items = pl.read_parquet(preferences / "items.parquet")
        chosen = items.filter((pl.col("split") == "test") & pl.col("acceptable").fill_null(value=True))
        name = "acceptable responses of the test split"
    chosen = chosen.sample(min(wanted.reference_text_count, len(chosen)), seed=wanted.seed, shuffle=True)
    texts: Sequence[tuple[list[dict[str, str]], str]] = chosen.select("prompt", "response").rows()
    blocks = text_blocks(policy, texts)
    if not blocks:
        return None
    after = text_losses(policy, blocks, align.tokens_per_batch)
    with policy.as_reference() if reference is None else nullcontext():
        before = text_losses(reference or policy, blocks, align.tokens_per_batch)
    return TextLosses(name, before, after)


def _write(folder: Path, compared: _Compared, digest: str) -> None:
    pl.DataFrame(
        {
            "prompt": compared.after.messages,
            "reference": compared.before.texts,
            "policy": compared.after.texts,
            "reference_reward": compared.before.reward_B,
            "policy_reward": compared.after.reward_B,
        }
    ).write_parquet(folder / "answers.parquet")
    (folder / "policy.json").write_text(json.dumps({"digest": digest}, indent=1), encoding="utf-8")


def _in_words(evidence: PolicyEvaluationEvidence) -> str:
    gain = evidence.reward.difference
    judges = ", ".join(f"{line.win_rate.value:.0%} by {line.judge}" for line in evidence.judges)
    interval = f"[{gain.low:+.2f}, {gain.high:+.2f}]"
    return f"reward gain {gain.value:+.2f} {interval} at {evidence.kl.value:.1f} nats; wins {judges}"


def _for_mlflow(evidence: PolicyEvaluationEvidence) -> dict[str, float]:
    return {
        "reward_before": evidence.reward.before.value,
        "reward_after": evidence.reward.after.value,
        "reward_gain": evidence.reward.difference.value,
        "kl": evidence.kl.value,
        "length_before": evidence.length.before.value,
        "length_after": evidence.length.after.value,
        "win_rate": evidence.judges[0].win_rate.value,
        "second_judge_win_rate": evidence.judges[1].win_rate.value,
    }
