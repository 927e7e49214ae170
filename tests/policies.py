"""Tiny policies, a reward model that is a rule, and trainers of them, for tests.

``letters_base`` knows nine letters and an end: small enough that a policy learns a task in seconds, and that what it
should learn can be counted.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from rewardloop.config import AlignSettings
from rewardloop.evidence import UpdatePoint
from rewardloop.modeling.policy import Policy, PolicyInfo, load_start
from rewardloop.modeling.scoring import Block, Floats, Messages
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collapse import TextFacts, facts_of
from rewardloop.training.policies import rounds_policy, trainable
from rewardloop.training.ppo import PpoTrainer
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import Answers, Prompt, answer
from rewardloop.training.values import Values
from tests.bases import PACKED

ARMS = "ab"
LETTERS = "abcdefghi"
EOS = 1
FIRST = 2
"""Number of the letter a."""


def letters_tokenizer() -> PreTrainedTokenizerFast:
    """One token per letter: 0 is padding, 1 the end, 2 is a."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def letters_base(folder: Path, layers: int = 2) -> Path:
    """A random Llama of 32 dimensions over the nine letters."""
    config = AutoConfig.for_model(
        "llama", vocab_size=FIRST + len(LETTERS), hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=None,
        eos_token_id=EOS,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)  # else what lies below a frozen head could not make any token likely
    model.save_pretrained(folder)
    letters_tokenizer().save_pretrained(folder)
    return folder


def start_folder(folder: Path, base: str | Path, **fields: Any) -> Path:
    """A start as ``train_sft`` leaves it where nothing is tuned."""
    PolicyInfo(**{"base": str(base), "start": "base", "plain_text": True} | fields).write(folder)
    return folder


