"""PPO beside TRL's (1.12, the last with a PPOTrainer) and TRL's RLOO, in one run: gain, time, KL and memory.

    python -m benchmarks.ppo [--episodes N] [--seeds N] [--reward-model FOLDER]

SmolLM2-135M-Instruct goes on writing film sentences; the reward model scores the completed text. ``same_settings``:
LoRA on all layers, float32, a fixed price of KL, the same learning rate, prompts, sampling and number of episodes.
``half_the_episodes``: the same from half as many answers. ``own_settings``: what ``conf/demo.yaml`` does, at the same
number of episodes. TRL runs twice: with threads that wait passively, as rewardloop's do, and ``as_installed``. Gains
are those of held-out prompts, scored by one function for all. Contestants take turns, seed by seed, each in a process
of its own. The last line is one JSON object; without the policy's package it says that the benchmark was skipped.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import policy_workload
from benchmarks.peer_environment import PEERS, TRL_WITH_PPO, peer_python, run_peer
from rewardloop.errors import BadInputError

_SAMPLING = {"max_new_tokens": 24, "temperature": 0.7}
_BATCH = {"prompts_per_update": 4, "samples_per_prompt": 4}
_RATE = 7e-4
_SAME = {
    "learning_rate": _RATE,
    "method": "lora",
    "max_gradient_norm": 1e9,  # TRL's PPO clips no gradient
    "precision": "float32",
    "kl": {"beta": 0.05, "adaptive": False, "budget": 100.0},
    "ppo": {"epochs": 2, "minibatches": 4, "gae_lambda": 0.95, "update_kl_limit": None, "value": "reward_model"},
}
_OWN = {
    "learning_rate": 1.2e-3,
    "lora_layers": 16,
    "kl": {"beta": 0.05, "target": 5.0, "budget": 8.0},
    "ppo": {"epochs": 2, "minibatches": 4, "gae_lambda": 1.0, "value": "reward_model"},
}


def measure(home: Path, episodes: int, seeds: int, reward_model: Path | None) -> dict[str, Any]:
    """All contestants, seed by seed."""
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads cost the other contestants of a shared machine
    load = policy_workload.make(home, reward_model)
    common = {"policy": str(load.policy), "reward_model": str(load.reward_model), "prompts": str(load.prompts)}

    def trl(script: str, version: str | None, *, unset: tuple[str, ...] = ()) -> Callable[[int, Path], dict[str, Any]]:
        python = peer_python(home, version) if version else peer_python(home)
        return lambda seed, output: run_peer(
            python,
            PEERS / script,
            common
            | _SAMPLING
            | _BATCH
            | {"output": str(output), "seed": seed, "episodes": episodes, "learning_rate": _RATE},
            unset=unset,
        )

    def ours(settings: dict[str, Any], asked: int = episodes) -> Callable[[int, Path], dict[str, Any]]:
        align = settings | _BATCH | {"prompts": "-", "plain_text": True, "scored": "text", "episodes": asked}
        align |= {"generation": _SAMPLING, "evaluations": 1, "validation_prompts": 16, "checkpoints": 1}
        return lambda seed, output: run_peer(
            Path(sys.executable),
            PEERS / "rewardloop_ppo.py",
            common | {"output": str(output), "align": align | {"seed": seed}},
        )

    contestants = {
        "trl": trl("trl_ppo.py", TRL_WITH_PPO),
        "trl as installed": trl("trl_ppo.py", TRL_WITH_PPO, unset=("OMP_WAIT_POLICY",)),
        "ours": ours(_SAME),
        "half": ours(_SAME, episodes // 2),
        "own": ours(_OWN),
        "rloo": trl("trl_rloo.py", None),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for name, run in contestants.items():
                output = Path(folder) / f"{name}.json"
                found = run(seed, output) | {"gain": _gain(load.reward_model, output)}
                runs[name].append(found)
                typer.echo(json.dumps({"contestant": name, "seed": seed} | _shown(found)))
    return _ratios(runs) | {"episodes": episodes, "seeds": seeds}


def _gain(reward_model: Path, output: Path) -> float:
    found = json.loads(output.read_text(encoding="utf-8"))
    texts = {
        name: [a + b for a, b in zip(found["prompts"], found[name]["responses"], strict=True)]
        for name in ("before", "after")
    }
    before, after = (policy_workload.rewards(reward_model, texts[name]) for name in ("before", "after"))
    return policy_workload.gain(before, after).mean


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    names = ("gain", "kl", "seconds", "cpu_seconds", "length", "peak_rss_bytes", "episodes")
    return {name: round(found[name], 3) for name in names if name in found}


def _ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def mean(name: str, field: str) -> float:
        return float(np.mean([run[field] for run in runs[name]]))

    def against(name: str, peer: str) -> dict[str, float]:
        return {
            "gain_ratio": mean(name, "gain") / mean(peer, "gain"),
            "time_ratio": mean(name, "seconds") / mean(peer, "seconds"),
            "kl": mean(name, "kl"),
        }

    def summary(name: str) -> dict[str, Any]:
        gains = [run["gain"] for run in runs[name]]
        return {
            "gain": mean(name, "gain"),
            "gains": gains,
            "kl": mean(name, "kl"),
            "seconds": mean(name, "seconds"),
            "peak_rss_bytes": mean(name, "peak_rss_bytes"),
        }

    return {
        "reward_gain_ours": mean("ours", "gain"),
        "reward_gain_trl": mean("trl", "gain"),
        "seconds_ours": mean("ours", "seconds"),
        "seconds_trl": mean("trl", "seconds"),
        "time_ratio": mean("ours", "seconds") / mean("trl", "seconds"),
        "kl_ours": mean("ours", "kl"),
        "kl_trl": mean("trl", "kl"),
        "peak_rss_ratio": mean("ours", "peak_rss_bytes") / mean("trl", "peak_rss_bytes"),
        "half_the_episodes": against("half", "trl"),
        "own_settings": against("own", "trl"),
        "as_installed": {
            "time_ratio": mean("ours", "seconds") / mean("trl as installed", "seconds"),
            "own_settings_time_ratio": mean("own", "seconds") / mean("trl as installed", "seconds"),
        },
        "rloo": against("ours", "rloo") | {"kl": mean("rloo", "kl")},
        "runs": {name: summary(name) for name in runs},
    }


def main(
    episodes: Annotated[int, typer.Option(help="A multiple of 32.")] = 96,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    reward_model: Annotated[Path | None, typer.Option(help="model/ and scoring.json; None: one is trained.")] = None,
    home: Annotated[Path, typer.Option(help="Where models and the peers' environments are kept.")] = Path(
        ".rewardloop/benchmarks"
    ),
) -> None:
    """Measure, and print one JSON object as the last line."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        result = measure(home.resolve(), episodes, seeds, reward_model)
    except BadInputError as error:
        result = {"skipped": str(error)}
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
