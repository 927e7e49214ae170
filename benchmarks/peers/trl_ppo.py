"""TRL's PPOTrainer (experimental; TRL 1.12 is the last with it) on prompts that the policy continues as plain text.

In (one JSON argument): ``Arguments``. Out: ``output``, a JSON file with the answers to the held-out prompts before and
after training; one JSON line with seconds, memory, KL and length.

The reward is rewardloop's: the text (prompt and response, without special tokens) is encoded anew with the reward
model's tokenizer, an end-of-text token is appended, and the score read at that token is standardized with ``raw_mean``
and ``raw_spread`` of ``scoring.json``. TRL passes token ids and reads a score at the last token of its own; it is given
the same score at every position. So the reward differs from rewardloop's by float32 rounding alone.

The value model is TRL's usual one: a second copy of the reward model, trained whole, at the policy's learning rate.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from measuring import peak_rss_bytes, report
from peft import LoraConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    Trainer,
)

_HELD_OUT_SEED = 0
_ROWS = 16
"""Sequences of which logits are held at once while the KL is measured."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What both TRL trainers of a policy are told."""

    policy: str
    reward_model: str  # model/ and scoring.json
    prompts: str  # JSON file with the lists train and held_out
    output: str
    seed: int
    episodes: int
    learning_rate: float
    prompts_per_update: int = 16
    samples_per_prompt: int = 4
    max_new_tokens: int = 24
    temperature: float = 0.7
    epochs: int = 2
    minibatches: int = 4
    lora_rank: int = 16
    lora_alpha: int = 32
    kl_coef: float = 0.05
    missing_eos_penalty: float = 0.5

    @property
    def batch(self) -> int:
        """Episodes of one update."""
        return self.prompts_per_update * self.samples_per_prompt

    @property
    def updates(self) -> int:
        """Updates in all.

        Raises:
            ValueError: they do not come to ``episodes``.
        """
        if self.episodes % self.batch:
            raise ValueError(f"episodes = {self.episodes}; expected a multiple of {self.batch}, those of an update")
        return self.episodes // self.batch

    @property
    def lora(self) -> LoraConfig:
        """Adapters on every linear layer but the language-model head."""
        return LoraConfig(
            r=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )

    def plain_settings(self, output_folder: str) -> dict[str, Any]:
        """The TrainingArguments of both trainers: float32, one process, nothing but training."""
        return {
            "output_dir": output_folder,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "eval_strategy": "no",
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": [],
            "disable_tqdm": True,
        }


class TextReward(nn.Module):
    """Standardized scores of texts, read as rewardloop reads them."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(f"{folder}/model")
        self.model = AutoModelForSequenceClassification.from_pretrained(f"{folder}/model", dtype=torch.float32).eval()
        scoring = json.loads(Path(folder, "scoring.json").read_text(encoding="utf-8"))
        self.mean, self.spread = scoring["raw_mean"], scoring["raw_spread"]

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """Rewards, float32 of shape (len(texts),)."""
        end = self.tokenizer.eos_token_id
        rows = [ids if ids[-1:] == [end] else [*ids, end] for ids in self.tokenizer(list(texts))["input_ids"]]
        lengths = torch.tensor([len(row) for row in rows])
        # On the right any token may fill up: what is read comes before it.
        ids_RT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        mask_RT = (torch.arange(ids_RT.shape[1]) < lengths[:, None]).long()
        hidden = self.model.base_model(input_ids=ids_RT, attention_mask=mask_RT, use_cache=False).last_hidden_state
        raw = self.model.score(hidden[torch.arange(len(rows)), lengths - 1])[:, 0].float()
        return (raw - self.mean) / self.spread


class RewardOfIds(nn.Module):
    """What TRL asks of a reward model: a backbone, named by ``base_model_prefix``, and a ``score`` head."""

    base_model_prefix = "read"

    def __init__(self, reward: TextReward, tokenizer: Any) -> None:
        super().__init__()
        self.reward, self.tokenizer, self.score = reward, tokenizer, nn.Identity()

    def read(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        """The reward of each row as the hidden state of all its positions."""
        rows = [ids[mask].tolist() for ids, mask in zip(input_ids, attention_mask.bool(), strict=True)]
        rewards_R = self.reward(decode(self.tokenizer, rows))
        return SimpleNamespace(hidden_states=(rewards_R[:, None, None].expand(*input_ids.shape, 1),))


def decode(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    """Texts without special tokens, spaces as they are."""
    return [tokenizer.decode(list(row), skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in rows]


def load_policy(folder: str) -> tuple[Any, Any]:
    """The policy in float32, and its tokenizer with a padding token that is not the end of a text."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        # TRL takes padding off by its id, and would take the end-of-text token off with it.
        tokenizer.pad_token = tokenizer.unk_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    return model, tokenizer


def answer(model: Any, tokenizer: Any, prompts: Sequence[str], arguments: Arguments) -> list[list[int]]:
    """One sampled response to each prompt, from a fixed seed, each with the end-of-text token if it came to one."""
    torch.manual_seed(_HELD_OUT_SEED)
    encoded = tokenizer(list(prompts), padding=True, return_tensors="pt")
    config = GenerationConfig(
        max_new_tokens=arguments.max_new_tokens,
        do_sample=True,
        temperature=arguments.temperature,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.eval()
    with torch.no_grad():
        made = model.generate(**encoded, generation_config=config)[:, encoded["input_ids"].shape[1] :].tolist()
    end = tokenizer.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in made]


