"""What is wrong in a home after all of its kills, once every command has been run again to its end.

In: a home, and what the undisturbed home holds. Out: problems in words, by what they count as. Everything is read by
the readers that the product itself uses; names that no reader knows count as half written.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil
from mlflow import MlflowClient

from benchmarks.faults.home import ORGANIZATION, Home
from rewardloop.errors import RewardloopError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.operation.claims import read_claims
from rewardloop.storage import Storage
from rewardloop.tracking.history import History
from rewardloop.tracking.projection import project
from rewardloop.tracking.registry import open_version, versions

NAME = f"{ORGANIZATION}-reward"
COUNTED = (
    "batches_lost", "runs_duplicated", "versions_duplicated", "aliases_wrong", "half_written_files",
    "weights_different", "thresholds_different", "left_open",
)  # fmt: skip
"""What a problem counts as; the last: claims, MLflow runs or processes that are still at work."""
_HEX = "[0-9a-f]{64}"
_KNOWN = re.compile(
    rf"splits\.json|(batches/{_HEX}/(records\.parquet|manifest\.json))|(quarantine/{_HEX}/\w+\.jsonl)"
    r"|(golden/(records\.parquet|documents\.json))|(anchors/responses\.parquet)|(history/\d{8}\.json)"
    rf"|((refused|accepted|corpora)/{_HEX}\.json)|(golden-uses/[\w-]+/\d+\.json)|(texts/{_HEX}\.parquet)"
    rf"|(references/{_HEX}/{_HEX}\.parquet)|(kept/[a-z-]+/{_HEX}/(entry\.json|[0-9a-f]{{8}}-[\w.-]+))"
    rf"|(claims/{_HEX}-{_HEX}(\.takeover-\d{{4}}|\.beat-\d{{4}}|\.outcome)?\.json)"
)


@dataclass(frozen=True)
class Truth:
    """What a home must hold: that of the home where nobody was killed."""

    batches: frozenset[str]
    weights: str
    threshold: str | None


@dataclass
class Findings:
    """Problems by what they count as; ``leftovers``: temporary files, which readers pass over."""

    problems: dict[str, list[str]]
    leftovers: int = 0
    trainings: int = 0
    """How often a candidate was trained to its end; more than once only where a kill came before that was noted."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.problems.values())


def truth_of(home: Home) -> Truth:
    """What the undisturbed home holds."""
    batches = FeedbackStore.open(str(home.store)).batches()
    weights, threshold = _model(home, "1")
    return Truth(frozenset(batch.digest for batch in batches), weights, threshold)


def examine(home: Home, truth: Truth, *, champions: list[str], planted: int) -> Findings:
    """Look at everything in a home.

    Args:
        home: after its last command.
        truth: what it must hold.
        champions: the versions that the history must name, oldest first.
        planted: versions that the benchmark itself registered.
    """
    found = Findings({name: [] for name in COUNTED})
    problems = found.problems
    for count, look in (
        ("batches_lost", lambda: _batches(home, truth)),
        ("runs_duplicated", lambda: _runs(home)),
        ("versions_duplicated", lambda: _versions(home, planted)),
        ("aliases_wrong", lambda: _aliases(home, champions)),
        ("half_written_files", lambda: _files(home)),
        ("left_open", lambda: _left_open(home)),
    ):
        with _noted(problems[count]):
            problems[count] += look()
    with _noted(problems["half_written_files"]):
        weights, threshold = _model(home, "1")
        if weights != truth.weights:
            problems["weights_different"].append(f"{weights[:12]} instead of {truth.weights[:12]}")
        if threshold != truth.threshold:
            problems["thresholds_different"].append(f"{threshold} instead of {truth.threshold}")
    found.leftovers = sum(1 for path in home.inside.rglob("*") if path.is_file() and path.name.startswith(".tmp-"))
    found.trainings = len(list(home.inside.glob("pipelines/*/train-reward-model/reward_model/parity.json")))
    return found


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """What cannot be read is a problem too."""
    try:
        yield
    except (RewardloopError, OSError, ValueError) as error:
        problems.append(f"{type(error).__name__}: {error}")


