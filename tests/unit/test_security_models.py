"""Models that come with a pickle or with code: refused in words, or loaded without running anything.

The planted pickles and modules write a file when they run; every test ends by looking for it.
"""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardloop.config import TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.toxicity import toxicity_scorer
from rewardloop.modeling.base import prepare_base, require_safetensors
from rewardloop.modeling.policy import PolicyInfo, load_causal_model, load_policy
from rewardloop.modeling.reward_model import build_reward_model
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.serving.models import open_folder
from rewardloop.training.checkpoint import CheckpointFolder
from tests.served import write_reward_model


class _Bomb:
    """A pickle that runs a command where it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.witness}'",)


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def base(tiny_base: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def _pickle(path: Path, witness: Path) -> None:
    path.write_bytes(pickle.dumps(_Bomb(witness)))


def test_the_planted_pickle_is_alive(tmp_path: Path, witness: Path) -> None:
    _pickle(tmp_path / "x.bin", witness)
    pickle.loads((tmp_path / "x.bin").read_bytes())
    assert witness.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "weights.ckpt"])
def test_a_pickle_in_place_of_safetensors_is_refused(base: Path, witness: Path, tmp_path: Path, name: str) -> None:
    (base / "model.safetensors").unlink()
    _pickle(base / name, witness)
    with pytest.raises(
        BadInputError, match=rf"model\.base: .*has no model\.safetensors; found {name}: a pickle can run"
    ):
        prepare_base(str(base), tmp_path)
    assert not witness.exists()


def test_a_pickle_beside_safetensors_is_not_read(base: Path, witness: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        _pickle(base / name, witness)
    assert prepare_base(str(base), tmp_path) == str(base)
    build_reward_model(str(base), TrainingSettings(seed=0))
    load_causal_model(str(base))
    assert not witness.exists()


def test_whoever_loads_without_asking_first_takes_no_pickle_either(
    base: Path, witness: Path, tmp_path: Path, tiny_base: str
) -> None:
    """Each of the places that load weights, given a folder with a pickle alone."""
    folder = tmp_path / "reward_model"
    write_reward_model(folder, tiny_base)
    for place in (base, folder / "model"):
        (place / "model.safetensors").unlink()
        _pickle(place / "pytorch_model.bin", witness)
    loaders: list[Callable[[], object]] = [
        lambda: build_reward_model(str(base), TrainingSettings(seed=0)),
        lambda: load_causal_model(str(base)),
        lambda: RewardScorer.load(folder),
        lambda: open_folder(folder),
        lambda: toxicity_scorer(str(base)),
    ]
    for load in loaders:
        with pytest.raises((OSError, BadInputError), match=r"model\.safetensors|cannot be loaded"):
            load()
    assert not witness.exists()


def test_an_adapter_that_is_a_pickle_is_refused(tiny_base: str, witness: Path, tmp_path: Path) -> None:
    """PEFT by itself would take it."""
    folder = tmp_path / "policy"
    (folder / "adapter").mkdir(parents=True)
    _pickle(folder / "adapter" / "adapter_model.bin", witness)
    _info(tiny_base).write(folder)
    with pytest.raises(
        BadInputError, match=r"the policy's adapter: .*has no adapter_model\.safetensors; found adapter_"
    ):
        load_policy(folder, tmp_path / "cache")
    assert not witness.exists()


def test_a_checkpoint_that_is_a_pickle_is_not_run(witness: Path, tmp_path: Path) -> None:
    """Checkpoints are rewardloop's own and still loaded as weights only."""
    checkpoint = CheckpointFolder(tmp_path)
    torch.save({"step": _Bomb(witness)}, checkpoint.file)
    with pytest.raises((pickle.UnpicklingError, BadInputError, RuntimeError)):
        checkpoint.load({})
    assert not witness.exists()


def _planted_code(base: Path, witness: Path, **config: Any) -> None:
    """``auto_map`` in both configurations, and a module that leaves a trace when it is imported."""
    (base / "planted.py").write_text(
        f"from pathlib import Path\nPath({str(witness)!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "class PlantedConfig(LlamaConfig): model_type = 'planted'\n"
        "class Planted(LlamaForCausalLM): config_class = PlantedConfig\n"
        "class PlantedTokenizer(PreTrainedTokenizerFast): pass\n"
    )
    classes = {"AutoConfig": "planted.PlantedConfig", "AutoModelForCausalLM": "planted.Planted"}
    classes["AutoModelForSequenceClassification"] = "planted.Planted"
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": classes} | config))
    path = base / "tokenizer_config.json"
    tokenizer = {"auto_map": {"AutoTokenizer": [None, "planted.PlantedTokenizer"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | tokenizer))


def test_code_that_comes_with_a_known_architecture_is_not_run(base: Path, witness: Path, tmp_path: Path) -> None:
    _planted_code(base, witness)
    assert prepare_base(str(base), tmp_path) == str(base)
    build_reward_model(str(base), TrainingSettings(seed=0))
    load_causal_model(str(base))
    assert not witness.exists()


def test_a_model_that_needs_its_own_code_is_refused(
    base: Path, witness: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _planted_code(base, witness, model_type="planted", architectures=["Planted"])
    # At a terminal transformers would ask, and take a yes.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(BadInputError, match=r"model\.base: .*comes with code of its own \(auto_map in config\.json\)"):
        prepare_base(str(base), tmp_path)
    assert not witness.exists()


def test_the_planted_module_is_alive(
    base: Path, witness: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from transformers import AutoConfig

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    _planted_code(base, witness, model_type="planted", architectures=["Planted"])
    AutoConfig.from_pretrained(base, trust_remote_code=True)
    assert witness.exists()


def test_an_empty_folder_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"^x: .*has no model\.safetensors; convert the model to safetensors"):
        require_safetensors(tmp_path, "x")


def _info(base: str) -> PolicyInfo:
    return PolicyInfo(base=base, start="base", trained="adapter", plain_text=True)
