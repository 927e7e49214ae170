"""rewardloop's own PPO on the same prompts, measured like the peers.

In (one JSON argument): ``policy``, ``reward_model``, ``prompts``, ``output`` and ``align``, a section of settings. Out:
``output``, a JSON file with the answers to the held-out prompts before and after training; one JSON line with seconds,
memory, KL and length. The seconds are of all training, the reference's answers to its prompts and the evaluations on
validation prompts included. It runs where rewardloop is installed.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import peak_rss_bytes, report

from rewardloop.config import AlignSettings
from rewardloop.modeling.policy import PolicyInfo, load_start
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.collapse import facts_of
from rewardloop.training.devices import choose_device
from rewardloop.training.hardware import keep_freed_memory
from rewardloop.training.policies import rounds_policy, trainable
from rewardloop.training.ppo import PpoTrainer
from rewardloop.training.rewards import Rewards
from rewardloop.training.rollouts import Answers, Prompt, Readers, answer, kl_of
from rewardloop.training.values import RewardModelValues

_HELD_OUT_SEED = 99
_VALIDATION = 16
"""Training prompts are set aside for so few: the peers choose no checkpoint."""


def main() -> None:
    arguments = json.loads(sys.argv[1])
    settings = AlignSettings.model_validate(arguments["align"])
    prompts = json.loads(Path(arguments["prompts"]).read_text(encoding="utf-8"))
    device = choose_device(settings.device, "align.device")
    keep_freed_memory()
    folder = Path(arguments["reward_model"])
    scorer = RewardScorer.load(folder)
    if settings.precision != "float32" and (folder / "parity.json").is_file():
        scorer.allow_rounding(json.loads((folder / "parity.json").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as place:
        PolicyInfo(base=arguments["policy"], start="base", plain_text=True).write(Path(place))
        start = load_start(Path(place), Path(place) / "cache", device=device, rounded=rounds_policy(settings, device))
    policy = trainable(start, settings)
    rewards = Rewards(scorer, scored="text", missing_eos_penalty=settings.missing_eos_penalty)

    def asked(texts: list[str]) -> list[Prompt]:
        messages = [[{"role": "user", "content": text}] for text in texts]
        return [Prompt(message, policy.prompt_ids(message)) for message in messages]

    held_out, train = asked(prompts["held_out"]), asked(prompts["train"])

    def answered(some: list[Prompt], seed: int) -> Answers:
        return answer(policy, some, rewards, settings, samples=1, seed=seed)

    before = answered(held_out, _HELD_OUT_SEED)
    started, cpu_started = time.perf_counter(), time.process_time()
    learnt_on = train[: max(1, settings.episodes // settings.samples_per_prompt)]
    references = answered(learnt_on, 7)
    facts = [
        (ids, finished, not text.strip())
        for ids, finished, text in zip(references.ids, references.finished, references.texts, strict=True)
    ]
    trainer = PpoTrainer(
        policy,
        settings,
        train=learnt_on,
        validation=answered(train[-_VALIDATION:], 8),
        rewards=rewards,
        reference_facts=lambda places: facts_of(*zip(*(facts[place] for place in places), strict=True)),
        values=RewardModelValues(scorer, policy, settings) if settings.ppo.value == "reward_model" else None,
    )
    with tempfile.TemporaryDirectory() as place:
        trainer.run(CheckpointFolder(Path(place)))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = peak_rss_bytes()
    after = answered(held_out, _HELD_OUT_SEED)
    kl = kl_of(Readers(policy, settings), after).tolist()
    output: dict[str, Any] = {"prompts": prompts["held_out"], "kl": kl}
    for name, answers in (("before", before), ("after", after)):
        output[name] = {"ids": answers.ids, "responses": answers.texts}
    Path(arguments["output"]).write_text(json.dumps(output), encoding="utf-8")
    report(
        "rewardloop_ppo",
        {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "peak_rss_bytes": peak,
            "episodes": trainer.progress.update * trainer.episodes,
            "updates": trainer.progress.update,
            "best_update": trainer.progress.best_update,
            "stopped": trainer.progress.stopped,
            "kl": sum(kl) / len(kl),
            "length_before": before.tokens / len(before.ids),
            "length": after.tokens / len(after.ids),
        },
    )


if __name__ == "__main__":
    main()
