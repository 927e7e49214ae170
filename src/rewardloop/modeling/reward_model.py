"""A base model with a scalar head, and which of its weights train.

In: a base directory or hub id and the training settings. Out: a sequence-classification model with one label whose
``score`` head is trained in every method, and its tokenizer. Saving writes float32 safetensors with LoRA merged in.
"""

import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import torch

from rewardloop.config import ModelSettings, TrainingSettings
from rewardloop.errors import BadInputError
from rewardloop.modeling.scoring import Encoding, decoder_layers, speed_up_linear_layers

_DROPOUTS = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "hidden_dropout",
    "layerdrop",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "classifier_dropout",
)
_TEMPLATE_DAY = date(2024, 7, 26)
_TEMPLATE_DATE = re.compile(r"""strftime_now\(\s*(['"])(?P<format>.*?)\1\s*\)""")


def build_reward_model(base: str, settings: TrainingSettings) -> tuple[Any, Any]:
    """Load ``base`` with a fresh head (seeded) and freeze what ``settings.method`` does not train.

    Returns:
        (model in float32, tokenizer).

    Raises:
        BadInputError: the base has no ``score`` head (it is not a decoder), or fewer layers than ``top_layers``.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    config = AutoConfig.from_pretrained(base, num_labels=1, trust_remote_code=False)
    drop_nothing(config)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise BadInputError(
            f"model.base: {base}: {type(model).__name__} has no scalar head; choose a decoder base model"
        )
    speed_up_linear_layers(model)
    _set_padding(model, tokenizer, base)
    freeze_template(tokenizer)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if settings.method == "lora":
        return with_lora(model, settings), tokenizer
    if settings.method == "top_layers":
        _freeze_lower_layers(model, settings.top_layers, base)
    return model, tokenizer


def freeze_template(tokenizer: Any) -> None:
    """Replace today's date in the chat template by a fixed one: a score must not depend on the day."""
    if tokenizer.chat_template:
        tokenizer.chat_template = _TEMPLATE_DATE.sub(
            lambda match: repr(_TEMPLATE_DAY.strftime(match["format"])), tokenizer.chat_template
        )


def encoding_for(tokenizer: Any, settings: ModelSettings, *, has_prompts: bool) -> Encoding:
    """The chat template where the tokenizer has one and there are prompts, unless ``plain_text`` decides."""
    plain = settings.plain_text
    if plain is None:
        plain = not (has_prompts and tokenizer.chat_template)
    if not plain and not tokenizer.chat_template:
        raise BadInputError("model.plain_text: false, but the base's tokenizer has no chat template; set it to true")
    return Encoding("plain" if plain else "chat", settings.max_length, settings.truncation_side)


def scoring_module(model: Any) -> Any:
    """The module that ``read_scores`` takes: the model itself, without LoRA's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def save_reward_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write float32 safetensors and tokenizer to ``folder``; LoRA adapters are merged into the weights."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def weights_digest(folder: Path) -> str:
    """SHA-256 over names and bytes of the files in ``folder``: equal digests are equal models."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of what decides how texts become tokens: vocabulary, rules, special tokens and chat template."""
    rules = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else json.dumps(tokenizer.get_vocab())
    # Padding and truncation set for one call are part of the rules' text, but not of what a text becomes.
    content = json.loads(rules)
    if isinstance(content, dict):
        content.pop("padding", None)
        content.pop("truncation", None)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    text = json.dumps([content, special, tokenizer.chat_template], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _set_padding(model: Any, tokenizer: Any, base: str) -> None:
    # A padding token equal to EOS makes other libraries' pooling skip the real last token; prefer any other special.
    rows = model.get_input_embeddings().weight.shape[0]
    known = {
        token: tokenizer.convert_tokens_to_ids(token)
        for token in [tokenizer.pad_token, *tokenizer.all_special_tokens]
        if token is not None
    }
    inside = [token for token, number in known.items() if number is not None and number < rows]
    if tokenizer.pad_token not in inside or tokenizer.pad_token == tokenizer.eos_token:
        others = [token for token in inside if token != tokenizer.eos_token]
        chosen = "<|endoftext|>" if "<|endoftext|>" in others else next(iter([*others, *inside]), None)
        if chosen is None:
            named = f"token {tokenizer.pad_token!r} has number {known.get(tokenizer.pad_token)}"
            raise BadInputError(
                f"model.base: {base}: the padding {named if tokenizer.pad_token else 'token is missing'}, and no "
                f"special token is among the {rows:,} with an embedding; add one to the tokenizer and save it"
            )
        tokenizer.pad_token = chosen
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id


def drop_nothing(config: Any) -> None:
    """Set every dropout of ``config`` to 0."""
    # Dropout in a reward model only adds noise to the comparison of two answers (Stiennon 2020 trains without). Some
    # bases call it as a function, so the configuration is the place to turn it off.
    for name in _DROPOUTS:
        if getattr(config, name, None):
            setattr(config, name, 0.0)


def _freeze_lower_layers(model: Any, top_layers: int, base: str) -> None:
    layers = decoder_layers(model)
    if top_layers > len(layers):
        raise BadInputError(f"training.top_layers: found {top_layers}; {base} has {len(layers)} layers")
    for parameter in model.base_model.parameters():
        parameter.requires_grad = False
    trained = {id(parameter) for layer in layers[-top_layers:] for parameter in layer.parameters()}
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    embeddings = {
        id(parameter)
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters()
    }
    for parameter in model.base_model.parameters():
        # What is neither a layer nor an embedding is the final norm (and projections around it).
        parameter.requires_grad = id(parameter) in trained or (id(parameter) not in inside | embeddings)


def with_lora(model: Any, settings: TrainingSettings) -> Any:
    """Adapters on all linear layers; they and the head train."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,  # also saves and trains the head
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        modules_to_save=["score"],
    )
    return speed_up_linear_layers(get_peft_model(model, config))
