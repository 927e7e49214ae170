"""PPO of a 1.3B policy on one CUDA device: tokens per second of generation and of an update.

    python -m benchmarks.gpu_ppo [--layers N] [--updates N]

A Llama of 1.3 billion random weights with LoRA, frozen weights in bfloat16, 64 answers of 128 tokens to 16 prompts of
64 tokens per update; the reward is the share of even characters, so that nothing but the policy is measured. The last
line is one JSON object; without a CUDA device it says that the benchmark was skipped.
"""

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks import workloads
from rewardloop.config import AlignSettings
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.policy import Policy, place_tokenizer, prepare_policy_reading, round_linear_layers
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collapse import TextFacts
from rewardloop.training.policies import trainable
from rewardloop.training.ppo import PpoTrainer
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import Answers, Prompt

_PROMPT, _ANSWER = 64, 128


class _EvenCharacters:
    """Scores that cost nothing, and are not the same for all."""

    def __init__(self) -> None:
        identity = {"raw": [0.0, 1.0], "public": [0.0, 1.0]}
        self.scoring: dict[str, Any] = {"raw_mean": 0.0, "raw_spread": 1.0, "scale": identity}

    def raw_scores(self, prompts: Any, responses: list[str]) -> Any:
        """Share of even characters, shape (responses,)."""
        del prompts
        return np.array([np.mean([ord(one) % 2 == 0 for one in text] or [0.0]) for text in responses])


def build(layers: int, settings: AlignSettings) -> Policy:
    """A Llama with 2048 dimensions: 24 layers make 1.3 billion weights."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = place_tokenizer(prepare_base("random:tiny", Path(folder)))
    with torch.device("cuda"):
        model = workloads.random_llama(
            layers,
            causal=True,
            vocab_size=32_000,
            hidden_size=2048,
            intermediate_size=5504,
            num_attention_heads=16,
            num_key_value_heads=16,
        ).eval()
    reading = prepare_policy_reading(model)
    round_linear_layers(model)
    return trainable(Policy(model, tokenizer, plain_text=True, rounded=True, reading=reading), settings)


def measure(layers: int, updates: int) -> dict[str, Any]:
    """``updates`` updates after one that does not count."""
    settings = AlignSettings(
        prompts="-",
        plain_text=True,
        scored="text",
        episodes=64 * (updates + 1),
        generation={"max_new_tokens": _ANSWER, "temperature": 1.0},
        kl={"budget": 1e6, "adaptive": False},
        stop={"min_length_share": 0.0, "min_diversity_share": 0.0, "max_unfinished_rise": 1.0, "patience": 1000},
        tokens_per_batch=16_384,
        evaluations=1,
        checkpoints=1,
    )
    policy = build(layers, settings)
    random = np.random.default_rng(0)
    prompts = [Prompt([], random.integers(2, 258, _PROMPT).tolist()) for _ in range(16)]
    facts = TextFacts(16, _ANSWER, 1.0, 1.0, 0.0)
    validation = Answers(prompts[:1], 1, [[3] * 8], ["x"], [True], np.zeros(1), 0.0)
    trainer = PpoTrainer(
        policy,
        settings,
        train=prompts,
        validation=validation,
        rewards=Rewards(_EvenCharacters(), scored="text"),
        reference_facts=lambda places: facts,
    )
    moments: list[tuple[float, float, int]] = []

    def note(point: Any) -> None:
        torch.cuda.synchronize()
        moments.append((time.perf_counter(), trainer.progress.generation_seconds, trainer.progress.tokens))

    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        trainer.run(CheckpointFolder(Path(folder)), each_update=note)
    (start, generated_before, tokens_before), (end, generated_after, tokens_after) = moments[0], moments[-1]
    tokens, generating = tokens_after - tokens_before, generated_after - generated_before
    return {
        "reading": policy.reading.kind,
        "flex": policy.reading.flex,
        "generation_tokens_per_second": round(tokens / generating),
        "update_tokens_per_second": round(tokens / (end - start - generating)),
        "seconds_per_update": (end - start) / updates,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
    }


def main(
    layers: Annotated[int, typer.Option(help="Layers of the policy; 24 make 1.3 billion weights.")] = 24,
    updates: Annotated[int, typer.Option(min=1, help="Updates that count.")] = 4,
) -> None:
    """Measure and print one JSON object as the last line."""
    if not torch.cuda.is_available():
        print(json.dumps({"skipped": "no CUDA device on this machine: nothing was measured"}))
        return
    about = {"device": torch.cuda.get_device_name(), "date": datetime.now(UTC).date().isoformat()}
    print(json.dumps(about | measure(layers, updates)))


if __name__ == "__main__":
    typer.run(main)
