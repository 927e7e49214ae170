"""A registered version is what was certified: same files, same scores, with or without rewardloop."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.flavors import REWARD_MODEL
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.pyfunc_model import RewardModel
from rewardloop.tracking.registration import register
from rewardloop.tracking.registry import load_scorer, resolve
from tests.registered import PROMPTS, RESPONSES, THRESHOLD, Candidate, make_candidate

_WITHOUT_REWARDLOOP = """
import json, sys
sys.modules["rewardloop"] = None
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
frame = pandas.DataFrame(json.loads(sys.argv[3]))
answer = model.predict(frame)
errors = []
for wrong in ({"response": [None]}, {"prompt": ["x"]}, {"response": ["x"], "prompt": ['[{"role": "nobody"}]']}):
    try:
        model.predict(pandas.DataFrame(wrong))
    except mlflow.MlflowException as error:
        errors.append(error.message)
print(json.dumps({"answer": answer.to_dict("list"), "errors": errors}))
"""


@pytest.fixture(scope="module")
def candidate(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A candidate, registered as version 1."""
    folder = tmp_path_factory.mktemp("candidate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARDLOOP_HOME", str(folder / "home"))
        candidate = make_candidate(folder, tiny_base, connect(None, folder / "home", 5))
        candidate.register()
    return candidate


def _files(candidate: Candidate) -> Path:
    uri = MlflowClient(candidate.tracking_uri).get_model_version_download_uri(candidate.name, "1")
    return Path(uri.removeprefix("file://"))


def test_version_scores_as_certified(candidate: Candidate) -> None:
    scorer = load_scorer(f"models:/{candidate.name}/1", candidate.tracking_uri)
    wanted = json.loads((candidate.folder / "evaluation" / "parity.json").read_text())
    np.testing.assert_allclose(scorer.score(PROMPTS, RESPONSES), wanted["scores"], rtol=0, atol=1e-5)
    assert scorer.threshold == THRESHOLD
    assert type(scorer).__module__.startswith("reward_model_scoring_")


def test_version_scores_the_same_where_rewardloop_is_not_installed(candidate: Candidate) -> None:
    prompts = ["", None, json.dumps(PROMPTS[2])]
    rows = json.dumps({"prompt": prompts, "response": RESPONSES})
    command = [sys.executable, "-c", _WITHOUT_REWARDLOOP, candidate.tracking_uri]
    done = subprocess.run(
        [*command, f"models:/{candidate.name}@champion", rows], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout.splitlines()[-1])
    wanted = json.loads((candidate.folder / "evaluation" / "parity.json").read_text())
    np.testing.assert_allclose(content["answer"]["score"], wanted["scores"], rtol=0, atol=1e-5)
    assert content["answer"]["allowed"] == wanted["allowed"]
    assert content["answer"]["decision"] == ["accept" if allowed else "block" for allowed in wanted["allowed"]]
    assert content["answer"]["threshold"] == [THRESHOLD] * 3
    assert content["answer"]["model_version"] == ["1"] * 3
    assert "row 0: 'response' is None" in content["errors"][0]
    assert "response" in content["errors"][1]
    assert "nobody" in content["errors"][2]
    # Having been loaded by MLflow, the files are still exactly those that were registered.
    load_scorer(f"models:/{candidate.name}/1", candidate.tracking_uri)


def test_a_version_with_two_thresholds_asks_people(candidate: Candidate, tmp_path: Path) -> None:
    directory = tmp_path / "reward_model"
    shutil.copytree(_files(candidate) / "artifacts" / "reward_model", directory)
    scoring, fixture = (json.loads((directory / f"{name}.json").read_text()) for name in ("scoring", "parity"))
    low, middle, high = sorted(fixture["scores"])
    scoring |= {"threshold": (middle + high) / 2, "block_threshold": (low + middle) / 2}
    (directory / "scoring.json").write_text(json.dumps(scoring))
    write_manifest(directory)
    model = RewardModel()
    model.load_context(SimpleNamespace(artifacts={"reward_model": str(directory)}))
    rows = pd.DataFrame({"response": [*RESPONSES, "x" * 200], "prompt": [*map(json.dumps, PROMPTS), ""]})
    answer = model.predict(None, rows)
    wanted = {low: "block", middle: "review", high: "accept"}
    assert answer["decision"].tolist() == [*(wanted[score] for score in fixture["scores"]), "review"]
    assert answer["allowed"].tolist() == [decision == "accept" for decision in answer["decision"]]
    assert set(answer.columns) == set(REWARD_MODEL.signature.outputs.input_names())


