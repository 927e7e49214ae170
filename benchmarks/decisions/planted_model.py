"""A reward model whose scores are known: it answers with the mean value of the words it knows.

In: a value per word. Out: the folder that ``train_reward_model`` leaves: ``model/`` (a Llama with one layer and its
tokenizer), ``scoring.json`` and ``parity.json``. It is loaded, scored and registered like any other model.

How the weights do it: a token's vector holds its value, a flag for everything that is not a known word, and a
remainder that makes all vectors equally long, so that RMSNorm multiplies by a constant. Attention avoids flagged tokens
and is even over the others: it takes their mean value and puts it where the head reads. The last norm divides by
sqrt(1 + mean^2 / length^2), which keeps the order.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rewardloop.modeling.reward_model import tokenizer_digest
from rewardloop.modeling.scoring import Encoding, RewardScorer
from rewardloop.training.fit import scoring_of

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_LENGTH = 128
_SIZE = 8  # of a token's vector, and of the one head
_VALUE, _REST, _FLAG, _ONE, _MEAN = range(5)  # what the places of a token's vector hold
_UNIT = 0.05  # of a value inside the vector: so small that the last norm is nearly linear
_LENGTH = 2.0  # of every vector
_AVOID = 60.0  # how much less a flagged token is attended to, in logits
_THETA = 1e12  # the last rotary pair turns by 1e-9 per token: position does not matter


def planted_model(folder: Path, values: Mapping[str, float], texts: Sequence[tuple[str, str]]) -> Path:
    """Write a candidate that scores by the mean of ``values``.

    Args:
        folder: made if need be.
        values: value of each known word; at most 30 in size. Any other word counts for nothing; a known one counts in
            the prompt too.
        texts: (prompt, response) of the parity fixture.

    Returns:
        ``folder``.
    """
    words = [PAD, EOS, UNKNOWN, *values]
    tokenizer = _tokenizer(words)
    model = _model(np.array([0.0, 0.0, 0.0, *values.values()]))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    scoring = scoring_of(Encoding("plain", MAX_LENGTH, "left"), base="planted", tokenizer=tokenizer_digest(tokenizer))
    (folder / "scoring.json").write_text(json.dumps(scoring), encoding="utf-8")
    prompts = [[{"role": "user", "content": prompt}] for prompt, _ in texts]
    responses = [response for _, response in texts]
    scores = RewardScorer.load(folder).raw_scores(prompts, responses)
    fixture = {"prompts": prompts, "responses": responses, "raw_scores": scores.tolist()}
    (folder / "parity.json").write_text(json.dumps(fixture), encoding="utf-8")
    return folder


def _tokenizer(words: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token=UNKNOWN))
    known.pre_tokenizer = pre_tokenizers.Whitespace()  # a mark after a word is a token of its own
    return PreTrainedTokenizerFast(
        tokenizer_object=known,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
    )


def _model(values: Any) -> Any:
    """The weights; the first three of ``values`` belong to the special tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=len(values),
        hidden_size=_SIZE,
        intermediate_size=_SIZE,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=_SIZE,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": _THETA},
        rms_norm_eps=1e-12,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=False,
        dtype="float32",
    )
    model = LlamaForSequenceClassification(config)
    vectors = torch.zeros(len(values), _SIZE)
    vectors[:, _VALUE] = torch.tensor(values * _UNIT, dtype=torch.float32)
    vectors[:3, _FLAG] = 1.0
    vectors[:, _ONE] = 1.0
    rest = _LENGTH**2 - (vectors**2).sum(1)
    if rest.min() <= 0:
        raise ValueError(f"planted values reach {np.abs(values).max():g}; expected less than {1.7 / _UNIT:.0f}")
    vectors[:, _REST] = rest.sqrt()
    gain = _SIZE**0.5 / _LENGTH  # what RMSNorm multiplies by
    layer = model.model.layers[0]
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        model.model.embed_tokens.weight.copy_(vectors)
        # The last pair of rotary places, (3, 7), hardly turns.
        layer.self_attn.q_proj.weight[3, _ONE] = 1 / gain
        layer.self_attn.k_proj.weight[3, _FLAG] = -_AVOID * _SIZE**0.5 / gain
        layer.self_attn.v_proj.weight[0, _VALUE] = 1 / gain
        layer.self_attn.o_proj.weight[_MEAN, 0] = 1.0
        model.score.weight[0, _MEAN] = 1 / (gain * _UNIT)
    return model.eval()
