"""What is lost, doubled or half written when processes are killed at any moment, and when eight act at once?

    python -m benchmarks.faults [--kills 50] [--rounds 30] [--align] [--only kills,triggers,promotions]

The smoke pipeline is killed with SIGKILL at seeded random moments, evenly over ingest, the claim, every step,
registration, promotion, outcome and rollback, by turns with all of its processes and alone, and started again, by
``rewardloop run`` or ``rewardloop trigger --once``. After the last start everything in the home is compared with a home
where nobody was killed. Then eight processes trigger one corpus, and eight promote versions, at the same instant. All
counts but ``kills``, ``homes``, rounds and the two that only inform (``temporary_leftovers``: files that every reader
passes over; ``trainings_repeated``: the kill came after a training and before KFP noted it) are to be 0.
``by_step`` has the stage in which the process was. The last line is one JSON object.
"""

import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

PARTS = ("kills", "triggers", "promotions")


def main(
    kills: Annotated[int, typer.Option(min=1, help="How many processes are killed.")] = 50,
    seed: Annotated[int, typer.Option(help="Other seeds give other moments.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each race.")] = 30,
    align: Annotated[bool, typer.Option("--align", help="With alignment: more steps, longer runs.")] = False,
    only: Annotated[str, typer.Option(help="Parts, with commas between.")] = ",".join(PARTS),
    home: Annotated[Path, typer.Option(help="Where the homes are made; sound ones are removed.")] = Path(
        ".rewardloop/benchmarks/faults"
    ),
) -> None:
    """Kill, race, and print one JSON object as the last line."""
    chosen = only.split(",")
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(PARTS)}", param_hint="--only")
    from benchmarks.faults import campaign, races
    from rewardloop.cli.environment import set_defaults

    set_defaults()
    folder, started = home.resolve(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    if "kills" in chosen:
        result |= campaign.disturb(kills, seed, folder, align=align)
    if "triggers" in chosen:
        result |= races.trigger_at_once(rounds, folder / "triggers")
    if "promotions" in chosen:
        result |= races.promote_at_once(rounds, folder / "promotions")
    result |= {
        "seconds": round(time.monotonic() - started, 1),
        "seed": seed,
        "align": align,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
