"""One mutated file is ingested for real, in a process of its own kind, and its rows are counted twice.

In: a number and a seed. Out: what became of the file of that number. A crash is any exception but ``BadInputError``.
"""

import random
import re
import resource
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.bad_input.mutations import OF_BYTES, OF_TEXT, RARE, packed
from benchmarks.bad_input.seeds import Seed, seeds
from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import Taken, choose
from rewardloop.feedback.importers.table import Record
from rewardloop.feedback.importers.whole import tables_of
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.reading import read_sources
from rewardloop.feedback.store import FeedbackStore
from rewardloop.memory import peak_rss_bytes

LIMIT = 64 << 20
"""Most bytes that one file may come to here (``store.max_read_bytes``)."""
MEMORY = 6 << 30
"""A process that wants more is stopped, as a crash."""
_KEY = b"a key of the fuzz run alone"
_RARELY, _TEXTS, _PACKED = 0.01, 0.6, 0.2


@dataclass(frozen=True)
class Result:
    """What became of one file. ``unaccounted``: rows that are in the file and in no count, or the other way round."""

    number: int
    what: str
    taken: bool = False
    unaccounted: int = 0
    crash: str = ""
    seconds: float = 0
    peak_bytes: int = 0


def made(number: int, seed: int) -> tuple[Seed, str, bytes]:
    """The file of this number: its seed, its mutations, its bytes."""
    rng = random.Random(f"{seed}-{number}")
    # What is packed is mostly refused as a whole: rows go wrong in text, which may be packed afterwards.
    texts = [one for one in _seeds() if one.kind == "text"]
    start = rng.choice(texts if rng.random() < _TEXTS else _seeds())
    data = start.data
    pool = OF_TEXT if start.kind == "text" else OF_BYTES
    names = []
    for mutation in (rng.choice(RARE if rng.random() < _RARELY else pool) for _ in range(rng.choice((1, 1, 1, 2, 3)))):
        data = mutation(rng, data)
        names.append(mutation.__name__)
    if start.kind == "text" and rng.random() < _PACKED:
        data = packed(rng, data)
        names.append("packed")
    return start, f"{start.name} ({start.kind}): {', '.join(names)}", data


@cache
def _seeds() -> list[Seed]:
    return seeds()


def attempt(number: int, seed: int, folder: Path) -> Result:
    """Make the file, ingest it, and count its rows."""
    start, what, data = made(number, seed)
    path = folder / f"{number}{Path(start.name).suffix}"
    path.write_bytes(data)
    before = time.monotonic()
    taken, unaccounted, crash = False, 0, ""
    try:
        taken, unaccounted = _ingested(path, start, folder / f"store-{number}", number)
    except BadInputError:
        pass
    except BaseException:
        crash = traceback.format_exc(limit=-6)
    return Result(number, what, taken, unaccounted, crash, time.monotonic() - before, peak_rss_bytes())


def _ingested(path: Path, start: Seed, folder: Path, number: int) -> tuple[bool, int]:
    """By turns as its seed's format and by content; one file in four under the default share of unusable rows."""
    settings = Settings.model_validate(
        {
            "organization": "acme",
            "model": {"base": "random:tiny"},
            "store": {"max_read_bytes": LIMIT},
            "validation": {"max_failed_share": 0.05 if number % 4 == 3 else 1.0},
        }
    )
    store = FeedbackStore.open(str(folder))
    format = start.format if number % 2 == 0 else "auto"
    report = ingest([path], store, settings, key=_KEY, format=format, columns=start.columns, options=start.options)
    seen = _unaccounted(path, start, format, store, settings)
    counted = report.rows_taken + report.rows_quarantined + report.rows_duplicate + sum(report.skipped.values())
    filed = sum(len(one.read_bytes().splitlines()) for one in folder.glob("quarantine/*/rows.jsonl"))
    lost = abs(report.rows_in - counted) + abs(filed - report.rows_quarantined)
    return report.digest is not None, lost + seen + (report.rows_duplicate < 0)


def _unaccounted(path: Path, start: Seed, format: str, store: FeedbackStore, settings: Settings) -> int:
    """Rows of the file from which nothing comes out of the importer, and outcomes of no row of it."""
    sources = read_sources([path], limit=LIMIT)
    tables = tables_of(sources, format, store.storage)
    choice = choose(tables, format, start.options, start.columns)
    if choice.importer.whole:
        return 0
    lost = 0
    for table in tables:
        rows = [one.place if isinstance(one, Record) else one.row.place for one in table.rows()]
        outcomes: Counter[str] = Counter()
        for one in choice.importer.read(table, choice.options, settings.validation):
            outcomes.update(_row(row.place, table.name) for row in (one.rows if isinstance(one, Taken) else (one.row,)))
        lost += len(set(rows) ^ outcomes.keys())
    return lost


def _row(place: str, name: str) -> str:
    """The place of the row in which something is: behind its number stands what of it."""
    number = re.match(r":\d+", place.removeprefix(name))
    return name + (number[0] if number else place.removeprefix(name))


def work(connection: Connection, seed: int) -> None:
    """Answer numbers with results, until None comes."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    _seeds()
    connection.send(None)
    while (number := connection.recv()) is not None:
        with tempfile.TemporaryDirectory() as folder:
            result = attempt(number, seed, Path(folder))
        connection.send(result)
