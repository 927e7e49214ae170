"""Eight processes do the same at the same instant: trigger one corpus, or promote eight versions.

In: a number of rounds. Out: how many runs each round had, and what became of the history. Everything is the product's
own code, on real files and a real MLflow, but for two things: the steps of the pipeline, in whose place each run waits
a moment and is refused by a blessing that says no, and the comparison of two versions, of which the higher number is
the better model. Versions have tags and no files.
"""

import multiprocessing
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from benchmarks.faults.home import CONFIG, ORGANIZATION, write_ratings

PROCESSES = 8
_TEXTS = 20
_STEPS_SECONDS = 0.3
_LONGEST_SECONDS = 900.0
"""For the eight to come together; who waits longer has lost one of them."""
_TRAINED = "trained.txt"
_RACE = "race-reward"
_IMPORTED_ONCE = (
    "mlflow.store.model_registry.sqlalchemy_store",
    "rewardloop.cli.claimed_run",
    "rewardloop.cli.looking",
    "rewardloop.steps.publish_report",
    "rewardloop.tracking.promotion",
)

_barrier: threading.Barrier


def trigger_at_once(rounds: int, folder: Path) -> dict[str, Any]:
    """Each round brings a new batch, for which exactly one of the processes is to start a run."""
    from rewardloop.config import load_settings
    from rewardloop.feedback.ingest import ingest
    from rewardloop.feedback.store import FeedbackStore
    from rewardloop.tracking.connection import connect

    _empty(folder)
    overrides = ("align=", f"home={folder}", f"store.url={folder / 'store'}")
    settings = load_settings(CONFIG, overrides).settings
    store = FeedbackStore.open(settings.store.url)
    connect(None, folder, settings.tracking.timeout_seconds)
    runs: list[int] = []
    said: Counter[str] = Counter()
    with _processes() as pool:
        for number in range(rounds):
            write_ratings(folder / "batch.csv", _TEXTS, seed=number)
            ingest([folder / "batch.csv"], store, settings, key=b"of a benchmark")
            said.update(pool.map(_look, [overrides] * PROCESSES, chunksize=1))
            corpus = store.current_corpus(settings.corpus).digest
            trained = (folder / _TRAINED).read_text().split() if (folder / _TRAINED).exists() else []
            runs.append(trained.count(corpus))
            print(f"triggers, round {number + 1}: {runs[-1]} run(s)", flush=True)
    return {
        "trigger_rounds": len(runs),
        "trigger_runs_per_round_max": max(runs),
        "trigger_runs_per_round_min": min(runs),
        "trigger_answers": dict(said),
    }


def promote_at_once(rounds: int, folder: Path) -> dict[str, Any]:
    """Each round has a history of its own, which is to be a chain with the best version at its end."""
    from mlflow import MlflowClient

    from rewardloop.storage import Storage
    from rewardloop.tracking.connection import connect
    from rewardloop.tracking.history import History

    _empty(folder)
    tracking_uri = connect(None, folder, 20)
    client = MlflowClient(tracking_uri)
    client.create_registered_model(_RACE)
    for _ in range(PROCESSES):
        tags = {"manifest_digest": "e5" * 32, "blessed_against": "none", "threshold": "0.5", "blessed": "true"}
        client.create_model_version(_RACE, "nowhere", tags=tags)
    broken, wrong, records_in_all = 0, 0, 0
    with _processes() as pool:
        for number in range(rounds):
            store = str(folder / f"store-{number}")
            tasks = [(str(version), store, tracking_uri) for version in range(1, PROCESSES + 1)]
            said = pool.map(_promote, tasks, chunksize=1)
            history = History(Storage.open(store), _RACE)
            records = history.records()
            chained = [record.previous for record in records] == [None, *(record.version for record in records[:-1])]
            numbered = [record.sequence for record in records] == list(range(1, len(records) + 1))
            broken += not (chained and numbered and len(records) == said.count("promoted"))
            best = str(PROCESSES)
            shown = client.get_registered_model(_RACE).aliases.get("champion")
            wrong += not (records and records[-1].version == best and str(shown) == best)
            records_in_all += len(records)
            print(f"promotions, round {number + 1}: {len(records)} record(s)", flush=True)
    return {
        "promotion_rounds": rounds,
        "promotion_chain_broken": broken,
        "promotion_champion_wrong": wrong,
        "promotion_records": records_in_all,
    }


def _look(overrides: tuple[str, ...]) -> str:
    """One look, as ``rewardloop trigger --once`` does; what came of it."""
    from rewardloop.cli import claimed_run
    from rewardloop.cli.looking import Looker
    from rewardloop.cli.retraining import retrain
    from rewardloop.config import load_settings

    claimed_run.run_pipeline = _no_steps  # type: ignore[assignment]
    looker = Looker(load_settings(CONFIG, overrides), say=_nothing, start=partial(retrain, say=_nothing))
    _barrier.wait(_LONGEST_SECONDS)
    looked = looker.look()
    return looked.run.kind if looked.run else "not due"


def _nothing(line: str) -> None:
    """Eight processes that talk at once are of no use to anybody."""


def _no_steps(name: str, parameters: Mapping[str, str], *, root: Path, run_dir: Path) -> None:
    """In place of the pipeline: takes a moment, says that it was here, and leaves a refusal."""
    from rewardloop.evidence import Blessing

    del name
    time.sleep(_STEPS_SECONDS)
    with (root.parent / _TRAINED).open("a") as stream:
        stream.write(f"{parameters['corpus_digest']}\n")
    blessing = Blessing(
        blessed=False,
        candidate="none",
        champion="no champion: first version",
        corpus_digest=parameters["corpus_digest"],
        checks=[],
        reasons=["nothing was trained: a race of triggers"],
    )
    (run_dir / "evidence").mkdir(exist_ok=True)
    (run_dir / "evidence" / "blessing.json").write_text(blessing.model_dump_json(), encoding="utf-8")


def _promote(task: tuple[str, str, str]) -> str:
    """Promote a version that was blessed against nobody."""
    from mlflow import MlflowClient

    from rewardloop.errors import NotBlessedError
    from rewardloop.evidence import Check
    from rewardloop.storage import Storage
    from rewardloop.tracking.history import History
    from rewardloop.tracking.promotion import promote

    version, store, tracking_uri = task

    def better(candidate: str, champion: str) -> list[Check]:
        passed = int(candidate) > int(champion)
        return [Check(name="golden", passed=passed, value=None, limit=None, rule="", reason=f"after {champion}.")]

    _barrier.wait(_LONGEST_SECONDS)
    try:
        promote(_RACE, version, store=store, tracking_uri=tracking_uri, who=ORGANIZATION, why="a race", compare=better)
    except NotBlessedError:
        return "refused"
    finally:
        _barrier.wait(_LONGEST_SECONDS)  # the history does not change any more
        History(Storage.open(store), _RACE).project_aliases(MlflowClient(tracking_uri))
    return "promoted"


@contextmanager
def _processes() -> Iterator[Pool]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED_ONCE))
    with context.Pool(PROCESSES, initializer=_share, initargs=(context.Barrier(PROCESSES),)) as pool:
        yield pool


def _share(one: threading.Barrier) -> None:
    global _barrier
    _barrier = one


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
