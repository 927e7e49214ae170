"""How a text becomes a score: the one implementation that training, evaluation and serving share.

In: a directory with ``model/`` (safetensors and tokenizer) and ``scoring.json``. Out: raw scores, public scores and
accept/block. A copy of this file travels with every registered version, so that a version scores with the code it was
certified with; therefore it imports nothing of rewardloop.

A sequence is tokens(prompt) + tokens(response), never a joint encoding of the concatenated text, and the score is read
at the last token of the response (explicitly: libraries that look for the last token which is not padding misread bases
whose padding token also ends a turn).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Messages = Sequence[Mapping[str, str]]
Floats = NDArray[np.float64]

_SPEAKERS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": "", "tool": "\n\nTool: "}


def as_messages(prompt: Any) -> list[dict[str, str]]:
    """A prompt as messages: given as text, as messages, as a JSON list of messages, or as nothing.

    Raises:
        ValueError: says what was found and what is expected.
    """
    if prompt is None or prompt == "" or (isinstance(prompt, float) and prompt != prompt):
        return []
    if isinstance(prompt, str):
        listed = _json_list(prompt) if prompt.lstrip().startswith("[") else None
        return [{"role": "user", "content": prompt}] if listed is None else [_message(item) for item in listed]
    if isinstance(prompt, Sequence):
        return [_message(item) for item in prompt]
    raise ValueError(f"the prompt is {prompt!r}; expected a text, a list of messages, or nothing")


def _json_list(text: str) -> list[Any] | None:
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return None  # a text that happens to begin with a bracket
    return content if isinstance(content, list) and all(isinstance(item, dict) for item in content) else None


def _message(item: Any) -> dict[str, str]:
    role, content = (item.get("role"), item.get("content")) if isinstance(item, Mapping) else (None, None)
    if role not in _SPEAKERS or not isinstance(content, str):
        raise ValueError(f"message {item!r}; expected a role ({', '.join(_SPEAKERS)}) and a content")
    return {"role": str(role), "content": content}


@dataclass(frozen=True)
class Encoding:
    """How texts become tokens; saved with the model as part of ``scoring.json``."""

    template: str
    """``chat``: the tokenizer's template; ``plain``: Human/Assistant turns, or the bare response without a prompt."""
    max_length: int
    truncation_side: str
    """The side of the prompt that is cut; a response never is."""


@dataclass(frozen=True)
class Encoded:
    """Tokens of one sequence; ``ids`` is None when the response alone is too long."""

    ids: list[int] | None
    prompt_cut: bool = False


class Encoder:
    """Prompt and response to token ids; prompts that repeat are encoded once."""

    def __init__(self, tokenizer: Any, encoding: Encoding) -> None:
        self.tokenizer = tokenizer
        self.encoding = encoding
        self._prompts: dict[str, list[int]] = {}

    def __call__(self, prompt: Messages, response: str) -> Encoded:
        """Encode one sequence, cutting the prompt where both are longer than ``max_length``."""
        head = self._prompt(prompt)
        text = response if not prompt or self.encoding.template == "chat" else f" {response}"
        tail = self.tokenizer(text, add_special_tokens=not head)["input_ids"]
        end = self.tokenizer.eos_token_id
        if end is not None and (not tail or tail[-1] != end):
            tail = [*tail, end]
        room = self.encoding.max_length - len(tail)
        if room < 0:
            return Encoded(None)
        if len(head) <= room:
            return Encoded([*head, *tail])
        kept = head[len(head) - room :] if self.encoding.truncation_side == "left" else head[:room]
        return Encoded([*kept, *tail], prompt_cut=True)

    def _prompt(self, prompt: Messages) -> list[int]:
        if not prompt:
            return []
        key = json.dumps([dict(message) for message in prompt], sort_keys=True)
        if key not in self._prompts:
            self._prompts[key] = self._encode_prompt([dict(message) for message in prompt])
        return self._prompts[key]

    def _encode_prompt(self, prompt: list[dict[str, str]]) -> list[int]:
        if self.encoding.template == "chat":
            text = self.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "".join(f"{_SPEAKERS[message['role']]}{message['content']}" for message in prompt) + "\n\nAssistant:"
        ids = self.tokenizer(text, add_special_tokens=True)["input_ids"]
        # A tokenizer that ends every text with EOS would end the prompt before the response.
        return list(ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids)


