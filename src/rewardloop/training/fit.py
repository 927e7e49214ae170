"""One training of a reward model, from files to files, in one process, in many, or on many nodes.

In: a ``FitJob``: preferences, what to start from, which groups. Out: in ``output`` the model (float32 safetensors and
tokenizer), ``scoring.json`` and ``training.json`` (``TrainingEvidence``), written by the first process.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from rewardloop.config import DistributedSettings, ModelSettings, TrainingSettings
from rewardloop.evidence import TrainingEvidence
from rewardloop.modeling.reward_model import build_reward_model, encoding_for, save_reward_model, tokenizer_digest
from rewardloop.modeling.scoring import Encoder, Encoding
from rewardloop.training import launch
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import encode_groups
from rewardloop.training.devices import gpus
from rewardloop.training.old_answers import OldAnswers
from rewardloop.training.reward import RewardTrainer


@dataclass(frozen=True)
class FitJob:
    """Everything that a process needs to know to take part."""

    preferences: str
    """Output folder of ``build_preferences``."""
    start: str
    """Directory or hub id of the weights to start from: a base, or a reward model."""
    settings: str
    """JSON with the sections ``model`` and ``training``, perhaps ``distributed``."""
    checkpoints: str
    """Folder, or URL of one in an object store."""
    output: str
    groups: Sequence[int] | None = None
    """Numbers of the training split's groups to train on; None: all."""
    known_batches: Sequence[str] | None = None
    """Set when ``start`` is a reward model: digests of the batches it knows. Its own weights may then turn out to be
    the best, and a sample of held-out answers is scored before and after."""

    def inputs(self) -> dict[str, str]:
        """See ``launch.Job``; a hub id is no folder, and every node asks the hub for it."""
        return {"preferences": self.preferences} | ({"start": self.start} if Path(self.start).is_dir() else {})


def fit(job: FitJob) -> TrainingEvidence:
    """Train as ``job`` says, in as many processes and on as many nodes as it says.

    Raises:
        BadInputError: what any of the processes found wrong.
    """
    sections = json.loads(job.settings)
    settings = TrainingSettings.model_validate(sections["training"])
    spread = DistributedSettings.model_validate(sections.get("distributed", {}))
    launch.run("train_reward_model", job, spread, settings.processes or spread.processes or gpus() or 1)
    return TrainingEvidence.model_validate_json((Path(job.output) / "training.json").read_bytes())


def fit_here(job: FitJob) -> None:
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

        result = trainer.run(CheckpointFolder.at(job.checkpoints), each_step=show, may_stay=warm)
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


def _method(settings: TrainingSettings) -> str:
    if settings.method == "top_layers":
        return f"top {settings.top_layers} layers"
    return f"LoRA, rank {settings.lora_rank}" if settings.method == "lora" else "all weights"
