"""A policy: a causal language model that answers prompts, as it is stored between steps and as it is run.

In: a folder with ``policy.json`` and, beside it, what was trained: ``model/`` (a fine-tuned start, or all weights),
``adapter/`` (LoRA on the start). Out: a ``Policy`` with its tokenizer, ready to generate, to be read or to be trained.
A base that was not changed is named, not copied.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.base import prepare_base, require_safetensors
from rewardloop.modeling.reward_model import drop_nothing, freeze_template, weights_digest
from rewardloop.modeling.scoring import (
    Messages,
    Reading,
    decoder_layers,
    plain_turns,
    prepare_reading,
    speed_up_linear_layers,
)
from rewardloop.modeling.token_logprobs import logits_of

_FILE = "policy.json"


@dataclass(frozen=True)
class PolicyInfo:
    """``policy.json``: what the weights of a policy are and how it is asked."""

    base: str
    """As in the configuration: a hub id, a directory, ``package:...`` or ``random:tiny``."""
    start: Literal["base", "sft"]
    """``sft``: ``model/`` has the fine-tuned start."""
    trained: Literal["", "adapter", "model"] = ""
    """What alignment changed: nothing, an adapter on the start, or all weights (then ``model/`` has them)."""
    plain_text: bool = False
    """The answer continues the prompt's text; else the chat template is used."""
    temperature: float = 0.7
    max_new_tokens: int = 128
    reward_model: str = ""
    """Digest of the reward model's files that it was aligned to."""
    scored: str = ""

    def write(self, folder: Path) -> None:
        """Write ``folder/policy.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "PolicyInfo":
        """Read ``folder/policy.json``.

        Raises:
            BadInputError: it is missing or not a policy's.
        """
        try:
            return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise BadInputError(f"{folder / _FILE}: is not a policy of rewardloop: {error}") from error


class Policy:
    """A loaded policy; ``model`` is a causal language model, perhaps with LoRA's adapters."""

    def __init__(
        self, model: Any, tokenizer: Any, *, plain_text: bool, rounded: bool = False, reading: Reading | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.plain_text = plain_text
        self.rounded = rounded
        """Frozen linear layers hold bfloat16 weights and products are computed in it."""
        self.reading = reading or prepare_policy_reading(model)
        """How rows of prompts with their answers are put to the model."""
        self.ends = _end_tokens(model, tokenizer)
        """Tokens that end an answer."""
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.ends)

    @property
    def causal_model(self) -> Any:
        """The causal language model without LoRA's wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.causal_model.parameters()).device
        return device

    @property
    def width(self) -> int:
        """Size of the hidden states that the head reads; some bases project them before (OPT-350M)."""
        return _width(self.causal_model)

    @property
    def context(self) -> int:
        """Tokens that fit into one sequence."""
        return int(getattr(self.causal_model.config, "max_position_embeddings", None) or 1 << 30)

    def prompt_ids(self, prompt: Messages) -> list[int]:
        """Tokens that the policy is asked with; never empty."""
        if self.plain_text:
            text = as_text(prompt)
            ids = list(self.tokenizer(text)["input_ids"])
            # A tokenizer that ends every text with EOS would end the prompt before the answer.
            ids = ids[:-1] if len(ids) > 1 and ids[-1] in self.ends else ids
        else:
            messages = [dict(message) for message in prompt]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if not ids:
            raise BadInputError(f"the prompt {prompt!r} has no tokens")
        return ids

    def text(self, prompt: Sequence[int], response: Sequence[int]) -> str:
        """An answer as text, without special tokens; where it continues the prompt's text, as it stands behind it."""
        if not self.plain_text:
            return self._decode(response)
        # Some tokenizers drop the space that a text begins with.
        head, whole = self._decode(prompt), self._decode([*prompt, *response])
        return whole[len(head) :] if whole.startswith(head) else self._decode(response)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def finished(self, response: Sequence[int]) -> bool:
        """Whether the answer came to an end of its own."""
        return bool(response) and response[-1] in self.ends

    def autocast(self) -> Any:
        """Compute in bfloat16 where the weights are rounded."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.rounded else nullcontext()

    @contextmanager
    def merged_adapters(self) -> Iterator[None]:
        """Adapters as part of the weights, which saves two products per layer; the weights come back bit for bit."""
        layers = [
            module
            for module in self.model.modules()
            if hasattr(module, "get_delta_weight") and module.active_adapters and not module.disable_adapters
        ]
        kept = [layer.get_base_layer().weight.data for layer in layers]
        try:
            with torch.no_grad():
                for layer, weight in zip(layers, kept, strict=True):
                    change = sum(layer.get_delta_weight(name) for name in layer.active_adapters)
                    layer.get_base_layer().weight.data = (weight.float() + change).to(weight.dtype)
            with self.model.disable_adapter() if layers else nullcontext():
                yield
        finally:
            for layer, weight in zip(layers, kept, strict=True):
                layer.get_base_layer().weight.data = weight

    @contextmanager
    def as_reference(self) -> Iterator[Any]:
        """The policy before alignment: adapters off. Without adapters there is no reference in the model."""
        if not hasattr(self.model, "disable_adapter"):
            raise ValueError("a policy without adapters is no reference of itself; load the start a second time")
        with self.model.disable_adapter():
            yield self.causal_model


def load_start(folder: Path, cache: Path, *, device: torch.device | str = "cpu", rounded: bool = False) -> Policy:
    """The policy that alignment starts from, in float32 or with rounded weights.

    Args:
        folder: with ``policy.json`` and, after fine-tuning, ``model/``.
        cache: where converted bases are kept.
        device: where the weights go.
        rounded: hold linear layers in bfloat16.
    """
    info = PolicyInfo.read(folder)
    place = start_place(folder, cache)
    model, tokenizer = load_causal_model(place)
    model.to(device).eval()
    reading = prepare_policy_reading(model)  # in float32: rounding would hide a difference
    if rounded:
        round_linear_layers(model)
    return Policy(model, tokenizer, plain_text=info.plain_text, rounded=rounded, reading=reading)


def load_policy(folder: Path, cache: Path, *, device: torch.device | str = "cpu", rounded: bool = False) -> Policy:
    """An aligned policy, or a start, as ``save_policy`` or ``train_sft`` left it; arguments as ``load_start``."""
    info = PolicyInfo.read(folder)
    if info.trained != "adapter":
        return load_start(folder, cache, device=device, rounded=rounded)
    from peft import PeftModel

    # PEFT would take a pickle where there is no other.
    require_safetensors(folder / "adapter", "the policy's adapter", ("adapter_model.safetensors",))
    start = load_start(folder, cache, device=device, rounded=rounded)
    model = PeftModel.from_pretrained(start.model, folder / "adapter").to(device).eval()
    speed_up_linear_layers(model)
    return Policy(model, start.tokenizer, plain_text=info.plain_text, rounded=rounded, reading=start.reading)


def start_place(folder: Path, cache: Path) -> str:
    """Directory or hub id of the start's weights."""
    info = PolicyInfo.read(folder)
    if info.start == "sft" or info.trained == "model":
        return str(folder / "model")
    return prepare_base(info.base, cache)