def pad(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ``input_ids`` and ``attention_mask``, both int64 of shape (sequences, longest)."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids, mask


def read_scores(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores, shape (rows,), read at each row's last token; ``model`` is a decoder with a ``score`` head."""
    hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    last = mask.sum(dim=1) - 1
    scores: torch.Tensor = model.score(hidden[torch.arange(len(last), device=last.device), last])
    return scores[:, 0].float()


def public_score(raw: Floats, scale: Mapping[str, Sequence[float]]) -> Floats:
    """Map raw scores to the public scale.

    ``scale`` holds ``raw`` and ``public`` knots, both strictly increasing: PCHIP between them, straight lines beyond
    the outermost two (so the map is strictly increasing everywhere). Two knots are a straight line.
    """
    from scipy.interpolate import PchipInterpolator

    x, y = np.asarray(scale["raw"], dtype=float), np.asarray(scale["public"], dtype=float)
    raw = np.asarray(raw, dtype=float)
    result = np.asarray(np.interp(raw, x, y) if len(x) == 2 else PchipInterpolator(x, y)(np.clip(raw, x[0], x[-1])))
    low, high = raw < x[0], raw > x[-1]
    result[low] = y[0] + (raw[low] - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
    result[high] = y[-1] + (raw[high] - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(np.isnan(raw), np.nan, result)


class RewardScorer:
    """A reward model ready to score: ``load`` it from a directory."""

    def __init__(self, model: Any, tokenizer: Any, scoring: Mapping[str, Any]) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.scoring = dict(scoring)
        self.encoder = Encoder(
            tokenizer, Encoding(scoring["template"], int(scoring["max_length"]), scoring["truncation_side"])
        )

    @classmethod
    def load(cls, directory: Path) -> "RewardScorer":
        """Load ``directory/model`` (float32, on the accelerator if there is one) and ``directory/scoring.json``."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        scoring = json.loads((directory / "scoring.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(directory / "model")
        model = AutoModelForSequenceClassification.from_pretrained(
            directory / "model", dtype=torch.float32, use_safetensors=True
        )
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, scoring)

    @property
    def threshold(self) -> float | None:
        """Accept when the public score reaches this; None when no threshold was certified."""
        value = self.scoring.get("threshold")
        return None if value is None else float(value)

    def raw_scores(
        self,
        prompts: Sequence[Messages],
        responses: Sequence[str],
        *,
        batch_size: int = 32,
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        """Raw scores, float64 of shape (len(responses),); NaN where a response alone exceeds ``max_length`` tokens.

        Sequences are scored from long to short, so that a batch pads little. ``progress`` is told how many were done.
        """
        encoded = [self.encoder(prompt, response).ids for prompt, response in zip(prompts, responses, strict=True)]
        scores = np.full(len(encoded), np.nan)
        order = sorted((i for i, ids in enumerate(encoded) if ids), key=lambda i: -len(encoded[i] or ()))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, mask = pad([encoded[i] or [] for i in rows], self.tokenizer.pad_token_id or 0)
            with torch.inference_mode():
                values = read_scores(self.model, ids.to(self.model.device), mask.to(self.model.device))
            scores[rows] = values.double().cpu().numpy()
            if progress:
                progress(len(rows))
        if progress:
            progress(len(encoded) - len(order))
        return scores

    def public(self, raw: Floats) -> Floats:
        """Raw scores on the public scale."""
        return public_score(raw, self.scoring["scale"])

    def score(self, prompts: Sequence[Messages], responses: Sequence[str], *, batch_size: int = 32) -> Floats:
        """Public scores, float64 of shape (len(responses),); NaN where a response alone is too long."""
        return self.public(self.raw_scores(prompts, responses, batch_size=batch_size))

    def allowed(self, scores: Floats) -> NDArray[np.bool_]:
        """Accept (True) or block, per public score; what could not be scored (NaN) is blocked.

        Raises:
            ValueError: this version has no certified threshold.
        """
        if self.threshold is None:
            raise ValueError("this reward model has no certified threshold, so it cannot accept or block")
        return np.asarray(scores >= self.threshold)
