"""Teaches the base of the scoring benchmark to prefer longer responses, so that its scores differ.

In (one JSON argument): ``base``, ``rows`` (JSONL, two responses to each prompt in a row), ``to``. Out: a model folder.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rewardloop.config import TrainingSettings
from rewardloop.modeling.scoring import Encoder, Encoding, share_prompts
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collation import Group
from rewardloop.training.reward import RewardTrainer


def main(base: str, rows: str, to: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    encoder = Encoder(tokenizer, Encoding("plain", 2048, "left"))
    lines = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    groups = []
    for number, (first, second) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        prompt = [{"role": "user", "content": first["prompt"]}]
        encoded = [encoder(prompt, row["response"]) for row in (first, second)]
        blocks, _ = share_prompts([(one.prompt, one.response) for one in encoded if one is not None])
        longer = float(len(first["response"]) > len(second["response"]))
        groups.append(Group(number, tuple(blocks), (0,), (1,), (longer,)))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32)
    settings = TrainingSettings(groups_per_step=8, learning_rate=1e-3, evaluations=1, checkpoints=1)
    trainer = RewardTrainer(model, 0, settings, train=groups, validation=groups[:8], max_length=2048)
    with tempfile.TemporaryDirectory() as work:
        trainer.run(CheckpointFolder(Path(work)))
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    print(json.dumps({"validation": trainer.progress.validation}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
