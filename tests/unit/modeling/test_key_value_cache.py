"""The cache with room: the same keys and values as transformers' own, whatever is done to the batch in between."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rewardloop.modeling.key_value_cache import growing_cache
from tests.bases import MASKED, PACKED
from tests.policies import causal_of


def test_it_holds_what_the_dynamic_cache_holds() -> None:
    config = causal_of("llama").config
    ours, own = growing_cache(config), DynamicCache(config=config)
    random = torch.Generator().manual_seed(0)

    def add(rows: int, tokens: int) -> None:
        keys, values = (torch.randn(rows, 2, tokens, 4, generator=random) for _ in range(2))
        for layer in range(len(own.layers)):
            found, expected = (cache.update(keys, values, layer) for cache in (ours, own))
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert ours.get_seq_length() == own.get_seq_length()

    add(2, 5)
    for cache in (ours, own):
        cache.batch_repeat_interleave(3)
    for _ in range(70):  # more than one room
        add(6, 1)
    for cache in (ours, own):
        cache.batch_select_indices(torch.tensor([0, 2, 5]))
    add(3, 1)
    add(3, 2)


def test_layers_of_another_kind_keep_their_own_cache() -> None:
    kinds = set()
    for name in PACKED | MASKED:
        config = causal_of(name).config
        for layer, own in zip(growing_cache(config).layers, DynamicCache(config=config).layers, strict=True):
            assert isinstance(layer, type(own))
            kinds.add(type(own))
    assert DynamicLayer in kinds
    assert len(kinds) > 1
