"""The canonical feedback record: one prompt, K responses, labels by L labelers.

Importers make these, the store keeps them, and every later step starts from them. A record is valid by construction:
labels name responses of their own group, scores are finite and inside their scale, ranks start at 1.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LabelerKind = Literal["human", "model", "signal"]
Sampling = Literal["random", "active", "comparison", "control"]
SPLITS = ("train", "validation", "calibration", "test", "golden")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(_Record):
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Response(_Record):
    """One answer to the prompt; ``response_id`` is unique inside its group."""

    response_id: str = Field(min_length=1)
    content: str
    model: str | None = None


class _Label(_Record):
    labeler: str | None = None
    """Who labeled; None where the source has no persistent identity. A keyed pseudonym once stored."""
    labeler_kind: LabelerKind = "human"
    criterion: str = "overall"


class Ranking(_Label):
    """Ranks of some or all responses, 1 is best; equal ranks are ties and stay ties."""

    kind: Literal["ranking"] = "ranking"
    ranks: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)

    def values(self) -> Mapping[str, float]:
        """Ranks by response id."""
        return {key: float(rank) for key, rank in self.ranks.items()}


class Rating(_Label):
    """Scores on one scale; higher is better. ``scale`` is (lowest, highest)."""

    kind: Literal["rating"] = "rating"
    scores: dict[str, float] = Field(min_length=1)
    scale: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _inside_scale(self) -> Self:
        for key, score in self.scores.items():
            if not math.isfinite(score):
                raise ValueError(f"score of response {key!r} is {score}; expected a finite number")
            if self.scale and not self.scale[0] <= score <= self.scale[1]:
                raise ValueError(f"score of response {key!r} is {score}; expected {self.scale[0]} to {self.scale[1]}")
        return self

    def values(self) -> Mapping[str, float]:
        """Scores by response id."""
        return self.scores


class Choice(_Label):
    """One response preferred to another."""

    kind: Literal["choice"] = "choice"
    chosen: str
    rejected: str

    @model_validator(mode="after")
    def _two_responses(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError(f"chosen and rejected are both {self.chosen!r}; write a tie as equal ranks")
        return self

    def values(self) -> Mapping[str, float]:
        """1 for the chosen response, 0 for the rejected one."""
        return {self.chosen: 1.0, self.rejected: 0.0}


class Acceptable(_Label):
    """Whether a response may be shown."""

    kind: Literal["acceptable"] = "acceptable"
    acceptable: dict[str, bool] = Field(min_length=1, alias="values", serialization_alias="values")

    def values(self) -> Mapping[str, float]:
        """1 for acceptable, 0 for not."""
        return {key: float(value) for key, value in self.acceptable.items()}


Label = Annotated[Ranking | Rating | Choice | Acceptable, Field(discriminator="kind")]


class FeedbackGroup(_Record):
    """One prompt, K >= 1 responses and what people said of them.

    Texts without a prompt (reviews, say) have an empty ``prompt`` and K = 1; they are grouped later, inside one split.
    ``document_id`` names the document that a text is part of where a source says so: a document never spans splits.
    """

    group_id: str = Field(min_length=1)
    document_id: str | None = None
    prompt: tuple[Message, ...] = ()
    responses: tuple[Response, ...] = Field(min_length=1)
    labels: tuple[Label, ...] = Field(min_length=1)
    labeled_at: datetime | None = None
    segment: str | None = None
    source: str | None = None
    sampling: Sampling = "random"

    @field_validator("responses")
    @classmethod
    def _unique_ids(cls, responses: tuple[Response, ...]) -> tuple[Response, ...]:
        ids = [response.response_id for response in responses]
        if len(set(ids)) < len(ids):
            raise ValueError(f"response ids {ids} are not unique inside the group")
        return responses

    @model_validator(mode="after")
    def _labels_name_responses(self) -> Self:
        known = {response.response_id for response in self.responses}
        for label in self.labels:
            unknown = sorted(set(label.values()) - known)
            if unknown:
                raise ValueError(f"{label.kind} label names response {unknown[0]!r}; known are {sorted(known)}")
        return self


_SPACE = re.compile(r"\s+")


def normalize_text(text: str) -> str:
    """Text as splits see it: NFKC, case folded, runs of white space as one space."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def text_digest(text: str) -> str:
    """SHA-256 (hex) of the UTF-8 bytes of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def prompt_key(turns: Iterable[tuple[str, str]]) -> str:
    """Digest of a prompt's (role, content) turns as splits see them: equal keys are the same prompt."""
    return text_digest("\x1e".join(f"{role}\x1f{normalize_text(content)}" for role, content in turns))


def bucket(salt: str, document: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    return int(hashlib.sha256(f"{salt}\x1f{document}".encode()).hexdigest()[:13], 16) / 16**13


def document_key(group: FeedbackGroup) -> str:
    """What must never span two splits: the prompt; without one, the document; without one, the text itself."""
    turns = [(message.role, message.content) for message in group.prompt]
    return document_of(turns, [response.content for response in group.responses], group.source, group.document_id)


def document_of(
    turns: Sequence[Sequence[str]], texts: Iterable[str], source: str | None, document_id: str | None
) -> str:
    """``document_key`` of a record by its parts: the prompt's (role, content) turns and the responses' texts."""
    if turns:
        return prompt_key((role, content) for role, content in turns)
    if document_id is not None:
        return text_digest(f"{source or ''}\x1f{document_id}")
    return text_digest("\x1e".join(sorted(normalize_text(text) for text in texts)))
