"""The start policy's answers are made once: by content, in parts, with the log-probabilities of the policy itself."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from rewardloop.config import AlignSettings
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy, PolicyInfo, load_causal_model
from rewardloop.records import prompt_key
from rewardloop.storage import Storage
from rewardloop.training import references
from rewardloop.training.references import REFERENCES, make_references, references_key

SETTINGS = AlignSettings.model_validate(
    {"prompts": "p.jsonl", "generation": {"max_new_tokens": 6, "temperature": 0.8}, "precision": "float32"}
)


@pytest.fixture(scope="module")
def policy(tiny_base: str) -> Policy:
    model, tokenizer = load_causal_model(tiny_base)
    return Policy(model.eval(), tokenizer, plain_text=True)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "store"))


def asked(policy: Policy, split: str = "train", samples: int = 1, count: int = 10) -> pl.DataFrame:
    texts = [f"{split} {number}" for number in range(count)]
    messages = [[{"role": "user", "content": text}] for text in texts]
    return pl.DataFrame(
        {
            "prompt": messages,
            "key": [prompt_key([("user", text)]) for text in texts],
            "split": split,
            "prompt_ids": pl.Series([policy.prompt_ids(prompt) for prompt in messages], dtype=pl.List(pl.Int32)),
            "samples": pl.Series([samples] * count, dtype=pl.Int32),
        }
    )


def refuse() -> Policy:
    raise AssertionError("the policy was loaded")


def test_answers_are_made_once(policy: Policy, storage: Storage) -> None:
    prompts = pl.concat([asked(policy), asked(policy, "test", samples=3, count=4)])
    loaded, seen = [], []
    first, reused = make_references(
        prompts, lambda: loaded.append(1) or policy, SETTINGS, storage, "k", progress=seen.append
    )
    assert (len(first), reused, loaded) == (10 + 4 * 3, 0, [1])
    assert seen == [10, 12]
    assert first.schema == REFERENCES
    assert sorted(first.filter(split="test").select("key", "sample").unique()["sample"]) == sorted([0, 1, 2] * 4)
    for key, ids in prompts.select("key", "prompt_ids").rows():
        assert first.filter(key=key)["prompt_ids"].to_list() == [ids] * len(first.filter(key=key))

    again, reused = make_references(prompts, refuse, SETTINGS, storage, "k")
    assert reused == len(first)
    assert again.equals(first)
    # In whatever order they are asked for.
    other, reused = make_references(prompts.reverse(), refuse, SETTINGS, storage, "k")
    assert reused == len(first)
    assert other.sort("key", "sample").equals(first.sort("key", "sample"))


def test_a_killed_call_goes_on_behind_its_last_part(
    policy: Policy, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "_PART", 4)
    prompts = asked(policy)
    made: list[int] = []

    def counted(*arguments: Any, **rest: Any) -> Any:
        if len(made) == 1 and not (tmp_path / "second").exists():
            raise KeyboardInterrupt
        made.append(len(arguments[1]))
        return generate(*arguments, **rest)

    monkeypatch.setattr(references, "generate", counted)
    with pytest.raises(KeyboardInterrupt):
        make_references(prompts, lambda: policy, SETTINGS, storage, "k")
    assert len(storage.list("references/k")) == 1
    (tmp_path / "second").touch()
    table, reused = make_references(prompts, lambda: policy, SETTINGS, storage, "k")
    assert (len(table), reused) == (10, 4)
    assert made == [4, 4, 2]
    # The same as without the kill.
    undisturbed, _ = make_references(prompts, lambda: policy, SETTINGS, Storage.open(str(tmp_path / "other")), "k")
    assert table.equals(undisturbed)


def test_log_probabilities_are_the_policys_own(policy: Policy, storage: Storage) -> None:
    table, _ = make_references(asked(policy, samples=2), lambda: policy, SETTINGS, storage, "k")
    for prompt, answer, text, finished, tokens, logprob in table.select(
        "prompt_ids", "response_ids", "response", "finished", "tokens", "logprob"
    ).rows():
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *answer]])).logits[0].double() / 0.8
        each = logits.log_softmax(-1)[range(len(prompt) - 1, len(prompt) + len(answer) - 1), answer]
        assert logprob == pytest.approx(float(each.sum()), abs=1e-4)
        assert tokens == len(answer) <= 6
        assert finished == (answer[-1] == policy.tokenizer.eos_token_id)
        assert finished or tokens == 6
        assert text == policy.text(prompt, answer)


def test_samples_of_a_prompt_differ(policy: Policy, storage: Storage) -> None:
    table, _ = make_references(asked(policy, samples=4), lambda: policy, SETTINGS, storage, "k")
    assert table.group_by("key").agg(pl.col("response_ids").n_unique())["response_ids"].min() == 4


def start(folder: Path, base: Sequence[str] | str, *, plain_text: bool = True) -> Path:
    PolicyInfo(str(base), "base", plain_text=plain_text).write(folder)
    return folder


def test_what_decides_an_answer_is_in_its_name(tiny_base: str, tmp_path: Path) -> None:
    def key(folder: Path, settings: AlignSettings = SETTINGS, *, rounded: bool = False) -> str:
        return references_key(folder, tmp_path / "cache", settings, rounded=rounded)

    known = key(start(tmp_path / "start", tiny_base))
    # Neither where the weights lie, nor what has nothing to do with answers.
    moved = Path(shutil.copytree(tiny_base, tmp_path / "moved"))
    assert key(start(tmp_path / "elsewhere", str(moved))) == known
    assert key(tmp_path / "start", SETTINGS.model_copy(update={"learning_rate": 0.5, "episodes": 7})) == known
    warmer = SETTINGS.model_copy(update={"generation": SETTINGS.generation.model_copy(update={"temperature": 1.0})})
    longer = SETTINGS.model_copy(update={"generation": SETTINGS.generation.model_copy(update={"max_new_tokens": 7})})
    others = {
        key(tmp_path / "start", warmer),
        key(tmp_path / "start", longer),
        key(tmp_path / "start", SETTINGS.model_copy(update={"seed": 1})),
        key(tmp_path / "start", rounded=True),
        key(start(tmp_path / "chat", tiny_base, plain_text=False)),
    }
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    others.add(key(tmp_path / "elsewhere"))
    assert len(others - {known}) == 6


def test_another_temperature_has_answers_of_its_own(policy: Policy, storage: Storage, tmp_path: Path) -> None:
    prompts = asked(policy)
    cold = SETTINGS.model_copy(update={"generation": SETTINGS.generation.model_copy(update={"temperature": 1e-3})})
    warm, _ = make_references(prompts, lambda: policy, SETTINGS, storage, "warm")
    other, reused = make_references(prompts, lambda: policy, cold, storage, "cold")
    assert reused == 0
    assert not other["response_ids"].equals(warm["response_ids"])
    kept, reused = make_references(prompts, refuse, SETTINGS, storage, "warm")
    assert reused == 10
    assert kept.equals(warm)
