"""Two disjoint halves of the training feedback: one for the reward model, one for the judge that checks it.

In: preferences. Out: the same with the training pairs of one half only. A document's half depends on nothing but the
document, and other splits stay whole: nothing is learnt from them.
"""

import shutil
from pathlib import Path
from typing import Literal

import polars as pl

from rewardloop.records import bucket

_SALT = "second judge"


Half = Literal["candidate", "judge"]


def leave_half(preferences: Path, folder: Path, half: Half) -> None:
    """Copy ``preferences`` to ``folder`` with the training pairs inside one half; pairs across halves are in none."""
    items = pl.read_parquet(preferences / "items.parquet")
    pairs = pl.read_parquet(preferences / "pairs.parquet")
    mine = pl.Series([(bucket(_SALT, document) < 0.5) == (half == "judge") for document in items["document"]])
    inside = mine.gather(pairs["a"]) & mine.gather(pairs["b"])
    shutil.copytree(preferences, folder, dirs_exist_ok=True)
    pairs.filter((pl.col("split") != "train") | inside).write_parquet(folder / "pairs.parquet")