def policy_digest(folder: Path) -> str:
    """SHA-256 that names a policy: its weights, and how it is asked."""
    total = hashlib.sha256((folder / _FILE).read_bytes())
    for name in ("adapter", "model"):
        if (folder / name).is_dir():
            total.update(f"{name}\0{weights_digest(folder / name)}".encode())
    return total.hexdigest()


def start_tokenizer(folder: Path, cache: Path) -> Any:
    """The start's tokenizer alone."""
    return place_tokenizer(start_place(folder, cache))


def place_tokenizer(place: str) -> Any:
    """The tokenizer of a directory or hub id, its chat template frozen."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    freeze_template(tokenizer)
    return tokenizer


def load_causal_model(place: str) -> tuple[Any, Any]:
    """(model in float32 without dropout, tokenizer) of a directory or hub id."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    drop_nothing(config)
    model = AutoModelForCausalLM.from_pretrained(
        place, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return speed_up_linear_layers(model), place_tokenizer(place)


def as_text(prompt: Messages) -> str:
    """A prompt as the text that a plain answer continues: its own, or turns as the reward model's encoding has them."""
    return str(prompt[0]["content"]) if len(prompt) == 1 else plain_turns(prompt)


def asks_plainly(tokenizer: Any, wanted: bool | None) -> bool:
    """Whether answers continue the prompt's text.

    Raises:
        BadInputError: the chat template is asked for and there is none.
    """
    if wanted is None:
        return not tokenizer.chat_template
    if not wanted and not tokenizer.chat_template:
        raise BadInputError("align.plain_text: false, but the policy's tokenizer has no chat template; set it to true")
    return wanted


def with_adapters(policy: Policy, settings: AlignSettings) -> Policy:
    """LoRA on all linear layers of the last ``lora_layers`` layers, in float32; only they train."""
    from peft import LoraConfig, TaskType, get_peft_model

    layers = len(decoder_layers(policy.model))
    top = settings.lora_layers
    if top is not None and top > layers:
        raise BadInputError(f"align.lora_layers: found {top}; the policy has {layers} layers")
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules=_targets(policy.model, layers if top is None else top),
    )
    torch.manual_seed(settings.seed)
    # Adapters of rounded layers stay float32: small steps would be lost in bfloat16.
    model = speed_up_linear_layers(get_peft_model(policy.model, config, autocast_adapter_dtype=True))
    return Policy(model, policy.tokenizer, plain_text=policy.plain_text, rounded=policy.rounded, reading=policy.reading)


