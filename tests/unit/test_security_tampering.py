"""One byte of any file of a registered version is changed: whoever would load it refuses."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.operation.drift_check import registered_reference
from rewardloop.serving.models import Champion, open_registered
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.pyfunc_model import RewardModel
from rewardloop.tracking.registry import load_scorer, open_version
from tests.registered import Candidate, make_candidate

# Named here, not read from a version: a kind of file that is no longer covered must not drop out unseen.
FILES = (
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "scoring.json",
    "parity.json",
    "manifest.json",
    "scoring/__init__.py",
    "scoring/scorer.py",
    "scoring/encoding.py",
)


@pytest.fixture(scope="module")
def version(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    folder = tmp_path_factory.mktemp("tampering")
    candidate = make_candidate(folder, tiny_base, connect(None, folder / "home", 5))
    candidate.register()
    return candidate


def _folder(version: Candidate) -> Path:
    place = MlflowClient(version.tracking_uri).get_model_version_download_uri(version.name, "1")
    return Path(place.removeprefix("file://")) / "artifacts" / "reward_model"


def _uri(version: Candidate) -> str:
    return f"models:/{version.name}/1"


def _champion(version: Candidate) -> object:
    return Champion(version.name, Storage.open(version.store), version.tracking_uri).open()


def _warm_start(version: Candidate) -> object:
    with open_version(_uri(version), version.tracking_uri) as (directory, _):
        return directory


LOADERS: dict[str, Callable[[Candidate], object]] = {
    "score, evaluation and comparison": lambda version: load_scorer(_uri(version), version.tracking_uri),
    "serve a version": lambda version: open_registered(_uri(version), version.tracking_uri),
    "serve the champion": _champion,
    "training from the champion": _warm_start,
    "drift": lambda version: registered_reference(_uri(version), version.tracking_uri),
}


@pytest.fixture
def tampered(version: Candidate) -> Iterator[Callable[[str], None]]:
    """Changes one byte of a file, which is put back afterwards."""
    folder, kept = _folder(version), {}

    def change(name: str) -> None:
        path = folder / name
        content = bytearray(path.read_bytes())
        kept[path] = bytes(content)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    yield change
    for path, content in kept.items():
        path.write_bytes(content)


def test_every_file_is_covered(version: Candidate) -> None:
    folder = _folder(version)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(FILES) <= found
    assert found - {"manifest.json"} == set(json.loads((folder / "manifest.json").read_bytes()))


@pytest.mark.parametrize("name", FILES)
def test_one_byte_is_enough(version: Candidate, tampered: Callable[[str], None], name: str) -> None:
    tampered(name)
    for who, load in LOADERS.items():
        with pytest.raises(RewardloopError, match="the model is not loaded"):
            pytest.fail(f"{who}: loaded {load(version)}")


def test_untouched_it_is_loaded_by_all(version: Candidate) -> None:
    for who, load in LOADERS.items():
        if who == "drift":  # these files are sound, and have no reference
            with pytest.raises(BadInputError, match="was registered without"):
                load(version)
        else:
            load(version)


@pytest.fixture
def _registry(version: Candidate) -> Iterator[None]:
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(version.tracking_uri)
    yield
    mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("name", ["model/model.safetensors", "scoring.json", "scoring/scorer.py", "manifest.json"])
def test_mlflow_itself_refuses(version: Candidate, tampered: Callable[[str], None], name: str) -> None:
    tampered(name)
    with pytest.raises(MlflowException, match="not as it was registered; the model is not loaded"):
        mlflow.pyfunc.load_model(_uri(version))


@pytest.mark.usefixtures("_registry")
def test_mlflow_asks_the_registry_for_the_manifest(version: Candidate, tmp_path: Path) -> None:
    """Who changes a file and the manifest with it would have to change the registry too."""
    root = tmp_path / "copy"
    shutil.copytree(_folder(version).parents[1], root)
    (root / "registered_model_meta").write_text(f"model_name: {version.name}\nmodel_version: '1'\n")
    folder = root / "artifacts" / "reward_model"
    context = SimpleNamespace(artifacts={"reward_model": str(folder)})
    RewardModel().load_context(context)
    scoring = folder / "scoring.json"
    scoring.write_text(scoring.read_text().replace("0.412", "-9.412"))
    write_manifest(folder)
    with pytest.raises(MlflowException, match=r"manifest\.json: not as it was registered"):
        RewardModel().load_context(context)
