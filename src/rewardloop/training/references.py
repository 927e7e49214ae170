"""The start policy's answers, made once and kept by content: no run and no step makes the same answer twice.

In: prompts, a start policy, the store. Out: the ``REFERENCES`` table. Answers are kept in the store in parts of some
prompts, ``references/<start and sampling>/<prompts>.parquet``; a killed run goes on behind its last part, and another
run with the same start and prompts finds all of them.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rewardloop.config import AlignSettings
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import Policy, start_place
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import Block
from rewardloop.storage import Storage
from rewardloop.tables import MESSAGES, schema
from rewardloop.training.rollouts import Readers

REFERENCES = schema(
    {
        "prompt": MESSAGES,
        "key": pl.String,  # the prompt's digest as splits see it
        "split": pl.String,  # train | validation | test | toxicity
        "sample": pl.Int32,  # 0 .. samples - 1 of the prompt
        "prompt_ids": pl.List(pl.Int32),
        "response_ids": pl.List(pl.Int32),
        "response": pl.String,
        "finished": pl.Boolean,  # came to an end of its own
        "logprob": pl.Float64,  # sum over the answer's tokens, at the sampling temperature
        "tokens": pl.Int32,
    }
)
_PART = 64
"""Prompts per part."""


def references_key(start_policy: Path, cache: Path, settings: AlignSettings, *, rounded: bool) -> str:
    """Digest of what decides an answer besides its prompt: weights, encoding, sampling."""
    place = start_place(start_policy, cache)
    weights = weights_digest(Path(place)) if Path(place).is_dir() else place
    about = {
        "weights": weights,
        "plain_text": json.loads((start_policy / "policy.json").read_text(encoding="utf-8"))["plain_text"],
        "generation": settings.generation.model_dump(mode="json"),
        "rounded": rounded,
        "seed": settings.seed,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def make_references(
    prompts: pl.DataFrame,
    load: Callable[[], Policy],
    settings: AlignSettings,
    storage: Storage,
    key: str,
    *,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[pl.DataFrame, int]:
    """Answers to ``prompts``, and how many of them were there already.

    Args:
        prompts: columns prompt, key, split, prompt_ids and samples (how many answers).
        load: loads the start policy; not called where nothing is missing.
        settings: the section ``align``.
        storage: the store.
        key: of ``references_key``.
        progress: told how many answers are there.
    """
    frames: list[pl.DataFrame] = []
    reused = 0
    readers: Readers | None = None
    for part in _parts(prompts):
        name = f"references/{key}/{_digest(part)}.parquet"
        if storage.exists(name):
            frames.append(pl.read_parquet(io.BytesIO(storage.read(name))))
            reused += len(frames[-1])
        else:
            readers = readers or Readers(load(), settings)
            frames.append(_answer(readers, part, settings, seed=int(_digest(part)[:12], 16)))
            buffer = io.BytesIO()
            frames[-1].write_parquet(buffer)
            storage.create(name, buffer.getvalue())
        progress(len(frames[-1]))
    return pl.concat(frames), reused


def _parts(prompts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for _, group in prompts.group_by("split", "samples", maintain_order=True):
        yield from group.sort("key").iter_slices(_PART)


def _digest(part: pl.DataFrame) -> str:
    asked: Sequence[Any] = part.select("key", "split", "samples", "prompt_ids").rows()
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _answer(readers: Readers, part: pl.DataFrame, settings: AlignSettings, *, seed: int) -> pl.DataFrame:
    policy = readers.policy
    samples = int(part["samples"][0])
    asked = part["prompt_ids"].to_list()
    answers = generate(policy, asked, settings.generation, samples=samples, seed=(settings.seed, seed))
    rows = []
    with torch.no_grad():
        for line, ids, found in zip(part.iter_rows(named=True), asked, answers, strict=True):
            (row,) = readers.rows([Block(ids, tuple(found))])
            sums = torch.split(readers.read(row).logp_W.double(), row.lengths)
            for sample, (response, logprob) in enumerate(zip(found, sums, strict=True)):
                rows.append(
                    {
                        "prompt": line["prompt"],
                        "key": line["key"],
                        "split": line["split"],
                        "sample": sample,
                        "prompt_ids": ids,
                        "response_ids": response,
                        "response": policy.text(ids, response),
                        "finished": policy.finished(response),
                        "logprob": float(logprob.sum()),
                        "tokens": len(response),
                    }
                )
    return pl.DataFrame(rows, schema=REFERENCES)