def divergence(model: Any, tokenizer: Any, prompts: Sequence[str], answers: list[list[int]], at: float) -> list[float]:
    """KL(policy || reference) of each response: log pi - log ref, summed over its tokens, at temperature ``at``."""
    heads = tokenizer(list(prompts))["input_ids"]
    found = []
    for start in range(0, len(heads), _ROWS):
        part = slice(start, start + _ROWS)
        policy = _log_probabilities(model, heads[part], answers[part], at)
        with model.disable_adapter():
            reference = _log_probabilities(model, heads[part], answers[part], at)
        found += (policy - reference).tolist()
    return found


@torch.no_grad()
def _log_probabilities(model: Any, heads: list[list[int]], tails: list[list[int]], at: float) -> Tensor:
    """Log-probability of each tail after its head, float32 of shape (len(heads),)."""
    rows = [torch.tensor([*head, *tail]) for head, tail in zip(heads, tails, strict=True)]
    ids_RT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask_RT = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits_RTV = model(input_ids=ids_RT, attention_mask=mask_RT).logits[:, :-1]
    log_RT = (logits_RTV / at).log_softmax(-1).gather(-1, ids_RT[:, 1:, None])[..., 0]
    return torch.stack(
        [log[len(head) - 1 : len(row) - 1].sum() for log, head, row in zip(log_RT, heads, rows, strict=True)]
    )


def prompts_in_order(prompts: Sequence[str], arguments: Arguments) -> list[str]:
    """The prompts of all updates, one after the other, in a seeded order; no prompt comes again before all came."""
    order: list[str] = []
    shuffler = random.Random(arguments.seed)
    while len(order) < arguments.updates * arguments.prompts_per_update:
        order += shuffler.sample(list(prompts), len(prompts))
    return order[: arguments.updates * arguments.prompts_per_update]


def make_ppo(arguments: Arguments, model: Any, tokenizer: Any, prompts: list[str], folder: str) -> Trainer:
    """A PPOTrainer whose updates each ask ``prompts_per_update`` prompts ``samples_per_prompt`` times."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    rows = [row for row in tokenizer(prompts)["input_ids"] for _ in range(arguments.samples_per_prompt)]
    trainer = PPOTrainer(
        args=PPOConfig(
            **arguments.plain_settings(folder),
            total_episodes=arguments.episodes,
            # Without accumulation every minibatch is an optimizer step. With it, TRL steps once per accumulated group.
            per_device_train_batch_size=arguments.batch,
            gradient_accumulation_steps=1,
            num_mini_batches=arguments.minibatches,
            num_ppo_epochs=arguments.epochs,
            response_length=arguments.max_new_tokens,
            temperature=arguments.temperature,
            stop_token="eos",  # noqa: S106
            missing_eos_penalty=arguments.missing_eos_penalty,
            kl_coef=arguments.kl_coef,
            num_sample_generations=0,
        ),
        processing_class=tokenizer,
        model=model,
        ref_model=None,  # the policy without its adapter
        reward_model=RewardOfIds(TextReward(arguments.reward_model), tokenizer),
        value_model=AutoModelForSequenceClassification.from_pretrained(
            f"{arguments.reward_model}/model", dtype=torch.float32
        ),
        train_dataset=Dataset.from_dict({"input_ids": rows}),
        peft_config=arguments.lora,
    )
    # TRL's own loader shuffles single rows, so an update would not hold the samples of its prompts.
    trainer.dataloader = DataLoader(
        trainer.train_dataset, batch_size=arguments.batch, collate_fn=trainer.data_collator, drop_last=True
    )
    return trainer


def measure(peer: str, make: Callable[[Arguments, Any, Any, list[str], str], Trainer]) -> None:
    """Answer the held-out prompts, train, answer again, write ``output`` and report."""
    arguments = Arguments(**json.loads(sys.argv[1]))
    prompts = json.loads(Path(arguments.prompts).read_text(encoding="utf-8"))
    held_out = prompts["held_out"]
    model, tokenizer = load_policy(arguments.policy)
    before = answer(model, tokenizer, held_out, arguments)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(arguments, model, tokenizer, prompts_in_order(prompts["train"], arguments), folder)
        started, cpu_started = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = peak_rss_bytes()
    trained = sum(value.numel() for value in trainer.model.parameters() if value.requires_grad)
    policy = getattr(trainer.model, "policy", trainer.model)  # PPOTrainer holds policy and value model as one
    after = answer(policy, tokenizer, held_out, arguments)
    kl = divergence(policy, tokenizer, held_out, after, arguments.temperature)
    output = {"prompts": held_out, "kl": kl}
    for name, answers in (("before", before), ("after", after)):
        output[name] = {"ids": answers, "responses": decode(tokenizer, answers)}
    Path(arguments.output).write_text(json.dumps(output), encoding="utf-8")
    import trl

    report(
        peer,
        {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "peak_rss_bytes": peak,
            "episodes": arguments.episodes,
            "updates": arguments.updates,
            "trained_parameters": trained,
            "kl": sum(kl) / len(kl),
            "length_before": sum(map(len, before)) / len(before),
            "length": sum(map(len, after)) / len(after),
            "history": trainer.state.log_history,
            "trl": trl.__version__,
        },
    )


if __name__ == "__main__":
    measure("trl_ppo", make_ppo)