def _batches(home: Home, truth: Truth) -> Iterator[str]:
    store = FeedbackStore.open(str(home.store))
    there = {batch.digest for batch in store.batches()}
    yield from (f"batch {digest[:12]} is not there" for digest in truth.batches - there)
    yield from (f"batch {digest[:12]} is there besides" for digest in there - truth.batches)
    for digest in sorted(there):
        store.read_batch(digest)  # compares records and digest


def _runs(home: Home) -> Iterator[str]:
    yield from (f"run folder {path.name}" for path in sorted(home.inside.glob("runs/*"))[1:])
    yield from (f"claim {claim.stem}" for claim in read_claims(Storage.open(str(home.store)))[1:])
    client = MlflowClient(home.tracking_uri)
    experiments = [one.experiment_id for one in client.search_experiments(filter_string=f"name = '{ORGANIZATION}'")]
    parents = [run for run in client.search_runs(experiments) if "mlflow.parentRunId" not in run.data.tags]
    yield from (f"MLflow run {run.info.run_name}" for run in parents[1:])


def _versions(home: Home, planted: int) -> Iterator[str]:
    known = sorted(int(one.version) for one in versions(MlflowClient(home.tracking_uri), NAME))
    wanted = list(range(1, planted + 2))
    if known != wanted:
        yield f"versions {known} instead of {wanted}"


def _aliases(home: Home, champions: list[str]) -> Iterator[str]:
    storage = Storage.open(str(home.store))
    history = History(storage, NAME)
    records = history.records()
    if [record.version for record in records] != champions:
        yield f"history {[record.version for record in records]} instead of {champions}"
    if [record.previous for record in records] != [None, *champions[:-1]]:
        yield f"history is no chain: {[(record.version, record.previous) for record in records]}"
    project(NAME, storage, home.tracking_uri)  # what whoever reads an alias does first
    found = MlflowClient(home.tracking_uri).get_registered_model(NAME).aliases
    wanted = {"champion": champions[-1], "candidate": "1", "previous": history.previous()}
    shown = {alias: str(version) for alias, version in found.items()}
    if shown != {alias: version for alias, version in wanted.items() if version is not None}:
        yield f"aliases {shown} instead of {wanted}"


def _files(home: Home) -> Iterator[str]:
    store = home.store
    for path in sorted(path for path in store.rglob("*") if path.is_file() and not path.name.startswith(".tmp-")):
        name = path.relative_to(store).as_posix()
        if not _KNOWN.fullmatch(name):
            yield f"{name}: nobody reads such a file"
        yield from _unreadable(path)
    for folder in store.glob("batches/*"):
        there = {path.name for path in folder.iterdir() if not path.name.startswith(".tmp-")}
        if there != {"records.parquet", "manifest.json"}:
            yield f"{folder.name[:12]} has only {sorted(there)}"
    for path in (*home.inside.glob("runs/*/*/*.json"), *home.inside.glob("pipelines/.kfp_cache/*.json")):
        yield from _unreadable(path)
    for run in home.inside.glob("runs/*"):
        record = json.loads((run / "run.json").read_bytes())
        if not record["closed"] or record["status"] != "blessed":
            yield f"{run.name}/run.json: {record['status']}, closed: {record['closed']}"
        if not (run / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>"):
            yield f"{run.name}/report.html: has no end"


def _unreadable(path: Path) -> Iterator[str]:
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".parquet":
            pl.read_parquet(path)
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_bytes().splitlines()]
    except (ValueError, pl.exceptions.PolarsError) as error:
        yield f"{path.name}: {error}"


def _left_open(home: Home) -> Iterator[str]:
    for claim in read_claims(Storage.open(str(home.store))):
        if claim.state != "finished":
            yield f"claim {claim.stem[:12]} is {claim.state}"
    client = MlflowClient(home.tracking_uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        yield f"MLflow run {run.info.run_name} is running"
    folders = {str(path) for path in home.inside.glob("runs/*")}
    for process in psutil.process_iter():
        try:
            if process.environ().get("REWARDLOOP_RUN_DIR") in folders:
                yield f"process {process.pid} is at work"
        except psutil.Error:
            continue


def _model(home: Home, version: str) -> tuple[str, str | None]:
    """Digest of the version's weights, whose files are verified, and its threshold."""
    with open_version(f"models:/{NAME}/{version}", home.tracking_uri) as (directory, tags):
        return weights_digest(directory / "model"), tags.get("threshold")
