"""Whether a base model can be loaded, by its configuration and tokenizer alone, and how many weights it has.

In: ``model.base`` or ``align.policy``, and where conversions are kept. Out: a ``Finding`` and a ``BaseSize``. Weights
are neither read nor fetched: the model is built without them, on torch's ``meta`` device.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.modeling import base as bases
from rewardloop.modeling.scoring.last_layer import decoder_layers
from rewardloop.prerequisites import Finding, failed

CHECK = "base model"


@dataclass(frozen=True)
class BaseSize:
    """A model's numbers of weights."""

    weights: int
    layers: tuple[int, ...]
    """Weights of each transformer layer, from below."""
    edges: int
    """Sum of rows and columns over all matrices of the layers: a LoRA adapter of rank r has r times as many weights."""
    converted: bool
    """Whether a copy in safetensors is made of it first."""

    def trained(self, method: str, *, top_layers: int = 0, lora_rank: int = 0, lora_layers: int | None = None) -> int:
        """Weights that learn; a score head and norms, which are small beside them, are left out."""
        if method == "top_layers":
            return sum(self.layers[-top_layers:])
        if method == "lora":
            share = 1.0 if lora_layers is None else min(1.0, lora_layers / max(1, len(self.layers)))
            return round(self.edges * lora_rank * share)
        return self.weights


def check_base(setting: str, base: str, cache: Path) -> tuple[Finding, BaseSize | None]:
    """Read the configuration and the tokenizer of ``base``.

    Args:
        setting: what names it, ``model.base`` for example.
        base: as ``modeling.base.prepare_base`` takes it.
        cache: where that keeps conversions.

    Returns:
        The finding, and the size where it could be read.
    """
    mend = f"{setting}, or a network and a token (HF_TOKEN) for a model of the hub"
    try:
        place, arguments = _place(base, cache)
        config = _load_config(place, arguments)
        unread = _check_tokenizer(place, arguments, config)
    except BadInputError as error:
        return failed(CHECK, error, setting), None
    except Exception as error:  # transformers has no error type of its own for what it cannot read
        return failed(CHECK, error, mend), None
    size = _size(config, converted="gguf_file" in arguments)
    weights = f"{size.weights / 1e6:,.0f} million" if size.weights >= 1e6 else f"{size.weights:,}"
    words = f"{base}: {config.model_type}, {weights} weights; {unread or 'its tokenizer loads'}"
    return Finding(CHECK, "ok", words), size


def _place(base: str, cache: Path) -> tuple[str, dict[str, Any]]:
    """What ``from_pretrained`` takes, without converting or fetching weights."""
    kind, colon, rest = base.partition(":")
    if colon and kind == "package":
        source = bases.packaged_file(base, rest)
        converted = sorted(cache.glob(f"{source.stem}-*/config.json"))
        if converted:
            return str(converted[-1].parent), {}
        return str(source.parent), {"gguf_file": source.name}
    if (colon and kind == "random") or Path(base).is_dir():
        return bases.prepare_base(base, cache), {}
    return base, {}


def _load_config(place: str, arguments: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(place, trust_remote_code=False, **arguments)


def _check_tokenizer(place: str, arguments: dict[str, Any], config: Any) -> str:
    """Load it; or say why that waits."""
    from transformers import AutoTokenizer

    if arguments:
        return "model and tokenizer are converted once, at the first run"
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    if len(tokenizer) > config.vocab_size:
        raise BadInputError(
            f"{place}: its tokenizer has {len(tokenizer):,} tokens, the model knows {config.vocab_size:,}; choose a "
            "base whose parts belong together"
        )
    return ""


def _size(config: Any, *, converted: bool) -> BaseSize:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    layers = list(decoder_layers(model))
    matrices = [weight for layer in layers for weight in layer.parameters() if weight.ndim == 2]
    return BaseSize(
        weights=sum(weight.numel() for weight in model.parameters()),
        layers=tuple(sum(weight.numel() for weight in layer.parameters()) for layer in layers),
        edges=sum(sum(weight.shape) for weight in matrices),
        converted=converted,
    )
