"""Scoring beside transformers' text-classification pipeline at its best batch size, in one run.

    python -m benchmarks.scoring [--home FOLDER] [--rounds N]

Rows of conversational shape, in two workloads: ``shared``, both responses of every prompt are scored; ``unshared``,
prompts of uneven length with one response each. Both start from texts. The model is taught for some steps that longer
responses are better: of random weights all scores are alike, and rounding is large beside their spread. ``speedup`` is
rewardloop as it scores by default over the pipeline as it scores by default, which give the same decisions;
``speedup_float32`` and ``speedup_bfloat16`` hold both to one precision (the pipeline's bfloat16 is that of all weights
and layers, and nothing looks after its decisions). The last line is one JSON object.
"""

import json
import platform
import string
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import workloads
from benchmarks.peer_environment import PEERS, peer_python, run_peer

_BATCH_SIZES = [1, 2, 8]
_LESSONS = 160
_LETTERS = np.array(list(string.ascii_lowercase + "      "))


def rows_of(count: int, *, shared: bool, seed: int, longest: int = 900) -> list[dict[str, str]]:
    """Prompts and responses as letters, one token each for the base's byte-level tokenizer."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return "".join(rng.choice(_LETTERS, length))

    rows = []
    for group in workloads.pairs(count, seed):
        prompt = text(min(longest, len(group["prompt"])))
        answers = group["responses"] if shared else group["responses"][:1]
        rows += [{"prompt": prompt, "response": text(min(longest, len(answer)))} for answer in answers]
    return rows


def measure(rows: list[dict[str, str]], name: str, home: Path, rounds: int) -> dict[str, Any]:
    """Both scorers on the same rows; the fastest of ``rounds`` counts."""
    base = str(_taught(home))
    ours, theirs = home / f"{name}-rows.jsonl", home / f"{name}-texts.jsonl"
    ours.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    whole = [f"\n\nHuman: {row['prompt']}\n\nAssistant: {row['response']}" for row in rows]
    theirs.write_text("".join(json.dumps({"text": text}) + "\n" for text in whole), encoding="utf-8")
    python = peer_python(home)
    mine: list[dict[str, Any]] = []
    peers: dict[str, list[dict[str, Any]]] = {"float32": [], "bfloat16": []}
    for _ in range(rounds):
        mine.append(run_peer(Path(sys.executable), PEERS / "rewardloop_scoring.py", {"base": base, "rows": str(ours)}))
        print(f"{name}: rewardloop {mine[-1]['float32']['rows_per_second']:.1f} rows/s in float32", flush=True)
        for dtype, found in peers.items():
            arguments = {"base": base, "texts": str(theirs), "batch_sizes": _BATCH_SIZES, "dtype": dtype}
            found.append(run_peer(python, PEERS / "text_classification.py", arguments))
            print(f"{name}: pipeline {found[-1]['best']['rows_per_second']:.1f} rows/s in {dtype}", flush=True)
    exact = max(run["float32"]["rows_per_second"] for run in mine)
    default = max(run["default"]["rows_per_second"] for run in mine)
    rounded = max((run["bfloat16"]["rows_per_second"] for run in mine if "bfloat16" in run), default=None)
    best = {dtype: max(run["best"]["rows_per_second"] for run in found) for dtype, found in peers.items()}
    return {
        "speedup": round(default / best["float32"], 2),
        "speedup_float32": round(exact / best["float32"], 2),
        "speedup_bfloat16": rounded and round(rounded / best["bfloat16"], 2),
        "rows": len(rows),
        "rows_per_second": {"rewardloop": round(default, 2), "rewardloop_float32": round(exact, 2)}
        | {f"pipeline_{dtype}": round(value, 2) for dtype, value in best.items()},
        "pipeline_batch_size": {
            dtype: max(found, key=lambda run: run["best"]["rows_per_second"])["best"]["batch_size"]
            for dtype, found in peers.items()
        },
        **{name: mine[0].get(name) for name in ("changed_decisions", "largest_difference", "spread")},
        "peak_rss_ratio": round(mine[0]["peak_rss_bytes"] / peers["float32"][0]["peak_rss_bytes"], 3),
    }


def _taught(home: Path) -> Path:
    """The base after some steps that tell it to prefer longer responses; made once."""
    folder = home / "taught"
    if not folder.is_dir():
        base = str(workloads.make_base(home / "base"))
        rows = home / "lessons.jsonl"
        lessons = rows_of(_LESSONS, shared=True, seed=2, longest=120)
        rows.write_text("".join(json.dumps(row) + "\n" for row in lessons), encoding="utf-8")
        run_peer(
            Path(sys.executable), PEERS / "rewardloop_lessons.py", {"base": base, "rows": str(rows), "to": str(folder)}
        )
    return folder


def main(
    home: Annotated[Path, typer.Option(help="Where the peer's environment and the workloads are kept.")] = Path(
        ".rewardloop/benchmarks"
    ),
    rounds: Annotated[int, typer.Option(help="How often each scorer runs.")] = 2,
    prompts: Annotated[int, typer.Option(help="How many prompts.")] = 100,
) -> None:
    """Measure and print one JSON object as the last line."""
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "shared": measure(rows_of(prompts, shared=True, seed=0), "shared", home, rounds),
        "unshared": measure(rows_of(prompts, shared=False, seed=1), "unshared", home, rounds),
    }
    result["machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    result["date"] = datetime.now(UTC).date().isoformat()
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
