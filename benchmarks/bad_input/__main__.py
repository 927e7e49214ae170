"""Does any file of feedback, however broken, crash or stall an ingest, lose rows, or fill the memory?

    python -m benchmarks.bad_input [--files 20000] [--seed 8] [--processes 2]

In: the golden files of the tests, of every format, plain and packed. Out: one JSON object as the last line, with
``crashes`` (anything but a clear refusal), ``hangs`` (longer than ``--patience``) and ``rows_unaccounted``, all to be
0, and ``peak_rss_gb``, the most that any process held. File number n of a seed is the same in every run; ``--only n``
makes and ingests that one alone and shows what happens.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer


def main(
    files: Annotated[int, typer.Option(min=1, help="How many mutated files.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Other seeds give other files.")] = 8,
    processes: Annotated[int, typer.Option(min=1, help="How many at once.")] = 2,
    patience: Annotated[float, typer.Option(help="Seconds after which a file counts as a hang.")] = 60,
    only: Annotated[int | None, typer.Option(help="The file of this number alone.")] = None,
) -> None:
    """Mutate, ingest, count, and print one JSON object as the last line."""
    if only is not None:
        from benchmarks.bad_input.attempt import attempt

        with tempfile.TemporaryDirectory() as folder:
            result = attempt(only, seed, Path(folder))
        print(result.what, result.crash, sep="\n")
        print(json.dumps({"unaccounted": result.unaccounted, "taken": result.taken, "seconds": result.seconds}))
        return
    from benchmarks.bad_input.campaign import run

    print(json.dumps(run(files, seed, processes, patience)))


if __name__ == "__main__":
    typer.run(main)
