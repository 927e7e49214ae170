"""How a model reads packed rows: attention that follows the blocks, or, where a base cannot, one padded row each.

In: a sequence-classification model. Out: a ``Reading`` that has been tried on the model itself: the scores of a small
packed row must equal the padded ones, otherwise the model is read padded and ``Reading.reason`` says why.

``packed``: every part of the row is attended to by itself, through scaled_dot_product_attention with an explicit mask
(CPU), or the whole row through FlexAttention with a sparse block mask (CUDA). ``masked``: one dense mask over the row,
for bases with attention classes of their own. ``padded``: one row per response (ALiBi, recurrent layers, ...).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .last_layer import LastLayer
from .packing import Block, PackedRow, pack, pad

# A copy of this package travels with every version: each copy registers its own function.
_NAME = f"packed_{__name__.partition('.')[0]}"
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_DENSE_MASK = ("gptj", "falcon")
"""Bases that take a mask of any form, but not another attention function."""
_UNSUPPORTED = ("s_aux", "position_bias")
_TOLERANCE = 1e-4
"""Of a score, relative where that is above 1; float32 rounding over a deep model stays far below."""
_FLEX_MULTIPLE = 128


@dataclass(frozen=True)
class Reading:
    """How rows are put to one model."""

    kind: Literal["packed", "masked", "padded"]
    flex: bool = False
    """FlexAttention instead of attention part by part."""
    reason: str = ""
    """Why the model is read padded."""

    @property
    def multiple(self) -> int:
        """Row lengths are multiples of this."""
        return _FLEX_MULTIPLE if self.flex else 1


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed: PackedRow | None = None,
    flex: bool = False,
    **options: Any,
) -> tuple[Tensor, None]:
    """An attention function as transformers calls it; without ``packed`` it is transformers' own for SDPA.

    Args:
        module: the attention layer.
        query: shape (1, heads, T, head size).
        key: shape (1, key heads, T, head size).
        value: shape (1, key heads, T, head size).
        attention_mask: of calls without ``packed``.
        dropout: 0 here: reward models drop nothing.
        scaling: of the products; None: one over the root of the head size.
        sliding_window: how many positions back a token sees; None: all.
        softcap: largest absolute product, approached by tanh (Gemma 2); None: unlimited.
        packed: the row.
        flex: compute with FlexAttention.
        options: what else the layer passes on.

    Returns:
        (outputs of shape (1, T, heads, head size), None).
    """
    if packed is None and softcap is not None:  # transformers' SDPA refuses it
        return _softcapped_call(query, key, value, attention_mask, scaling, softcap), None
    if packed is None:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        options |= {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
        result: tuple[Tensor, None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, **options
        )
        return result
    unknown = [name for name in _UNSUPPORTED if options.get(name) is not None]
    if unknown or dropout:
        raise NotImplementedError(f"attention with {unknown or 'dropout'} cannot be packed")
    if flex:
        out = _flex(query, key, value, packed, scaling, sliding_window, softcap)
    else:
        out = _by_part(query, key, value, packed, scaling, sliding_window, softcap)
    return out.transpose(1, 2).contiguous(), None


def leave_parts_uncompiled() -> None:
    """Call this before layers are compiled: every row has other parts, and each would be compiled anew.

    As a decorator it would load torch's compiler, for seconds, in every process that scores a text.
    """
    global _by_part
    _by_part = torch.compiler.disable(_by_part)  # type: ignore[no-untyped-call]


def _by_part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row: PackedRow,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    # Query heads that share a key head are put one below the other, so that keys need not be repeated.
    shared = query.shape[1] // key.shape[1]
    lengths = [part.end - part.start for part in row.parts]
    queries, keys, values = (torch.split(whole, lengths, 2) for whole in (query, key, value))
    place = {part.start: number for number, part in enumerate(row.parts)}
    outputs = []
    for number, (part, mask) in enumerate(zip(row.parts, row.part_masks(window), strict=True)):
        q, k, v = queries[number], keys[number], values[number]
        if part.prompt is not None:
            prompt = place[part.prompt[0]]
            k, v = torch.cat([keys[prompt], k], 2), torch.cat([values[prompt], v], 2)
        folded = q.reshape(1, k.shape[1], shared * q.shape[2], q.shape[3])
        seen = mask.repeat(shared, 1)
        if softcap is None:
            out = scaled_dot_product_attention(folded, k, v, seen, scale=scaling)
        else:
            out = _softcapped(folded, k, v, seen, scaling, softcap)
        outputs.append(out.reshape(q.shape[:3] + out.shape[3:]))
    return torch.cat(outputs, 2)


def _softcapped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float | None, softcap: float) -> Tensor:
    products = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    products = (softcap * torch.tanh(products / softcap)).float()
    # The smallest number, not minus infinity: padding on the left sees nothing, and must not become NaN.
    return products.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(-1).to(v.dtype) @ v


def _softcapped_call(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """An ordinary call of a model that was prepared for packed rows, shape (rows, T, heads, head size)."""
    rows, heads, length, size = query.shape
    shared = heads // key.shape[1]
    if mask is None:  # transformers leaves it out where it is causal
        mask = query.new_ones((length, key.shape[2]), dtype=torch.bool).tril(key.shape[2] - length)[None, None]
    folded = query.reshape(rows, key.shape[1], shared * length, size)
    out = _softcapped(folded, key, value, mask.repeat(1, 1, shared, 1), scaling, softcap)
    return out.reshape(query.shape).transpose(1, 2).contiguous()


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row: PackedRow,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    modify = None
    if softcap is not None:
        limit = softcap

        def modify(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return limit * torch.tanh(score / limit)

    # Rotary embeddings leave float32 behind where autocast made the values bfloat16.
    query, key = query.to(value.dtype), key.to(value.dtype)
    out: Tensor = _flex_function(query.device.type)(
        query,
        key,
        value,
        score_mod=modify,
        block_mask=row.block_mask(window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out


@cache
def _flex_function(device: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # Without compilation FlexAttention materializes all products; only tests do that, on the CPU.
    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention


def read_packed(model: Any, row: PackedRow, reading: Reading) -> Tensor:
    """Scores of the row's responses, float32 of shape (N,).

    ``model`` is a decoder with a ``score`` head, prepared by ``prepare_reading``.
    """
    scores: Tensor = model.score(read_hidden(model, row, reading, row.last_N))
    return scores[:, 0].float()


def read_hidden(model: Any, row: PackedRow, reading: Reading, wanted_W: Tensor) -> Tensor:
    """What the decoder gives for the tokens ``wanted_W`` of the row (indices in it), shape (W, hidden size)."""
    last_layer = LastLayer.of(model)
    last_layer.read_at(wanted_W)
    try:
        if reading.kind == "masked":
            index_T = torch.arange(len(row.ids_T), device=row.ids_T.device)
            seen = row.visible(index_T, index_T)[None, None]
            hidden = _base(model, row, attention_mask=_additive(seen, model)).last_hidden_state
        else:
            # Any mask of four dimensions keeps transformers from making one of its own.
            ignored = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=row.ids_T.device)
            hidden = _base(model, row, attention_mask=ignored, packed=row, flex=reading.flex).last_hidden_state
    finally:
        last_layer.read_at(None)
    wanted: Tensor = hidden[0, wanted_W]
    return wanted


def read_padded(model: Any, ids_RT: Tensor, mask_RT: Tensor) -> Tensor:
    """Scores, float32 of shape (rows,), read at each row's last token; ``model`` is a decoder with a ``score`` head."""
    hidden = model.base_model(input_ids=ids_RT, attention_mask=mask_RT, use_cache=False).last_hidden_state
    last = mask_RT.sum(dim=1) - 1
    scores: Tensor = model.score(hidden[torch.arange(len(last), device=last.device), last])
    return scores[:, 0].float()


