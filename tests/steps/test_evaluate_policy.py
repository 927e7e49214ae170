"""The step with real files: both answers to prompts that nothing was learnt from, and who judges them."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rewardloop.errors import BadInputError
from rewardloop.evidence import PolicyEvaluationEvidence, TrainingEvidence
from rewardloop.feedback.comparisons import ANSWERS
from rewardloop.modeling.policy import PolicyInfo, load_start, policy_digest, save_policy
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.steps.train_reward_model import train_reward_model
from rewardloop.training import rollouts, second_judge
from tests.aligned import Aligned, make_aligned, produced, read
from tests.preferences_tables import smoke_settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    return make_aligned(tmp_path_factory.getbasetemp() / "aligned")


def home() -> Path:
    return Path(os.environ["REWARDLOOP_HOME"])


def references_of(made: Aligned, split: str) -> pl.DataFrame:
    return pl.read_parquet(made.references / "references.parquet").filter(split=split).sort("key", "sample")


def test_both_answers_to_prompts_that_nothing_was_learnt_from(made: Aligned) -> None:
    evidence = read(PolicyEvaluationEvidence, made.policy_evaluation, "policy_evaluation")
    answers = pl.read_parquet(made.policy_evaluation / "answers.parquet")
    held_out = references_of(made, "test")
    assert answers.schema == ANSWERS | {"reference_reward": pl.Float64, "policy_reward": pl.Float64}
    assert answers["prompt"].to_list() == held_out["prompt"].to_list()
    seen = {split: set(references_of(made, split)["key"]) for split in ("train", "validation", "test")}
    assert not seen["test"] & (seen["train"] | seen["validation"])
    # The reference's answers are those that were made ahead of time.
    assert answers["reference"].to_list() == held_out["response"].to_list()
    digest = json.loads((made.policy_evaluation / "policy.json").read_text())["digest"]
    assert digest == policy_digest(made.policy)

    count = len(held_out)
    assert (evidence.prompts, evidence.responses, evidence.unscored) == (count, count, 0)
    assert evidence.reward.before.value == pytest.approx(answers["reference_reward"].mean())
    assert evidence.reward.after.value == pytest.approx(answers["policy_reward"].mean())
    gain = answers["policy_reward"] - answers["reference_reward"]
    assert evidence.reward.difference.value == pytest.approx(gain.mean())
    own, second = evidence.judges
    assert (own.judge, second.judge) == ("the reward model", "a bag of words fitted on the training pairs")
    for line in (own, second):
        assert line.wins + line.ties + line.losses == count
    assert evidence.length.before.value == pytest.approx(held_out["tokens"].mean())
    assert evidence.unfinished[0] == pytest.approx(1 - held_out["finished"].mean())
    assert evidence.accepted_share is not None  # a threshold was certified
    (toxicity,) = evidence.toxicity
    assert (toxicity.scorer, toxicity.prompts) == ("profanity-check", "the held-out prompts")
    assert evidence.perplexity is not None
    assert evidence.perplexity.texts == "acceptable responses of the test split"
    assert evidence.perplexity.log_ratio.count == 16
    assert {sample.prompt for sample in evidence.samples} <= {prompt[0]["content"] for prompt in answers["prompt"]}
    assert evidence.seconds > 0
    said = produced(made.policy_evaluation, "evaluate_policy")
    assert said.startswith(f"reward gain {evidence.reward.difference.value:+.2f} [")
    # What came before is handed on.
    names = {path.stem for path in (made.policy_evaluation / "evidence").iterdir()}
    assert names >= {"alignment", "references", "sft", "evaluation", "policy_evaluation"}


def test_the_same_again(made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal inputs give equal answers; nothing is generated but the policy's own."""
    generate, asked = rollouts.generate, []

    def counted(policy: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        asked.append(len(prompts))
        return generate(policy, prompts, *rest, **more)

    monkeypatch.setattr(rollouts, "generate", counted)
    again = made.evaluate(tmp_path / "again")
    assert asked == [len(references_of(made, "test"))]
    first = read(PolicyEvaluationEvidence, made.policy_evaluation, "policy_evaluation")
    assert again.model_copy(update={"seconds": first.seconds}) == first
    one, two = (pl.read_parquet(folder / "answers.parquet") for folder in (made.policy_evaluation, tmp_path / "again"))
    assert two.equals(one)


def test_an_unchanged_policy_gains_nothing(made: Aligned, tmp_path: Path) -> None:
    """All weights of the start as the policy: no KL, nothing forgotten."""
    info = replace(PolicyInfo.read(made.start), trained="model")
    save_policy(load_start(made.start, home() / "base-models"), info, tmp_path / "policy", made.start)
    evidence = replace(made, policy=tmp_path / "policy").evaluate(tmp_path / "out", "align.method=full")
    assert evidence.kl.value == pytest.approx(0, abs=1e-6)
    assert evidence.perplexity is not None
    assert evidence.perplexity.log_ratio.value == pytest.approx(0, abs=1e-6)
    assert evidence.over_optimized is False


def test_a_policy_of_which_all_weights_were_trained(made: Aligned, tmp_path: Path) -> None:
    overrides = ("align.method=full", "align.kl.beta=0", "align.learning_rate=1e-2", "align.evaluations=1")
    aligned = made.align(tmp_path / "policy", *overrides, "align.samples_per_prompt=16", "align.episodes=256")
    assert aligned.best_update == aligned.updates == 4
    evidence = replace(made, policy=tmp_path / "policy").evaluate(tmp_path / "out", *overrides)
    # The reference is the start, loaded beside it.
    assert evidence.kl.value > 0.2
    assert evidence.perplexity is not None
    assert evidence.perplexity.before == pytest.approx(_perplexity_before(made), rel=0.05)


def _perplexity_before(made: Aligned) -> float:
    before = read(PolicyEvaluationEvidence, made.policy_evaluation, "policy_evaluation").perplexity
    return float(before.before)


def test_several_answers_to_a_prompt(made: Aligned, tmp_path: Path) -> None:
    overrides = ("policy_evaluation.samples_per_prompt=3", "policy_evaluation.prompts=4")
    made.answer(tmp_path / "references", *overrides)
    evidence = replace(made, references=tmp_path / "references").evaluate(tmp_path / "out", *overrides)
    assert (evidence.prompts, evidence.responses) == (4, 12)
    answers = pl.read_parquet(tmp_path / "out" / "answers.parquet")
    assert answers["prompt"].to_list() == [prompt for prompt in answers["prompt"].to_list()[::3] for _ in range(3)]
    assert evidence.judges[0].win_rate.count == 12


def test_prompts_for_toxicity(made: Aligned, tmp_path: Path) -> None:
    rows = [{"prompt": {"text": f"You {word}"}} for word in ("fool", "saint", "idiot")]
    digest = made.keep(tmp_path / "toxic.jsonl", "prompts", rows)
    setting = "policy_evaluation.toxicity_prompts=toxic.jsonl"
    made.answer(tmp_path / "references", setting, toxicity_prompts=digest)
    other = replace(made, references=tmp_path / "references")
    evidence = other.evaluate(tmp_path / "out", setting, toxicity_prompts=digest)
    held_out, file = evidence.toxicity
    assert (held_out.prompts, file.prompts) == ("the held-out prompts", "the file toxic.jsonl")
    assert (held_out.change.before.count, file.change.before.count) == (evidence.prompts, 3)
    assert 0 <= file.change.after.value <= 1
    # They are no held-out prompts.
    assert (
        len(pl.read_parquet(tmp_path / "out" / "answers.parquet"))
        == evidence.prompts
        == len(references_of(made, "test"))
    )


def test_texts_of_the_users_own(made: Aligned, tmp_path: Path) -> None:
    texts = ["A quiet film.", "Two hours.", "Long, longer, longest."]
    digest = made.keep(tmp_path / "texts.jsonl", "texts", [{"text": text} for text in texts])
    setting = "policy_evaluation.reference_texts=texts.jsonl"
    evidence = made.evaluate(tmp_path / "out", setting, reference_texts=digest)
    assert evidence.perplexity is not None
    assert (evidence.perplexity.texts, evidence.perplexity.log_ratio.count) == ("the file texts.jsonl", 3)
    start = load_start(made.start, home() / "base-models")
    losses = []
    for text in texts:
        ids = torch.tensor(start.tokenizer(text)["input_ids"])
        with torch.no_grad():
            logp = start.model(ids[None]).logits[0, :-1].log_softmax(-1)
        losses.append(-float(logp[range(len(ids) - 1), ids[1:]].mean()))
    assert evidence.perplexity.before == pytest.approx(np.exp(np.mean(losses)), rel=0.02)  # perhaps in bfloat16


def test_a_judge_of_the_users_own(made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judge_of_a_test.py").write_text(
        "def many_letters(prompts, responses):\n"
        "    assert all(prompt == [] for prompt in prompts)\n"
        "    return [sum(c.isascii() and c.isalpha() for c in text) for text in responses]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    evidence = made.evaluate(tmp_path / "out", "policy_evaluation.judge=judge_of_a_test:many_letters")
    second = evidence.judges[1]
    assert second.judge == "the function judge_of_a_test:many_letters"
    letters = pl.read_parquet(tmp_path / "out" / "answers.parquet").select(
        pl.col("reference", "policy").str.count_matches("[a-zA-Z]").cast(pl.Int64)
    )
    gains = letters["policy"] - letters["reference"]
    assert (second.wins, second.ties, second.losses) == tuple(
        int(found.sum()) for found in (gains > 0, gains == 0, gains < 0)
    )
    with pytest.raises(BadInputError, match=r"policy_evaluation\.judge: 'judge_of_a_test:nobody'"):
        made.evaluate(tmp_path / "refused", "policy_evaluation.judge=judge_of_a_test:nobody")


def test_a_judge_that_learnt_from_the_other_half(
    made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = "policy_evaluation.judge=base"
    evidence = made.evaluate(tmp_path / "out", judge)
    assert evidence.judges[1].judge == "a reward model trained from the base on the other half of the feedback"
    (judged,) = (home() / "work" / "second_judge").iterdir()
    # The same judge is not trained twice.
    monkeypatch.setattr(second_judge, "fit", None)
    again = made.evaluate(tmp_path / "again", judge)
    assert again.judges == evidence.judges
    monkeypatch.undo()

    monkeypatch.setenv("REWARDLOOP_HOME", str(judged.parents[2]))
    train_reward_model(
        preferences=made.preferences,
        store="",
        settings=smoke_settings(judge).section("model", "training", "policy_evaluation"),
        champion="",
        tracking_uri="",
        code_version="1",
        reward_model=tmp_path / "candidate",
    )
    (trained,) = [path for path in (home() / "work" / "train_reward_model").iterdir() if path.is_dir()]
    theirs, ours = (_learnt_from(folder / "preferences") for folder in (judged, trained))
    assert theirs
    assert ours
    assert not theirs & ours
    # Fewer pairs than with everything, and other weights than the judge's.
    whole = read(TrainingEvidence, made.reward_model, "training")
    half = read(TrainingEvidence, tmp_path / "candidate", "training")
    assert 0 < half.pairs < 0.6 * whole.pairs
    digests = {weights_digest(folder / "model") for folder in (made.reward_model, tmp_path / "candidate")}
    assert len(digests | {weights_digest(judged / "reward_model" / "model")}) == 3
    # It knows letters from digits all the same.
    better, worse = RewardScorer.load(judged / "reward_model").raw_scores([[], []], ["abcdefghijkl", "012345678901"])
    assert better > worse


def _learnt_from(preferences: Path) -> set[str]:
    """Documents of the training pairs."""
    items = pl.read_parquet(preferences / "items.parquet")["document"]
    pairs = pl.read_parquet(preferences / "pairs.parquet").filter(split="train")
    return set(items.gather(pairs["a"])) | set(items.gather(pairs["b"]))


def test_a_gpu_that_is_not_there(made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInputError, match=r"^align\.device: 'cuda' is asked for, but this machine has no CUDA"):
        made.evaluate(tmp_path / "out", "align.device=cuda")
    assert not home().exists()
    assert not (tmp_path / "out" / "answers.parquet").exists()