def save_policy(policy: Policy, info: PolicyInfo, folder: Path, start: Path) -> None:
    """Write an aligned policy as safetensors: all weights, or its adapter, with which a fine-tuned start travels."""
    info.write(folder)
    if info.trained == "adapter":
        policy.model.save_pretrained(folder / "adapter")
        # PEFT writes a page about the model and the path of the base on this machine; neither is of use elsewhere.
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        _forget_place(folder / "adapter" / "adapter_config.json")
        if info.start == "sft":
            shutil.copytree(start / "model", folder / "model", dirs_exist_ok=True)
    else:
        policy.model.save_pretrained(folder / "model")
        policy.tokenizer.save_pretrained(folder / "model")


def prepare_policy_reading(causal: Any, max_length: int = 2048) -> Reading:
    """How rows can be put to a causal model in float32; tried on the model itself with a scalar head of ours.

    Raises:
        BadInputError: the model makes its logits in a way that is not known here.
    """
    _check_logits(causal)
    causal.score = _Probe(_width(causal)).to(next(causal.parameters()).device)
    try:
        return prepare_reading(causal, max_length=max_length)
    finally:
        del causal.score


@torch.no_grad()
def _check_logits(causal: Any) -> None:
    # Cohere's, HyperCLOVA's and Falcon-H1's are scaled behind the head: answers would come from another temperature.
    ids = torch.tensor([[0, 1, 2, 3]], device=next(causal.parameters()).device)
    training = causal.training
    causal.eval()
    expected = causal(input_ids=ids, use_cache=False).logits.float()
    found = logits_of(causal, causal.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    causal.train(training)
    if float((found - expected).abs().max()) > 1e-2 * float(expected.abs().max()):
        raise BadInputError(
            f"align.policy: {type(causal).__name__} scales its logits in a way that is not known here; choose a base "
            "of another kind"
        )


def _width(causal: Any) -> int:
    return int(causal.get_output_embeddings().weight.shape[1])


class _Probe(torch.nn.Module):
    """A fixed direction in which hidden states of two readings are compared."""

    direction: torch.Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        direction = torch.randn(hidden_size, 1, generator=torch.Generator().manual_seed(0)) / hidden_size**0.5
        self.register_buffer("direction", direction)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shape (..., 1)."""
        return hidden.float() @ self.direction


def round_linear_layers(model: Any) -> None:
    """Linear layers take bfloat16 weights and stop training; what lies between them stays float32."""
    model.requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            # New parameters: a head that shares its weights with the embedding must not round that too.
            layer.weight = torch.nn.Parameter(layer.weight.to(torch.bfloat16), requires_grad=False)
            if layer.bias is not None:
                layer.bias = torch.nn.Parameter(layer.bias.to(torch.bfloat16), requires_grad=False)


def _targets(model: Any, top: int) -> str:
    """A pattern for the linear layers of the last ``top`` layers, by their names in ``model``."""
    layers = decoder_layers(model)
    names = {id(module): name for name, module in model.named_modules()}
    chosen = [
        names[id(module)]
        for layer in layers[len(layers) - top :]
        for module in layer.modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's name for a linear layer
    ]
    return "|".join(re.escape(name) for name in chosen)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    config = model.generation_config if getattr(model, "generation_config", None) is not None else model.config
    found = [tokenizer.eos_token_id, config.eos_token_id]
    flat = [number for item in found for number in (item if isinstance(item, list) else [item])]
    ends = frozenset(int(number) for number in flat if number is not None)
    if not ends:
        raise BadInputError("align.policy: the policy's tokenizer names no token that ends an answer (eos_token)")
    return ends


def _forget_place(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    content["base_model_name_or_path"] = None
    file.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