def test_threads_take_turns(candidate: Candidate) -> None:
    """MLflow's server calls one model from several threads, and a tokenizer refuses to be used by two at once."""
    model = RewardModel()
    model.load_context(
        SimpleNamespace(artifacts={"reward_model": str(_files(candidate) / "artifacts" / "reward_model")})
    )
    rows = pd.DataFrame({"response": RESPONSES, "prompt": [*map(json.dumps, PROMPTS)]})
    wanted = model.predict(None, rows)["score"].tolist()
    with ThreadPoolExecutor(8) as threads:
        for answer in threads.map(lambda _: model.predict(None, rows), range(200)):
            assert answer["score"].tolist() == wanted


def test_nothing_is_pickled_and_versions_are_pinned(candidate: Candidate) -> None:
    # MLflow keeps what it compiles beside the code that it loads.
    loaded = _files(candidate) / "__pycache__"
    files = [path for path in _files(candidate).rglob("*") if path.is_file() and path.parent != loaded]
    assert {path.suffix for path in files} <= {"", ".json", ".py", ".yaml", ".txt", ".safetensors", ".jinja"}, files
    for path in files:
        assert not path.read_bytes().startswith(b"\x80"), path
    pinned = (_files(candidate) / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in pinned} >= {"mlflow", "torch", "transformers", "scipy"}
    assert not any("+" in line for line in pinned)


@pytest.mark.parametrize("name", ["model/model.safetensors", "scoring/scorer.py", "scoring.json"])
def test_one_changed_byte_is_refused_before_loading(candidate: Candidate, name: str) -> None:
    path = _files(candidate) / "artifacts" / "reward_model" / name
    data = path.read_bytes()
    try:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(RewardloopError, match=f"{name}.*changed"):
            load_scorer(f"models:/{candidate.name}/1", candidate.tracking_uri)
    finally:
        path.write_bytes(data)


def test_version_that_scores_differently_is_not_registered(candidate: Candidate, tmp_path: Path) -> None:
    directory = tmp_path / "reward_model"
    shutil.copytree(_files(candidate) / "artifacts" / "reward_model", directory)
    fixture = json.loads((directory / "parity.json").read_text())
    fixture["scores"][1] += 0.01
    (directory / "parity.json").write_text(json.dumps(fixture))
    (directory / "manifest.json").unlink()
    tags = {"manifest_digest": write_manifest(directory)}
    with pytest.raises(RewardloopError, match=r"text 1 of parity\.json"):
        register(
            directory,
            name="other-reward",
            same=tags,
            tags={"blessed": "true"},
            tracking_uri=candidate.tracking_uri,
            parent_run_id=None,
        )
    client = MlflowClient(candidate.tracking_uri)
    assert [model.name for model in client.search_registered_models()] == [candidate.name]


def test_names_of_versions(candidate: Candidate) -> None:
    storage = Storage.open(candidate.store)
    for asked in ("champion", "candidate", "1"):
        assert resolve(candidate.name, asked, candidate.tracking_uri, storage) == f"models:/{candidate.name}/1"
    for asked in ("previous", "2", "nobody"):
        with pytest.raises(BadInputError, match=f"{asked}.*registered: 1"):
            resolve(candidate.name, asked, candidate.tracking_uri, storage)
    with pytest.raises(BadInputError, match="nothing is registered yet"):
        resolve("nobody-reward", "champion", candidate.tracking_uri, storage)
    with pytest.raises(BadInputError, match="models:/film-reviews-reward/9"):
        load_scorer("models:/film-reviews-reward/9", candidate.tracking_uri)


def test_aliases_are_repaired_after_somebody_moved_them(candidate: Candidate, tmp_path: Path) -> None:
    client = MlflowClient(candidate.tracking_uri)
    source = client.get_model_version_download_uri(candidate.name, "1")
    other = str(client.create_model_version(candidate.name, source).version)
    client.set_registered_model_alias(candidate.name, "champion", other)
    client.set_registered_model_alias(candidate.name, "previous", other)
    try:
        found = resolve(candidate.name, "champion", candidate.tracking_uri, Storage.open(candidate.store))
        assert found == f"models:/{candidate.name}/1"
        aliases = client.get_registered_model(candidate.name).aliases
        assert {name: str(version) for name, version in aliases.items()} == {"champion": "1", "candidate": "1"}
    finally:
        client.delete_model_version(candidate.name, other)


def test_history_of_another_registry_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    History(storage, candidate.name).append(
        "promote", "77", expected=None, why="a test", threshold=None, compared_with="nothing"
    )
    with pytest.raises(BadInputError, match=r"version 77 as champion.*store\.url"):
        resolve(candidate.name, "champion", candidate.tracking_uri, storage)
