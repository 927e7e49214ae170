"""The policy that is loaded is the one that was saved."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rewardloop.errors import RewardloopError
from rewardloop.modeling.policy import PolicyInfo, load_policy, load_start, save_policy, with_adapters
from rewardloop.modeling.policy_parity import check_policy_parity, write_policy_fixture
from tests.policies import letters_base, settings_of, start_folder

ANSWERS = [([2, 3, 4], [5, 6, 1]), ([7], [8]), ([2, 9, 3, 10], [4, 4, 4, 4, 1])]


def saved(tmp_path: Path) -> Path:
    start = start_folder(tmp_path / "start", letters_base(tmp_path / "base"))
    policy = with_adapters(load_start(start, tmp_path), settings_of(method="lora"))
    torch.manual_seed(0)
    with torch.no_grad():
        for value in policy.model.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    info = PolicyInfo(base=str(tmp_path / "base"), start="base", trained="adapter", plain_text=True)
    save_policy(policy, info, tmp_path / "policy", start)
    write_policy_fixture(tmp_path / "policy", tmp_path / "cache", ANSWERS)
    return tmp_path / "policy"


def test_the_fixture_holds_the_log_probabilities_of_whole_answers(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    fixture = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    model = load_policy(folder, tmp_path / "cache").model
    for (prompt, response), found in zip(ANSWERS, fixture["logprobs"], strict=True):
        with torch.no_grad():
            logp = model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        expected = sum(float(logp[len(prompt) - 1 + place, token]) for place, token in enumerate(response))
        assert found == pytest.approx(expected, abs=1e-5)
    assert check_policy_parity(folder, tmp_path / "cache", where="the copy") == 0.0


def test_changed_adapters_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = folder / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value * 1.01 for name, value in weights.items()}, file)
    with pytest.raises(RewardloopError, match=r"registry: an answer of parity.json has another log-probability"):
        check_policy_parity(folder, tmp_path / "cache", where="registry")


def test_a_changed_base_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = tmp_path / "base" / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"][4] += 0.05
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(RewardloopError, match="the weights or the base have changed"):
        check_policy_parity(folder, tmp_path / "cache", where="here")


def test_a_policy_that_gives_no_number_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    file = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: value * float("nan") for name, value in load_file(file).items()}, file)
    with pytest.raises(RewardloopError, match="another log-probability"):
        check_policy_parity(folder, tmp_path / "cache", where="here")
