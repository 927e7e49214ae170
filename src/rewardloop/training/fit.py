"""One training of a reward model, from files to files, in one process or in many.

In: a ``FitJob``: preferences, what to start from, which groups. Out: in ``output`` the model (float32 safetensors and
tokenizer), ``scoring.json`` and ``training.json`` (``TrainingEvidence``), written by the first process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tqdm import tqdm

from rewardloop.config import ModelSettings, TrainingSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.evidence import TrainingEvidence
from rewardloop.modeling.reward_model import build_reward_model, encoding_for, save_reward_model, tokenizer_digest
from rewardloop.modeling.scoring import Encoder, Encoding
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import encode_groups
from rewardloop.training.old_answers import OldAnswers
from rewardloop.training.reward import RewardTrainer

_ERROR = "error.json"


@dataclass(frozen=True)
class FitJob:
    """Everything that a process needs to know to take part."""

    preferences: str
    """Output folder of ``build_preferences``."""
    start: str
    """Directory or hub id of the weights to start from: a base, or a reward model."""
    settings: str
    """JSON with the sections ``model`` and ``training``."""
    checkpoints: str
    output: str
    groups: Sequence[int] | None = None
    """Numbers of the training split's groups to train on; None: all."""
    known_batches: Sequence[str] | None = None
    """Set when ``start`` is a reward model: digests of the batches it knows. Its own weights may then turn out to be
    the best, and a sample of held-out answers is scored before and after."""


def fit(job: FitJob) -> TrainingEvidence:
    """Train as ``job`` says, in as many processes as it says.

    Raises:
        BadInputError: what any of the processes found wrong.
    """
    settings = TrainingSettings.model_validate(json.loads(job.settings)["training"])
    processes = settings.processes or max(1, torch.cuda.device_count())
    Path(job.output).mkdir(parents=True, exist_ok=True)
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return fit_here(job)
    _launch(job, processes)
    return TrainingEvidence.model_validate_json((Path(job.output) / "training.json").read_bytes())


def fit_here(job: FitJob) -> TrainingEvidence:
    """This process's part of a training; alone, all of it."""
    sections = json.loads(job.settings)
    model_settings = ModelSettings.model_validate(sections["model"])
    settings = TrainingSettings.model_validate(sections["training"])
    preferences, output = Path(job.preferences), Path(job.output)
    items = pl.read_parquet(preferences / "items.parquet")
    pairs = pl.read_parquet(preferences / "pairs.parquet")
    model, tokenizer = build_reward_model(job.start, settings)
    total = sum(value.numel() for value in model.parameters())
    encoding = encoding_for(tokenizer, model_settings, has_prompts=bool(items["prompt"].list.len().max()))
    encoder = Encoder(tokenizer, encoding)
    chosen = pairs.filter(split="train")
    if job.groups is not None:
        chosen = chosen.filter(pl.col("group").is_in(list(job.groups)))
    train = encode_groups(items.filter(split="train"), chosen, encoder)
    validation = encode_groups(items.filter(split="validation"), pairs.filter(split="validation"), encoder)
    warm = job.known_batches is not None
    old = OldAnswers.of(items, pairs, job.known_batches or (), settings) if warm else None
    trainer = RewardTrainer(
        model,
        tokenizer.pad_token_id or 0,
        settings,
        train=train.groups,
        validation=validation.groups,
        max_length=model_settings.max_length,
        watched=encode_groups(old.items, old.pairs, encoder).groups if old else (),
    )
    if trainer.reading.reason and trainer.processes.first:
        print(f"trained padded, several times slower: {trainer.reading.reason}", flush=True)
    with tqdm(
        total=trainer.steps, desc="training", unit="step", mininterval=1, disable=not trainer.processes.first
    ) as bar:

        def show(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        result = trainer.run(CheckpointFolder(Path(job.checkpoints)), each_step=show, may_stay=warm)
    evidence = TrainingEvidence(
        base=model_settings.base,
        method=_method(settings),
        parameters=total,
        trained_parameters=trainer.trained_parameters,
        groups=len(trainer.train),
        responses=sum(group.responses for group in trainer.train),
        pairs=sum(len(group.a) for group in trainer.train),
        tokens_per_second=result.tokens / max(result.seconds, 1e-9),
        truncated_prompts=train.truncated_prompts + validation.truncated_prompts,
        dropped_responses=train.dropped_responses + validation.dropped_responses,
        seed=settings.seed,
        held_out=old.compare(trainer) if old else {},
        **vars(result),
    )
    if trainer.processes.first:
        if trainer.processes.sharded:
            # The parts are spread over the processes: put them into a whole model again.
            model, _ = build_reward_model(job.start, settings)
            model.load_state_dict(trainer.best_weights(), strict=False)
        save_reward_model(model, tokenizer, output / "model")
        scoring = scoring_of(encoding, base=model_settings.base, tokenizer=tokenizer_digest(tokenizer))
        (output / "scoring.json").write_text(json.dumps(scoring, indent=1), encoding="utf-8")
        (output / "training.json").write_text(evidence.model_dump_json(indent=1), encoding="utf-8")
    trainer.processes.wait()
    return evidence


def scoring_of(encoding: Encoding, *, base: str, tokenizer: str) -> dict[str, Any]:
    """``scoring.json`` of a model whose public scale and threshold are not known yet."""
    return {
        "format": 1,
        "base": base,
        "tokenizer": tokenizer,
        "template": encoding.template,
        "max_length": encoding.max_length,
        "truncation_side": encoding.truncation_side,
        "precision": "float32",
        "scale": {"raw": [0.0, 1.0], "public": [0.0, 1.0]},
        "threshold": None,
    }


def _launch(job: FitJob, processes: int) -> None:
    error = Path(job.output) / _ERROR
    error.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # Processes that share the cores of one machine must not each take all of them.
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    done = subprocess.run(  # noqa: S603
        [*command, "-m", "rewardloop.training.fit", json.dumps(asdict(job))],
        env={"OMP_NUM_THREADS": threads} | os.environ,
        check=False,
    )
    if error.is_file():
        raise BadInputError(json.loads(error.read_text(encoding="utf-8"))["error"])
    if done.returncode:
        raise RewardloopError(
            f"training: one of {processes} processes ended with status {done.returncode}; its own message is above"
        )


def _method(settings: TrainingSettings) -> str:
    if settings.method == "top_layers":
        return f"top {settings.top_layers} layers"
    return f"LoRA, rank {settings.lora_rank}" if settings.method == "lora" else "all weights"


if __name__ == "__main__":
    one_of_many = FitJob(**json.loads(sys.argv[1]))
    try:
        fit_here(one_of_many)
    except BadInputError as refused:
        # The launcher would only hand on that a process ended.
        (Path(one_of_many.output) / _ERROR).write_text(json.dumps({"error": str(refused)}), encoding="utf-8")
        raise SystemExit(refused.exit_code) from refused
