"""A reward model ready to score: the one scorer of evaluation, alignment, serving and the command line.

In: a directory with ``model/`` (safetensors and tokenizer), ``scoring.json`` and, where bfloat16 may be used,
``parity.json``. Out: raw scores, public scores and accept/block, or accept/review/block.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .attention import prepare_reading, read_packed, read_padded
from .encoding import Encoded, Encoder, Encoding, Messages
from .linear import speed_up_linear_layers
from .packing import fill_rows, pack, pad, share_prompts, split_blocks
from .scale import Floats, decisions, public_score

_CHUNK = 2048
"""Rows that are looked at together, to share prompts and to sort by length."""
_TOKENS = 2048
"""Tokens that go through the model at once, if nothing else is said."""
_CLOSE = 4.0
"""Scores this many of the fixture's largest rounding differences from a threshold are computed in float32 again."""
_ROUNDING = 0.05
"""bfloat16 is used while the fixture's scores move by less than this share of their spread."""


class RewardScorer:
    """A reward model ready to score: ``load`` it from a directory."""

    def __init__(self, model: Any, tokenizer: Any, scoring: Mapping[str, Any]) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.scoring = dict(scoring)
        self.encoder = Encoder(
            tokenizer, Encoding(scoring["template"], int(scoring["max_length"]), scoring["truncation_side"])
        )
        self.reading = prepare_reading(self.model, max_length=self.encoder.encoding.max_length)
        self.rounding: float | None = None
        """Largest difference of a fixture's raw score in bfloat16; None: everything is scored in float32."""
        self._rounded: Any = None

    @classmethod
    def load(cls, directory: Path) -> "RewardScorer":
        """Load ``directory/model`` (float32, on the accelerator if there is one) and ``directory/scoring.json``."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        scoring = json.loads((directory / "scoring.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(directory / "model", trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory / "model", dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        speed_up_linear_layers(model)
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, scoring)

    @property
    def threshold(self) -> float | None:
        """Accept when the public score reaches this; None when no threshold was certified."""
        value = self.scoring.get("threshold")
        return None if value is None else float(value)

    @property
    def block_threshold(self) -> float | None:
        """A public score below it is blocked, between both a person decides; None: no three-way decision."""
        value = self.scoring.get("block_threshold")
        return None if value is None else float(value)

    def allow_rounding(self, fixture: Mapping[str, Any]) -> bool:
        """Score in bfloat16 from now on, if that is faster here and changes no decision.

        The fixture's texts are scored both ways. Rounding is refused where a score moves by more than a twentieth of
        the fixture's spread, or a decision changes; later, scores near a threshold are computed in float32 again.

        Args:
            fixture: ``prompts`` and ``responses`` of ``parity.json``.

        Returns:
            whether bfloat16 is used.
        """
        if not fast_bfloat16(self.model.device) or len(fixture["responses"]) < 2:
            return False
        exact = self._raw(fixture["prompts"], fixture["responses"])
        self._rounded = _with_rounded_weights(self.model)
        rounded = self._raw(fixture["prompts"], fixture["responses"], model=self._rounded)
        moved = float(np.nanmax(np.abs(rounded - exact)))
        decided = self.threshold is None or bool(
            (self.decisions(self.public(rounded)) == self.decisions(self.public(exact))).all()
        )
        if decided and moved <= _ROUNDING * float(np.nanstd(exact)):
            self.rounding = moved
        else:
            self._rounded = None
        return self._rounded is not None

    def raw_scores(
        self,
        prompts: Sequence[Messages],
        responses: Sequence[str],
        *,
        tokens_per_batch: int = _TOKENS,
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        """Raw scores, float64 of shape (len(responses),); NaN where a response alone exceeds ``max_length`` tokens.

        Prompts that repeat are computed once for all their responses. ``progress`` is told how many were done.
        """
        scores = np.full(len(responses), np.nan)
        for start in range(0, len(responses), _CHUNK):
            part = slice(start, start + _CHUNK)
            scores[part] = self._decided(prompts[part], responses[part], tokens_per_batch, progress)
        return scores

    def stream(
        self, rows: Iterable[Mapping[str, Any]], *, tokens_per_batch: int = _TOKENS
    ) -> Iterator[tuple[Mapping[str, Any], float]]:
        """(row, public score) for rows of ``prompt`` (messages) and ``response``, in their order.

        Only some thousand rows are in memory at a time, so a stream may be of any length.
        """
        source = iter(rows)
        while chunk := list(islice(source, _CHUNK)):
            raw = self.raw_scores(
                [row["prompt"] for row in chunk],
                [row["response"] for row in chunk],
                tokens_per_batch=tokens_per_batch,
            )
            yield from zip(chunk, self.public(raw).tolist(), strict=True)

    def public(self, raw: Floats) -> Floats:
        """Raw scores on the public scale."""
        return public_score(raw, self.scoring["scale"])

    def score(self, prompts: Sequence[Messages], responses: Sequence[str]) -> Floats:
        """Public scores, float64 of shape (len(responses),); NaN where a response alone is too long."""
        return self.public(self.raw_scores(prompts, responses))

    def allowed(self, scores: Floats) -> NDArray[np.bool_]:
        """Accept (True) or not, per public score; what could not be scored (not a finite number) is not.

        Raises:
            ValueError: this version has no certified threshold.
        """
        return np.asarray(self.decisions(scores) == "accept")

    def decisions(self, scores: Floats) -> NDArray[np.str_]:
        """accept, review or block, per public score; review only where this version has a block threshold.

        What could not be scored (not a finite number) is for review, or blocked where there is none.

        Raises:
            ValueError: this version has no certified threshold.
        """
        if self.threshold is None:
            raise ValueError("this reward model has no certified threshold, so it cannot accept or block")
        return decisions(scores, self.threshold, self.block_threshold)

    def _decided(
        self,
        prompts: Sequence[Messages],
        responses: Sequence[str],
        tokens: int,
        progress: Callable[[int], object] | None,
    ) -> Floats:
        """Scores of one chunk: rounded where that is allowed and cannot decide, else in float32."""
        if self.rounding is None:
            return self._raw(prompts, responses, tokens, progress=progress)
        scores = self._raw(prompts, responses, tokens, model=self._rounded, progress=progress)
        if self.threshold is not None:
            reach = _CLOSE * self.rounding
            low, high = self.decisions(self.public(scores - reach)), self.decisions(self.public(scores + reach))
            close = np.flatnonzero(low != high).tolist()
            if close:
                scores[close] = self._raw([prompts[i] for i in close], [responses[i] for i in close], tokens)
        return scores

    def _raw(
        self,
        prompts: Sequence[Messages],
        responses: Sequence[str],
        tokens: int = _TOKENS,
        *,
        model: Any = None,
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        encoded = [self.encoder(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        known = [place for place, sequence in enumerate(encoded) if sequence is not None]
        sequences = [sequence for sequence in encoded if sequence is not None]
        scores = np.full(len(encoded), np.nan)
        read = self._read_padded if self.reading.kind == "padded" else self._read_packed
        with torch.inference_mode(), _autocast(self.model.device, model is not None):
            for places, values in read(model if model is not None else self.model, sequences, tokens):
                scores[[known[place] for place in places]] = values.double().cpu().numpy()
                if progress:
                    progress(len(places))
        if progress:
            progress(len(encoded) - len(known))
        return scores

    def _read_packed(
        self, model: Any, sequences: Sequence[Encoded], tokens: int
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        blocks, order = share_prompts([(sequence.prompt, sequence.response) for sequence in sequences])
        done = 0
        for row in fill_rows(split_blocks(blocks, tokens), tokens):
            packed = pack(row, self.tokenizer.pad_token_id or 0, multiple=self.reading.multiple)
            scored = len(packed.last_N)
            yield order[done : done + scored], read_packed(model, packed.to(model.device), self.reading)
            done += scored

    def _read_padded(
        self, model: Any, sequences: Sequence[Encoded], tokens: int
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        order = sorted(range(len(sequences)), key=lambda place: -len(sequences[place].ids))
        while order:
            count = max(1, tokens // len(sequences[order[0]].ids))
            places, order = order[:count], order[count:]
            ids, mask = pad([sequences[place].ids for place in places], self.tokenizer.pad_token_id or 0)
            yield places, read_padded(model, ids.to(model.device), mask.to(model.device))


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


"""The name that tests of the scorer replace."""


def _autocast(device: torch.device, enabled: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if enabled else nullcontext()


def _with_rounded_weights(model: Any) -> Any:
    """A copy whose linear layers hold bfloat16 weights; what lies between them, and the head, stays float32."""
    rounded = copy.deepcopy(model)
    for layer in rounded.base_model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.to(torch.bfloat16)
    return rounded
