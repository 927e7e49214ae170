"""Decisions against planted truths: is what is bad refused, what is good blessed, and does the guarantee hold?

    python -m benchmarks.decisions [--seeds 20] [--only faults,good] [--kinds equal,miscalibrated]

Faults and good candidates go through the steps ``build_preferences``, ``evaluate_reward_model`` and
``decide_promotion``, each with a store, a champion in MLflow's registry and a reward model of its own; ``caught`` and
``blessed`` are counted from the ``blessing.json`` on disk, and ``why`` says which checks failed, or which step stopped
the run, how often. ``docs/decisions.md`` tells what is planted. The last line is one JSON object.
"""

import json
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

PARTS = ("faults", "good", "guarantee", "consensus")


def main(
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each kind, and worlds of the consensus.")] = 20,
    only: Annotated[str, typer.Option(help="Parts, with commas between.")] = ",".join(PARTS),
    kinds: Annotated[str, typer.Option(help="Kinds of faults and good candidates; empty: all.")] = "",
    resamplings: Annotated[int, typer.Option(min=1, help="Calibration sets per alpha.")] = 500,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = os.cpu_count() or 1,
    politeness: Annotated[Path, typer.Option(help="Stanford politeness corpus.")] = Path("data/stanford_politeness"),
    ukp: Annotated[Path, typer.Option(help="UKPConvArg1, with its XML archive.")] = Path("data/ukpconvarg1"),
) -> None:
    """Measure and print one JSON object as the last line."""
    from benchmarks.decisions import consensus, guarantee, runs
    from benchmarks.decisions.faults import FAULTS
    from benchmarks.decisions.good import GOOD

    parts = _chosen("--only", only, PARTS)
    asked = _chosen("--kinds", kinds, [*FAULTS, *GOOD]) if kinds else [*FAULTS, *GOOD]
    wanted = [kind for kind in asked if ("faults" if kind in FAULTS else "good") in parts]
    started = time.monotonic()
    result: dict[str, Any] = {}
    if wanted:
        judged = runs.judge_all(wanted, seeds, processes)
        faults = {kind: found for kind, found in judged.items() if kind in FAULTS}
        result["faults"] = {
            kind: {"caught": found["of"] - found.pop("blessed")} | found for kind, found in faults.items()
        }
        result["good"] = {kind: found for kind, found in judged.items() if kind in GOOD}
    if "guarantee" in parts:
        result["guarantee"] = {
            f"{alpha:.2f}": guarantee.guarantee(alpha, resamplings=resamplings, items=items)._asdict()
            for alpha, items in guarantee.CALIBRATION.items()
        }
    if "consensus" in parts:
        result["consensus"] = consensus.planted(seeds) | consensus.real(politeness, ukp)
    result["minutes"] = round((time.monotonic() - started) / 60, 1)
    result["machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    result["date"] = datetime.now(UTC).date().isoformat()
    print(json.dumps(result))


def _chosen(option: str, text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"found {unknown[0]!r}; expected some of {', '.join(known)}", param_hint=option)
    return names


if __name__ == "__main__":
    typer.run(main)
