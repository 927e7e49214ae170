"""Operations are counted by hand on a model small enough for that; memory is that of one process alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from rewardloop.modeling.scoring import Block
from rewardloop.training.hardware import Work, choose_precision, peak_flops, peak_memory
from tests.bases import make_base

_LLAMA = {
    "vocab_size": 50,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
_PER_LAYER = 4 * 8 * 8 + 3 * 8 * 16


def test_operations_of_a_full_training() -> None:
    work = Work(make_base("llama", _LLAMA), 0)
    # Two per weight and token forward, four backward, in each of three layers.
    assert work.per_token == 6 * 3 * _PER_LAYER
    # Four per pair and width forward, eight backward.
    assert work.per_pair == 12 * 8 * 3
    # A prompt of 3: 6 pairs; responses of 2 and 1: 2 * 3 + 3 and 3 + 1.
    assert work.of([Block([1, 2, 3], ([4, 5], [6]))], 6) == 6 * work.per_token + 19 * work.per_pair


def test_operations_where_only_the_last_layer_trains() -> None:
    model = make_base("llama", _LLAMA)
    for layer in model.model.layers[:2]:
        layer.requires_grad_(False)
    # Forward through all layers, backward through the last.
    assert Work(model, 0).per_token == 2 * 3 * _PER_LAYER + 4 * _PER_LAYER
    # Frozen layers that were computed once cost nothing.
    assert Work(model, 2).per_token == 6 * _PER_LAYER
    assert Work(model, 2).per_pair == 12 * 8


def test_the_peak_of_a_cpu_is_measured() -> None:
    peak = peak_flops(torch.device("cpu"), "float32")
    assert peak.flops > 1e8
    assert "measured" in peak.source


def test_a_named_precision_is_taken_as_it_is() -> None:
    assert choose_precision("float32", torch.device("cpu")) == "float32"
    assert choose_precision("bfloat16", torch.device("cpu")) == "bfloat16"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no peak of a started program alone")
def test_a_started_process_does_not_answer_for_the_memory_of_the_one_that_started_it() -> None:
    held = np.ones(100_000_000)
    code = "import torch; from rewardloop.training.hardware import peak_memory; print(peak_memory(torch.device('cpu')))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 50_000_000 < int(started.stdout) < peak_memory(torch.device("cpu")) - held.nbytes / 2