def causal_of(name: str, seed: int = 0, **fields: Any) -> Any:
    """A causal language model of a family in ``tests.bases``, with random float32 weights that matter."""
    from rewardloop.modeling.reward_model import drop_nothing
    from tests.bases import MASKED, PADDED

    kind, known = (PACKED | MASKED | PADDED)[name]
    config = AutoConfig.for_model(kind, **known | fields, pad_token_id=0, bos_token_id=1, eos_token_id=1)
    drop_nothing(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(3)  # the usual start is so small that all tokens are alike
    return model.eval()


def policy_of(model: Any) -> Policy:
    """A policy of a bare model; its tokenizer knows the letters, whatever the model's vocabulary."""
    return Policy(model, letters_tokenizer(), plain_text=True)


def blocks_of(seed: int, vocabulary: int) -> list[Block]:
    """Prompts of different lengths, one beyond a window of 10, with one to three answers."""
    random = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        found: list[int] = random.integers(2, vocabulary, count).tolist()
        return found

    return [
        Block(tokens(20), (tokens(5), tokens(1), tokens(12))),
        Block(tokens(3), (tokens(4),)),
        Block(tokens(1), (tokens(9), tokens(2))),
    ]


def one_by_one(model: Any, blocks: Sequence[Block], temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """(log-probabilities, hidden states) of the answers, each answer in an ordinary call of its own."""
    logprobs, states = [], []
    for block in blocks:
        for response in block.responses:
            ids = torch.tensor([[*block.prompt, *response]])
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, use_cache=False)
            places = slice(len(block.prompt) - 1, ids.shape[1] - 1)
            whole = (out.logits[0, places].float() / temperature).log_softmax(-1)
            logprobs.append(whole[torch.arange(len(response)), torch.tensor(response)])
            states.append(out.hidden_states[-1][0, places])
    return torch.cat(logprobs), torch.cat(states)


# A reward model that is a rule ----------------------------------------------------------------------------------------
class RuleScorer:
    """Scores by a rule on (prompt text, response)."""

    def __init__(self, rule: Callable[[str, str], float]) -> None:
        self.rule = rule
        self.scoring: dict[str, Any] = {
            "raw_mean": 0, "raw_spread": 1, "scale": {"raw": [0, 1], "public": [0, 1]}
        }  # fmt: skip
        self.calls = 0

    def raw_scores(self, prompts: Sequence[Messages], responses: Sequence[str]) -> Floats:
        self.calls += 1
        texts = ["".join(message["content"] for message in prompt) for prompt in prompts]
        return np.array([self.rule(text, response) for text, response in zip(texts, responses, strict=True)])


def prompt_of(policy: Policy, text: str) -> Prompt:
    messages = [{"role": "user", "content": text}]
    return Prompt(messages, policy.prompt_ids(messages))


def settings_of(**fields: Any) -> AlignSettings:
    """Settings under which a tiny policy learns in seconds; nothing stops it unless a test says so."""
    small: dict[str, Any] = {
        "prompts": "p.jsonl",
        "method": "full",
        "learning_rate": 3e-3,
        "schedule": "constant",
        "prompts_per_update": 8,
        "samples_per_prompt": 4,
        "episodes": 96,
        "missing_eos_penalty": 0.0,
        "precision": "float32",
        "device": "cpu",
        "evaluations": 1,
        "checkpoints": 1,
        "lora_rank": 4,
        "lora_alpha": 8,
    }
    nested: dict[str, dict[str, Any]] = {
        "generation": {"max_new_tokens": 1, "temperature": 1.0, "rows": 256},
        "kl": {"beta": 0.0, "adaptive": False, "budget": 1000.0},
        "ppo": {"minibatches": 2, "update_kl_limit": None},
        "stop": {"min_length_share": 0, "max_unfinished_rise": 1, "min_diversity_share": 0, "patience": 1000},
    }
    for name, values in nested.items():
        small[name] = values | fields.pop(name, {})
    return AlignSettings.model_validate(small | fields)


def trainer_of(
    folder: Path,
    base: Path,
    settings: AlignSettings,
    rule: Callable[[str, str], float],
    *,
    train: Sequence[str] = ("a", "bc", "def", "ab", "c", "ghi", "db", "e"),
    validation: Sequence[str] = tuple(a + b for a in "abcdef" for b in "efghi"),
    scorer: Any = None,
    values: Callable[[Any, Policy], Values] | None = None,
) -> PpoTrainer:
    """A trainer as ``align`` makes it: a start, references generated by it, rewards of ``rule``."""
    start = start_folder(folder / "start", base)
    reference = load_start(start, folder / "cache")
    rounded = rounds_policy(settings, torch.device("cpu"))
    policy = trainable(load_start(start, folder / "cache", rounded=rounded), settings)
    scorer = scorer or RuleScorer(rule)
    rewards = Rewards(scorer, scored="response", missing_eos_penalty=settings.missing_eos_penalty)
    prompts = [prompt_of(reference, text) for text in train]
    held_out = [prompt_of(reference, text) for text in validation]
    before = answer(reference, held_out, rewards, settings, samples=1, seed=5, strict=False)
    facts = answer(reference, prompts, rewards, settings, samples=1, seed=6, strict=False)
    return PpoTrainer(
        policy,
        settings,
        train=prompts,
        validation=before,
        rewards=rewards,
        reference_facts=lambda places: facts_at(facts, places),
        reference=reference if settings.method == "full" else None,
        values=values(scorer, policy) if values else None,
    )


def facts_at(answers: Answers, places: Sequence[int]) -> TextFacts:
    """Facts of the answers at ``places``."""
    return facts_of(
        [answers.ids[i] for i in places],
        [answers.finished[i] for i in places],
        [not answers.texts[i].strip() for i in places],
    )


def weights_of(trainer: PpoTrainer) -> dict[str, Tensor]:
    """A copy of what trains."""
    return {name: value.detach().clone() for name, value in trainer.trained.items()}


def is_arm(prompt: str, response: str) -> float:
    """A rule of a two-armed bandit among letters."""
    return float(response in ARMS and response != "")


def vowels(prompt: str, response: str) -> float:
    """Share of a, e and i; of a whole answer."""
    return sum(letter in "aei" for letter in response) / max(1, len(response))


def run(trainer: PpoTrainer, folder: Path, each: Callable[[UpdatePoint], object] = lambda point: None) -> PpoTrainer:
    """Train to the end, with checkpoints below ``folder``."""
    trainer.run(CheckpointFolder(folder / "checkpoints"), each_update=each)
    return trainer