def _base(model: Any, row: PackedRow, **options: Any) -> Any:
    return model.base_model(input_ids=row.ids_T[None], position_ids=row.position_T[None], use_cache=False, **options)


def _additive(seen: Tensor, model: Any) -> Tensor:
    if model.config._attn_implementation == "sdpa":
        return seen
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, torch.finfo(torch.float32).min)


def prepare_reading(model: Any, *, max_length: int, pad_id: int = 0) -> Reading:
    """Find out how ``model`` can be read, and make it ready for that.

    Args:
        model: a sequence-classification model with one label, in float32.
        max_length: of the sequences that will be read, in tokens.
        pad_id: any token of the vocabulary.
    """
    config = model.config
    kind, why = _possible(model)
    if kind == "padded":
        return Reading("padded", reason=why)
    prompt, responses = _trial(config, max_length)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.no_grad():
        ids, mask = pad([[*prompt, *response] for response in responses], pad_id)
        expected = read_padded(model, ids.to(device), mask.to(device))
        reading = Reading(kind, flex=kind == "packed" and device.type == "cuda")
        before = config._attn_implementation
        if kind == "packed":
            _register()
            model.set_attn_implementation(_NAME)
        try:
            blocks = [Block(prompt, tuple(responses)), Block([], (responses[0],))]
            row = pack(blocks, pad_id, multiple=reading.multiple).to(device)
            found = read_packed(model, row, reading)[: len(responses)]
            difference = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
            why = f"a packed row of {type(model).__name__} scores differently than padded ones (by {difference:.1e})"
        except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
            difference, why = float("nan"), f"{type(model).__name__}: {str(error).splitlines()[0]}"
    model.train(training)
    # On an accelerator float32 products may be rounded to fewer bits.
    if difference <= (_TOLERANCE if device.type == "cpu" else 1e-2):
        return reading
    if kind == "packed":
        model.set_attn_implementation(before)
    return Reading("padded", reason=why)


def _possible(model: Any) -> tuple[Literal["packed", "masked", "padded"], str]:
    config = model.config
    name = type(model).__name__
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "padded", f"{name}: ALiBi counts distance by place in the row"
    strange = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    if strange:
        return "padded", f"{name}: has layers of kind {', '.join(sorted(strange))}"
    if getattr(model, "_supports_attention_backend", False):
        return "packed", ""
    if config.model_type in _DENSE_MASK:
        return "masked", ""
    return "padded", f"{name}: takes neither a mask nor an attention function of ours"


def _trial(config: Any, max_length: int) -> tuple[list[int], list[list[int]]]:
    """A prompt and three responses; longer than a sliding window where real sequences can be."""
    window = getattr(config, "sliding_window", None) or 0
    length = window + 8 if 0 < window < max_length else 8
    tokens = [2 + place % max(1, min(200, config.vocab_size - 3)) for place in range(length + 20)]
    longest = max(1, min(length, max_length - 12))
    return tokens[:longest], [tokens[-12:-4], tokens[-7:], tokens[-5:-2]]


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, packed_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
