"""Supervised fine-tuning by TRL: the start policy learns to answer as the demonstrations do.

In: a base and demonstrations. Out: a directory with the whole model (float32 safetensors, LoRA merged in) and its
tokenizer. A sequence is the tokens that the policy is asked with, then those of the response and an end token; only
the latter two are learnt. ``packing`` lays the examples of a batch one after the other instead of padding them, where
the base keeps them apart; the loss is the same.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rewardloop.config import SftSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import Policy, load_causal_model
from rewardloop.modeling.scoring import Messages, Reading
from rewardloop.modeling.token_logprobs import token_logprobs
from rewardloop.training import trl_run

_POINTS = 200
"""Of the loss curve, at most."""
_TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 8192}
"""Of packed examples: attention without a kernel for packed rows costs the square of it."""


class Demonstration(NamedTuple):
    """A prompt and how it should be answered."""

    prompt: Messages
    """Empty for a text without prompt, which only a policy that continues texts can learn."""
    response: str


class SftResult(NamedTuple):
    """What a fine-tuning did."""

    examples: int
    too_long: int
    """Demonstrations longer than ``max_length``, of training and validation together: left out."""
    steps: int
    tokens: int
    """That went through the model while it learnt, without padding."""
    seconds: float
    loss: list[tuple[int, float]]
    """(optimizer step, mean loss per token of the responses since the point before)."""
    validation_loss: float | None
    """Mean over all tokens of the validation responses; None where all are too long."""
    rows: str
    """How examples were put together, in words."""
    resumed_from_step: int | None


class _Example(NamedTuple):
    ids: list[int]
    prompt: int
    """Tokens of the prompt."""


def fit_sft(
    base: str,
    examples: Sequence[Demonstration],
    validation: Sequence[Demonstration],
    settings: SftSettings,
    *,
    plain_text: bool,
    checkpoints: Path,
    output: Path,
    device: torch.device | None = None,
    each_step: Callable[[int, int, float], object] | None = None,
) -> SftResult:
    """Fine-tune ``base`` and write the model to ``output``; a killed call goes on from its last checkpoint.

    Args:
        base: directory or hub id.
        examples: to learn from.
        validation: only measured.
        settings: the section ``sft``.
        plain_text: responses continue the prompt's text; else the chat template is used.
        checkpoints: folder for the trainer's checkpoints, of this training alone.
        output: folder of the model.
        device: the CPU or the first GPU; None: the latter where there is one.
        each_step: told now and then (optimizer step, optimizer steps in all, loss).

    Raises:
        BadInputError: every demonstration is longer than ``sft.max_length``.
    """
    with trl_run.quiet():
        model, tokenizer = load_causal_model(base)
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # TRL reads rows by itself: with the base's own attention, not the one of our packed rows.
        policy = Policy(model, tokenizer, plain_text=plain_text, reading=Reading("padded"))
        return _fit(policy, examples, validation, settings, checkpoints, output, each_step)


def _fit(
    policy: Policy,
    examples: Sequence[Demonstration],
    validation: Sequence[Demonstration],
    settings: SftSettings,
    checkpoints: Path,
    output: Path,
    each_step: Callable[[int, int, float], object] | None,
) -> SftResult:
    limit = min(settings.max_length, policy.context)
    encoded = [_encode(policy, example) for example in examples]
    held_out = [_encode(policy, example) for example in validation]
    train = [example for example in encoded if len(example.ids) <= limit]
    measured = [example for example in held_out if len(example.ids) <= limit]
    if not train:
        shortest = min(len(example.ids) for example in encoded)
        raise BadInputError(
            f"sft.max_length: {limit}, but the shortest demonstration has {shortest} tokens; raise it or give shorter "
            "demonstrations (sft.demonstrations)"
        )
    packed = settings.packing and _keeps_apart(policy)
    trainer = _trainer(policy, train, settings, packed=packed, checkpoints=checkpoints)
    steps = _steps(len(train), settings)

    def each_log(step: int, history: list[dict[str, Any]]) -> None:
        if each_step is not None and "loss" in history[-1]:
            each_step(step, steps, history[-1]["loss"])

    resumed = trl_run.run_trainer(trainer, checkpoints, each_log)
    policy.model = trainer.model.merge_and_unload() if settings.method == "lora" else trainer.model
    loss = _mean_loss(policy, measured)
    policy.model.save_pretrained(output)
    policy.tokenizer.save_pretrained(output)
    history = trainer.state.log_history
    return SftResult(
        examples=len(train),
        too_long=len(encoded) + len(held_out) - len(train) - len(measured),
        steps=trainer.state.global_step,
        tokens=int(trainer.state.num_input_tokens_seen),
        seconds=max((entry["seconds"] for entry in history if "seconds" in entry), default=0.0),
        loss=[(entry["step"], float(entry["loss"])) for entry in history if "loss" in entry],
        validation_loss=loss,
        rows="one after the other, without padding" if packed else _why_padded(settings),
        resumed_from_step=resumed,
    )


def _encode(policy: Policy, example: Demonstration) -> _Example:
    """A demonstration as tokens: what the policy is asked with, the response, an end token."""
    prompt = policy.prompt_ids(example.prompt) if example.prompt else []
    return _Example([*prompt, *_response_ids(policy, example)], len(prompt))


def _response_ids(policy: Policy, example: Demonstration) -> list[int]:
    """The response as the policy should have generated it: up to and with its end token."""
    tokenizer = policy.tokenizer
    text = example.response
    if not policy.plain_text:
        prompt = [dict(message) for message in example.prompt]
        asked = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        answered = tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": example.response}], tokenize=False
        )
        # A template may write the prompt otherwise once there is an answer; the policy is asked without one.
        text = answered.removeprefix(asked) if answered.startswith(asked) else example.response
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ends = [place for place, token in enumerate(ids) if token in policy.ends]
    # What a template writes after the end of a turn is never generated.
    return ids[: ends[-1] + 1] if ends else [*ids, _end(policy)]


def _end(policy: Policy) -> int:
    found = policy.tokenizer.eos_token_id
    return int(found) if found is not None else min(policy.ends)


def _keeps_apart(policy: Policy) -> bool:
    """Whether the base reads examples that lie one after the other as if each were alone; tried on the model itself.

    Most bases tell examples apart by positions that begin anew; OPT, Falcon and BLOOM do not, and say nothing.
    """
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    highest = min(200, policy.causal_model.config.vocab_size)
    texts = [[(7 * place + 3) % highest for place in range(start, start + 6)] for start in (1, 40)]
    batch = DataCollatorForLanguageModeling(pad_token_id=policy.pad_id, padding_free=True)(
        [{"input_ids": text} for text in texts]
    )
    batch.pop("labels")
    moved = {name: value.to(policy.device) if hasattr(value, "to") else value for name, value in batch.items()}
    model = policy.causal_model.eval()
    with torch.inference_mode():
        try:
            together = model(**moved, use_cache=False).logits[0, len(texts[0]) :]
        except (TypeError, ValueError, RuntimeError):
            return False
        alone = model(input_ids=torch.tensor([texts[1]], device=policy.device), use_cache=False).logits[0]
    return bool(torch.allclose(together, alone, atol=1e-3 * float(alone.abs().max())))


def _why_padded(settings: SftSettings) -> str:
    return "padded: the base reads packed examples as one text" if settings.packing else "padded (sft.packing: false)"


def _trainer(
    policy: Policy, train: Sequence[_Example], settings: SftSettings, *, packed: bool, checkpoints: Path
) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    size = min(settings.batch_size, len(train))
    tokens = _TOKENS_AT_ONCE[policy.device.type]
    lengths = [len(example.ids) for example in train]
    typical = sum(lengths) / len(lengths) if packed else max(lengths)
    steps = _steps(len(train), settings)
    shared = trl_run.shared_arguments(
        checkpoints,
        device=policy.device,
        precision="auto",
        rows=size,
        rows_at_once=trl_run.rows_at_once(size, typical, tokens),
        save_steps=math.ceil(steps / trl_run.SAVES),
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )
    arguments = SFTConfig(
        **shared,
        num_train_epochs=settings.epochs,
        lr_scheduler_type="linear",
        logging_steps=math.ceil(steps / _POINTS),
        include_num_input_tokens_seen="all" if packed else "non_padding",
        max_length=None,  # nothing is cut: what is too long was left out
        packing=False,  # TRL's fills rows over batches, so that settings.batch_size would mean rows and not examples
        padding_free=packed,
        completion_only_loss=False,  # the labels say it
    )
    rows = [
        {"input_ids": example.ids, "labels": [-100] * example.prompt + example.ids[example.prompt :]}
        for example in train
    ]
    return SFTTrainer(
        model=policy.model,
        args=trl_run.on_one_device(arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
        peft_config=_adapters(settings) if settings.method == "lora" else None,
    )


def _adapters(settings: SftSettings) -> Any:
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
    )


def _steps(examples: int, settings: SftSettings) -> int:
    """Optimizer steps of the whole training; an epoch's last batch may be smaller."""
    return math.ceil(settings.epochs * math.ceil(examples / settings.batch_size))


def _mean_loss(policy: Policy, examples: Sequence[_Example]) -> float | None:
    """Mean negative log-likelihood per token of the responses, over all of them."""
    causal, total, count = policy.causal_model.eval(), 0.0, 0
    with torch.inference_mode():
        for example in examples:
            start = max(1, example.prompt)  # nothing predicts the first token of a text without prompt
            ids = torch.tensor([example.ids], device=policy.device)
            hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, start - 1 : -1]
            logprobs, _ = token_logprobs(causal, hidden, ids[0, start:], 1.0)
            total -= float(logprobs.sum())
            count += len(logprobs)
    return total / count if count else None
