"""Fine-tuning by TRL: what is learnt, what is not, and the same weights whether it was killed or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rewardloop.config import SftSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import Policy, load_causal_model
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.training.sft import Demonstration, SftResult, _encode, _keeps_apart, fit_sft
from tests.bases import PACKED, PADDED

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def demonstrations(count: int) -> list[Demonstration]:
    return [
        Demonstration([{"role": "user", "content": f"Count {i}:"}], " " + "abc" * (1 + i % 5)) for i in range(count)
    ]


def fit(base: str, folder: Path, *, count: int = 20, plain_text: bool = True, **fields: Any) -> SftResult:
    examples = demonstrations(count)
    settings = SftSettings.model_validate({"method": "full", "batch_size": 4, "learning_rate": 3e-3} | fields)
    return fit_sft(
        base,
        examples[:-2],
        examples[-2:],
        settings,
        plain_text=plain_text,
        checkpoints=folder / "checkpoints",
        output=folder / "model",
    )


def masked_loss(place: str, examples: list[Demonstration]) -> float:
    """Mean -log p of the bytes of the responses and of the end, each example by itself."""
    model, tokenizer = load_causal_model(place)
    losses = []
    for example in examples:
        prompt = tokenizer(example.prompt[0]["content"])["input_ids"]
        response = [*tokenizer(example.response)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logp = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        losses += [-float(logp[len(prompt) + i - 1, token]) for i, token in enumerate(response)]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("packing", [True, False])
def test_only_responses_and_their_end_are_learnt(tiny_base: str, tmp_path: Path, packing: bool) -> None:
    """The first loss, before anything moved, is the one by hand over the one batch that holds all examples."""
    result = fit(tiny_base, tmp_path, count=8, batch_size=6, packing=packing, epochs=4)
    assert result.loss[0][0] == 1
    assert result.loss[0][1] == pytest.approx(masked_loss(tiny_base, demonstrations(8)[:6]), abs=1e-5)
    assert result.loss[-1][1] < result.loss[0][1] - 0.2
    assert result.validation_loss == pytest.approx(
        masked_loss(str(tmp_path / "model"), demonstrations(8)[-2:]), abs=1e-5
    )
    # Bytes of prompts and responses and an end each, four times.
    once = sum(len(one.prompt[0]["content"]) + len(one.response) + 1 for one in demonstrations(8)[:6])
    assert result.tokens == 4 * once
    assert (result.examples, result.steps, result.too_long) == (6, 4, 0)
    assert result.rows.startswith("one after the other" if packing else "padded")


def test_packed_examples_are_learnt_as_if_alone(tiny_base: str, tmp_path: Path) -> None:
    """Packed and padded training end at the same weights, up to rounding."""
    states = []
    for packing in (True, False):
        fit(tiny_base, tmp_path / str(packing), packing=packing, epochs=2)
        states.append(load_causal_model(str(tmp_path / str(packing) / "model"))[0].state_dict())
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-5) for name in states[0])
    start = load_causal_model(tiny_base)[0].state_dict()
    assert any(not torch.allclose(states[0][name], start[name], atol=1e-4) for name in start)


@pytest.mark.parametrize(("name", "apart"), [("gpt2", True), ("gemma3", True), ("opt", False), ("bloom", False)])
def test_bases_that_read_packed_examples_as_one_text_are_found(tiny_base: str, name: str, apart: bool) -> None:
    kind, fields = {**PACKED, **PADDED}[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **fields, pad_token_id=0, bos_token_id=1, eos_token_id=1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(3)
    policy = Policy(model, AutoTokenizer.from_pretrained(tiny_base), plain_text=True)
    assert _keeps_apart(policy) is apart


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_killed_training_goes_on_to_the_same_weights(tiny_base: str, tmp_path: Path, method: str) -> None:
    examples = demonstrations(20)
    settings = SftSettings(method=method, batch_size=4, learning_rate=3e-3, epochs=3)

    def run(name: str, stop_at: int | None) -> SftResult:
        def each_step(step: int, steps: int, loss: float) -> None:
            assert steps == 15
            if step == stop_at:
                raise KeyboardInterrupt

        return fit_sft(
            tiny_base,
            examples,
            examples[:2],
            settings,
            plain_text=True,
            checkpoints=tmp_path / name / "checkpoints",
            output=tmp_path / name / "model",
            each_step=each_step,
        )

    with pytest.raises(KeyboardInterrupt):
        run("killed", 9)
    # A checkpoint that was not written to its end is passed over.
    (tmp_path / "killed" / "checkpoints" / "checkpoint-12").mkdir()
    resumed, undisturbed = run("killed", None), run("whole", None)
    assert resumed.resumed_from_step == 8
    assert undisturbed.resumed_from_step is None
    assert resumed._replace(seconds=0, resumed_from_step=None) == undisturbed._replace(seconds=0)
    assert weights_digest(tmp_path / "killed" / "model") == weights_digest(tmp_path / "whole" / "model")
    # Merged: a plain model, without adapters.
    names = {path.name for path in (tmp_path / "whole" / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.startswith("adapter")]


def test_chat_responses_end_as_the_policy_must_end_them(tiny_base: str) -> None:
    """Through the template: the prompt as it is asked, the response, its end; not what the template writes behind."""
    model, tokenizer = load_causal_model(tiny_base)
    tokenizer.chat_template = TEMPLATE
    policy = Policy(model, tokenizer, plain_text=False)
    example = Demonstration([{"role": "user", "content": "Hi"}], "Hello")
    encoded = _encode(policy, example)
    assert encoded.ids[: encoded.prompt] == policy.prompt_ids(example.prompt)
    assert tokenizer.decode(encoded.ids) == "<user>Hi<eos>\n<assistant>Hello<eos>"
    plain = _encode(Policy(model, tokenizer, plain_text=True), example)
    assert tokenizer.decode(plain.ids) == "HiHello<eos>"
    assert plain.prompt == 2
    alone = _encode(Policy(model, tokenizer, plain_text=True), Demonstration([], "Hello"))
    assert tokenizer.decode(alone.ids) == "Hello<eos>"
    assert alone.prompt == 0


def test_demonstrations_that_are_too_long_are_left_out(tiny_base: str, tmp_path: Path) -> None:
    """Count 0: and a space, 9 bytes, 3 to 15 letters, an end: 13, 16, 19, ... and one more byte from 10 on."""
    result = fit(tiny_base, tmp_path, max_length=16)
    short = [one for one in demonstrations(20) if len(one.prompt[0]["content"]) + len(one.response) + 1 <= 16]
    assert result.examples == len(short) == 6
    assert result.too_long == 14
    assert result.validation_loss is None
    with pytest.raises(BadInputError, match=r"sft\.max_length: 4, but the shortest demonstration has 13 tokens"):
        fit(tiny_base, tmp_path / "none", max_length=4)
