"""Tiny random bases of the families that reward models are made from, for tests."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

VOCABULARY = 300
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
}
_SHARED_KEYS = _COMMON | {"num_key_value_heads": 2, "head_dim": 16}
_GPT = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
_FALCON = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}

PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _SHARED_KEYS),
    "smollm3": ("smollm3", _SHARED_KEYS),
    "mistral-sliding": ("mistral", _SHARED_KEYS | {"sliding_window": 10}),
    "qwen2": ("qwen2", _COMMON | {"num_key_value_heads": 2}),
    "qwen2-sliding": (
        "qwen2",
        _COMMON | {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", _SHARED_KEYS),
    "gemma": ("gemma", _SHARED_KEYS),
    "gemma2": ("gemma2", _SHARED_KEYS | {"sliding_window": 10, "attn_logit_softcapping": 2.0}),
    "gemma3": ("gemma3_text", _SHARED_KEYS | {"sliding_window": 10}),
    "opt": (
        "opt",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "ffn_dim": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 64,
        },
    ),
    "gpt2": ("gpt2", _GPT),
}
"""Name -> (model type, configuration): rotary and learned absolute positions, sliding windows, softcapping."""
MASKED = {
    "gptj": ("gptj", _GPT | {"rotary_dim": 8}),
    "falcon": ("falcon", _FALCON | {"alibi": False}),
    "falcon-new": ("falcon", _FALCON | {"alibi": False, "num_kv_heads": 2, "new_decoder_architecture": True}),
}
PADDED = {
    "falcon-alibi": ("falcon", _FALCON | {"alibi": True}),
    "bloom": ("bloom", {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "gpt-neo": (
        "gpt_neo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 10,
        },
    ),
}


def make_base(kind: str, fields: dict[str, Any], seed: int = 0) -> Any:
    """A sequence-classification model with random float32 weights and without dropout."""
    from rewardloop.modeling.reward_model import drop_nothing

    config = AutoConfig.for_model(kind, **fields, num_labels=1, pad_token_id=0, bos_token_id=1, eos_token_id=1)
    drop_nothing(config)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(3)  # the usual start is so small that all scores are alike
    return model
