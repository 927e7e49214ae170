"""What the benchmarks train on: seeded groups of token ids, groups of real requests, and a base model of real shape.

In: a count and a seed (or a CSV of the Stanford politeness corpus and a tokenizer). Out: groups; every response ends
with the end-of-text token and every pair of a group's responses is judged, so K responses make K(K-1)/2 pairs.
"""

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from rewardloop.modeling.base import prepare_base

PAD, EOS, FIRST_TOKEN, VOCABULARY = 0, 1, 3, 49152
_POLITENESS_GROUP = 13  # what one set of five workers was given to rate
_SMOLLM_135M = {
    "vocab_size": VOCABULARY,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


class Group(TypedDict):
    """One prompt (token ids; may be empty), K responses, and pairs [a, b, probability that a is better than b]."""

    prompt: list[int]
    responses: list[list[int]]
    pairs: list[list[float]]


def ranked(count: int, seed: int) -> list[Group]:
    """Ranked feedback: K=4 responses of 60 tokens to a prompt of 120."""
    rng = np.random.default_rng(seed)
    return [_group(rng, 120, [60] * 4) for _ in range(count)]


def wide(count: int, seed: int) -> list[Group]:
    """Ranked requests without a prompt: K=13, each as long as one or two sentences (about 30 tokens)."""
    rng = np.random.default_rng(seed)
    return [_group(rng, 0, _lengths(rng, 13, mean=30, sigma=0.5, low=8, high=120)) for _ in range(count)]


def pairs(count: int, seed: int) -> list[Group]:
    """Judged pairs of conversations, K=2: prompts of about 125 tokens, responses of about 45, with long tails."""
    rng = np.random.default_rng(seed)
    prompt_lengths = _lengths(rng, count, mean=125, sigma=0.8, low=8, high=900)
    return [_group(rng, length, _lengths(rng, 2, mean=45, sigma=0.9, low=4, high=400)) for length in prompt_lengths]


def politeness(path: Path, tokenizer: Any) -> list[Group]:
    """Groups of 13 requests that the same five workers rated, the politer one (by normalized score) being better.

    A set of workers with fewer than 13 requests left makes no group; equal scores make no pair.
    """
    by_workers: dict[frozenset[str], list[tuple[str, float]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            workers = frozenset(row[f"TurkId{number}"] for number in range(1, 6))
            by_workers.setdefault(workers, []).append((row["Request"], float(row["Normalized Score"])))
    groups = []
    for requests in by_workers.values():
        for start in range(0, len(requests) - _POLITENESS_GROUP + 1, _POLITENESS_GROUP):
            texts, scores = zip(*requests[start : start + _POLITENESS_GROUP], strict=True)
            encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            responses = [[*ids, tokenizer.eos_token_id] for ids in encoded]
            groups.append(Group(prompt=[], responses=responses, pairs=_judge(scores)))
    return groups


def write_groups(path: Path, groups: Iterable[Group]) -> None:
    """Write groups as JSON lines: what the peers read."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(group) + "\n" for group in groups)


def make_base(folder: Path, layers: int = 8) -> Path:
    """Save, once, a reward model shaped like SmolLM2-135M with ``layers`` of its 30 layers and random weights.

    The tokenizer beside it is byte-level (258 tokens): enough to score texts, while groups use the whole vocabulary.

    Raises:
        ValueError: the folder holds a model of another depth.
    """
    if folder.is_dir():
        found = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        if found != layers:
            raise ValueError(f"{folder}: the model there has {found} layers, wanted {layers}; name another folder")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        _write_tokenizer(temporary, folder.parent / "base-models")
        random_llama(layers).save_pretrained(temporary)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def random_llama(layers: int, *, causal: bool = False, **shape: Any) -> Any:
    """A reward model, or a policy, with seeded random float32 weights, like SmolLM2-135M but for ``shape``."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    config = LlamaConfig(
        **(_SMOLLM_135M | shape),
        num_hidden_layers=layers,
        num_labels=1,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (LlamaForCausalLM if causal else LlamaForSequenceClassification)(config)


def _group(rng: np.random.Generator, prompt_length: int, response_lengths: Sequence[int]) -> Group:
    responses = [[*_tokens(rng, length - 1), EOS] for length in response_lengths]
    return Group(
        prompt=_tokens(rng, prompt_length),
        responses=responses,
        pairs=_judge(rng.permutation(len(responses)).tolist()),
    )


def _judge(scores: Sequence[float]) -> list[list[float]]:
    """Every pair of unequal scores, with certainty."""
    return [
        [a, b, float(scores[a] > scores[b])] for a, b in combinations(range(len(scores)), 2) if scores[a] != scores[b]
    ]


def _tokens(rng: np.random.Generator, length: int) -> list[int]:
    return rng.integers(FIRST_TOKEN, VOCABULARY, length).tolist()


def _lengths(rng: np.random.Generator, count: int, *, mean: float, sigma: float, low: int, high: int) -> list[int]:
    # The mean of a lognormal is exp(mu + sigma^2 / 2).
    drawn = rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, count)
    return np.clip(np.rint(drawn), low, high).astype(int).tolist()


def _write_tokenizer(folder: Path, cache: Path) -> None:
    from transformers import AutoTokenizer

    # Only what a Llama reads: its forward pass knows no token types.
    names = ["input_ids", "attention_mask"]
    tokenizer = AutoTokenizer.from_pretrained(prepare_base("random:tiny", cache), model_input_names=names)
    tokenizer.save_pretrained(folder)
