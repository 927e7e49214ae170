"""A device that is asked for and is not there is said so before any work."""

import pytest
import torch

from rewardloop.errors import BadInputError
from rewardloop.training.devices import choose_device


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    count = int(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    return count


@pytest.mark.parametrize("cards", [0], indirect=True)
def test_a_missing_accelerator_is_named_with_its_setting(cards: int) -> None:
    for wanted in ("cuda", "cuda:0"):
        with pytest.raises(BadInputError, match=rf"align.device: '{wanted}' is asked for, .*has no CUDA device.*auto"):
            choose_device(wanted, "align.device")
    assert choose_device("auto", "align.device") == torch.device("cpu")
    assert choose_device("cpu", "align.device") == torch.device("cpu")


@pytest.mark.parametrize("cards", [2], indirect=True)
def test_one_of_several_is_found_and_one_too_many_is_not(cards: int) -> None:
    assert choose_device("auto", "x") == torch.device("cuda")
    assert choose_device("cuda:1", "x") == torch.device("cuda:1")
    assert choose_device("cpu", "x") == torch.device("cpu")
    with pytest.raises(BadInputError, match=r"align.reward_device: 'cuda:2' is asked for, .* has 2 CUDA device"):
        choose_device("cuda:2", "align.reward_device")


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "mps", "meta", ""])
def test_what_is_no_device_is_refused(wanted: str) -> None:
    with pytest.raises(BadInputError, match=rf"align.device: found '{wanted}'; expected auto, cpu, cuda or cuda:N"):
        choose_device(wanted, "align.device")
