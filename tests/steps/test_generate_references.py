"""The step with real files: every prompt is answered once, and what is left out is counted."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from rewardloop.errors import BadInputError
from rewardloop.evidence import ReferencesEvidence
from rewardloop.modeling.policy import load_start
from rewardloop.records import bucket, prompt_key
from rewardloop.training import references
from rewardloop.training.alignment_prompts import IN_FEEDBACK, NOT_NEEDED, TOO_LONG
from rewardloop.training.references import REFERENCES
from tests.aligned import PROMPTS, Aligned, make_aligned, produced, read
from tests.preferences_tables import write_tables
from tests.unit.preferences.feedback import choice, frame, group


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    return make_aligned(tmp_path_factory.getbasetemp() / "aligned")


@pytest.fixture
def fresh(made: Aligned, tmp_path: Path) -> Aligned:
    """The same, with a store that has no answers yet."""
    store = replace(made, store=str(tmp_path / "store"))
    return replace(store, prompts=store.keep(tmp_path / "prompts.jsonl", "prompts", PROMPTS))


def test_prompts_that_go_in_are_used_or_left_out(made: Aligned) -> None:
    evidence = read(ReferencesEvidence, made.references, "references")
    table = pl.read_parquet(made.references / "references.parquet")
    assert table.schema == REFERENCES
    assert evidence.prompts_in == len(PROMPTS) == sum(evidence.prompts.values()) + sum(evidence.left_out.values())
    assert evidence.prompts == dict(table.group_by("split").agg(pl.col("key").n_unique()).rows())
    # 64 episodes of 4 answers to a prompt need 16 prompts.
    assert (evidence.prompts["train"], evidence.prompts["validation"]) == (16, 8)
    assert set(evidence.left_out) == {NOT_NEEDED}
    assert table["key"].n_unique() == len(table) == evidence.responses
    assert evidence.tokens == table["tokens"].sum()
    assert evidence.mean_length == pytest.approx(table["tokens"].mean())
    assert evidence.unfinished == pytest.approx(1 - table["finished"].mean())
    assert (evidence.reused, evidence.encoding) == (0, "plain")
    assert produced(made.references, "generate_references") == f"{len(table)} answers to {len(table)} prompts"


def test_answers_are_kept_for_the_next_run(fresh: Aligned, made: Aligned, tmp_path: Path) -> None:
    first = fresh.answer(tmp_path / "first")
    again = fresh.answer(tmp_path / "again", "align.learning_rate=1", "align.kl.beta=0")
    assert (first.reused, again.reused) == (0, again.responses)
    one, two = (pl.read_parquet(tmp_path / name / "references.parquet") for name in ("first", "again"))
    assert two.equals(one)
    assert one.equals(pl.read_parquet(made.references / "references.parquet"))
    assert produced(tmp_path / "again", "generate_references").endswith(f", {len(one)} of them kept from before")
    # Another temperature, other answers; the known ones stay.
    colder = fresh.answer(tmp_path / "colder", "align.generation.temperature=0.1")
    assert colder.reused == 0
    assert not pl.read_parquet(tmp_path / "colder" / "references.parquet")["response_ids"].equals(one["response_ids"])
    assert fresh.answer(tmp_path / "back").reused == len(one)


def test_a_killed_call_makes_only_the_rest(fresh: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_PART", 4)
    generate, calls = references.generate, []

    def interrupted(*arguments: object, **rest: object) -> object:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return generate(*arguments, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(references, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fresh.answer(tmp_path / "killed")
    monkeypatch.setattr(references, "generate", generate)
    assert fresh.answer(tmp_path / "resumed").reused == 8


def test_prompts_of_the_feedback_and_long_ones(made: Aligned, tmp_path: Path) -> None:
    asked = [str(row["prompt"]) for row in PROMPTS[:10]]
    preferences = write_tables(
        tmp_path / "preferences",
        frame([group([f"a {i}", f"b {i}"], [choice("a", "b")], prompt=prompt) for i, prompt in enumerate(asked)]),
    )
    long = [{"prompt": "7" * 21}, {"prompt": "8" * 20}]
    other = replace(made, preferences=preferences, store=str(tmp_path / "store"))
    other = replace(other, prompts=other.keep(tmp_path / "prompts.jsonl", "prompts", [*PROMPTS, *long]))
    evidence = other.answer(tmp_path / "out", "align.max_prompt_tokens=20")
    assert evidence.left_out[IN_FEEDBACK] == 10
    assert evidence.left_out[TOO_LONG] == 1
    assert evidence.prompts_in == 66 == sum(evidence.prompts.values()) + sum(evidence.left_out.values())
    keys = set(pl.read_parquet(tmp_path / "out" / "references.parquet")["key"])
    assert not keys & {prompt_key([("user", text)]) for text in asked}


def test_too_few_prompts(made: Aligned, tmp_path: Path) -> None:
    shares = [bucket("align", prompt_key([("user", str(row["prompt"]))])) for row in PROMPTS]
    train_only = [row for row, share in zip(PROMPTS, shares, strict=True) if share >= 0.3]
    other = replace(made, prompts=made.keep(tmp_path / "prompts.jsonl", "prompts", train_only))
    with pytest.raises(BadInputError, match=r"^align\.prompts: .* none is left for (test|validation); add prompts"):
        other.answer(tmp_path / "out")
    with pytest.raises(BadInputError, match=r"texts/000.parquet: cannot be read"):
        replace(made, prompts="000").answer(tmp_path / "out")


def test_prompts_for_toxicity(made: Aligned, tmp_path: Path) -> None:
    rows = [{"prompt": {"text": f"You {word}"}} for word in ("fool", "idiot", "saint")] + [{"prompt": "9" * 30}]
    digest = made.keep(tmp_path / "toxic.jsonl", "prompts", rows)
    overrides = ("policy_evaluation.toxicity_prompts=toxic.jsonl", "align.max_prompt_tokens=20")
    evidence = made.answer(tmp_path / "out", *overrides, toxicity_prompts=digest)
    table = pl.read_parquet(tmp_path / "out" / "references.parquet").filter(split="toxicity")
    assert sorted(prompt[0]["content"] for prompt in table["prompt"]) == ["You fool", "You idiot", "You saint"]
    assert evidence.prompts["toxicity"] == 3
    # The long one is counted; prompts in = prompts used + prompts left out, over both files.
    assert evidence.left_out[TOO_LONG] == 1
    assert evidence.prompts_in == 64 + 4 == sum(evidence.prompts.values()) + sum(evidence.left_out.values())
    # At most as many as are evaluated on.
    few = made.answer(tmp_path / "few", *overrides, "policy_evaluation.prompts=2", toxicity_prompts=digest)
    assert few.prompts["toxicity"] == 2


def test_a_gpu_that_is_not_there(made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInputError, match=r"^align\.device: 'cuda' is asked for, but this machine has no CUDA"):
        made.answer(tmp_path / "out", "align.device=cuda")
    assert not Path(os.environ["REWARDLOOP_HOME"]).exists()


def test_the_policy_that_is_asked_is_the_start(made: Aligned) -> None:
    """Its own log-probabilities stand beside the answers, at the sampling temperature."""
    policy = load_start(made.start, Path(os.environ["REWARDLOOP_HOME"]) / "base-models")
    table = pl.read_parquet(made.references / "references.parquet")
    for prompt, answer, logprob in table.select("prompt_ids", "response_ids", "logprob").head(5).rows():
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *answer]])).logits[0].double()
        each = logits.log_softmax(-1)[range(len(prompt) - 1, len(prompt) + len(answer) - 1), answer]
        assert logprob == pytest.approx(float(each.sum()), abs=0.1)  # it may have been read in bfloat16
