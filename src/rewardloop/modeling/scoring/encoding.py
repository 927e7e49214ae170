"""Prompt and response become tokens, the same way wherever a model is loaded.

In: messages and a response. Out: the tokens of the prompt and of the response. A sequence is tokens(prompt) +
tokens(response), never a joint encoding of the concatenated text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Messages = Sequence[Mapping[str, str]]

_PROMPTS_KEPT = 4096
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


def plain_turns(prompt: Messages) -> str:
    """A prompt as Human and Assistant turns, up to where the answer begins."""
    return "".join(f"{_SPEAKERS[message['role']]}{message['content']}" for message in prompt) + "\n\nAssistant:"


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
    """Tokens of one sequence: ``prompt`` (maybe cut), then ``response`` (never cut)."""

    prompt: list[int]
    response: list[int]
    prompt_cut: bool = False

    @property
    def ids(self) -> list[int]:
        """The whole sequence."""
        return [*self.prompt, *self.response]


class Encoder:
    """Prompt and response to token ids; prompts that repeat are encoded once."""

    def __init__(self, tokenizer: Any, encoding: Encoding) -> None:
        self.tokenizer = tokenizer
        self.encoding = encoding
        self._prompts: dict[str, list[int]] = {}

    def __call__(self, prompt: Messages, response: str) -> Encoded | None:
        """Encode one sequence, cutting the prompt where both are longer than ``max_length``.

        None when there is nothing to score: the response alone is longer than ``max_length``, or nothing has tokens.
        """
        head = self._prompt(prompt)
        text = response if not prompt or self.encoding.template == "chat" else f" {response}"
        tail = self.tokenizer(text, add_special_tokens=not head)["input_ids"]
        end = self.tokenizer.eos_token_id
        if end is not None and (not tail or tail[-1] != end):
            tail = [*tail, end]
        room = self.encoding.max_length - len(tail)
        if room < 0 or not (head or tail):
            return None
        if len(head) <= room:
            return Encoded(head, tail)
        kept = head[len(head) - room :] if self.encoding.truncation_side == "left" else head[:room]
        return Encoded(kept, tail, prompt_cut=True)

    def _prompt(self, prompt: Messages) -> list[int]:
        if not prompt:
            return []
        key = json.dumps([dict(message) for message in prompt], sort_keys=True)
        if key not in self._prompts:
            if len(self._prompts) >= _PROMPTS_KEPT:  # a stream of a million prompts must not be kept
                self._prompts.clear()
            self._prompts[key] = self._encode_prompt([dict(message) for message in prompt])
        return self._prompts[key]

    def _encode_prompt(self, prompt: list[dict[str, str]]) -> list[int]:
        if self.encoding.template == "chat":
            text = self.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = self.tokenizer(plain_turns(prompt), add_special_tokens=True)["input_ids"]
        # A tokenizer that ends every text with EOS would end the prompt before the response.
        return list(ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids)
