"""Sections on labelers that are no people: a model that judges answers, programs that look at them, what they count."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewardloop.config.base import Positive, Section, Share

Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,40}$")]


class ModelLabelerSettings(Section):
    """What labels of models and programs count beside people's on the trained criterion."""

    weight: Literal["agreement"] | AtLeast0 = "agreement"
    """Of a vote, where the mean person has 1. ``agreement``: the lower end of the interval of Krippendorff's alpha
    between the labeler and people's common vote, at least 0. A number: that, whatever the agreement."""
    min_shared: Positive = 20
    """Pairs that the labeler and people both judged; with fewer the agreement is not known."""
    unproven: AtLeast0 = 0.5
    """Weight of a labeler whose agreement with people is not known."""
    held_out: bool = False
    """Whether pairs that no person judged are evaluated on too, where people judged others."""


class RuleSettings(Section):
    """One program as a labeler (``signal``): what it looks at, and what passes."""

    name: Name
    """Part of the labeler's id and, unless told otherwise, the criterion."""
    kind: Literal["length", "pattern", "profanity", "reference"]
    criterion: str | None = None
    """None: the rule's name."""
    label: Literal["rating", "acceptable"] = "rating"
    """``rating``: from 0 to 1 on the criterion. ``acceptable``: a verdict; it may then decide what a threshold
    accepts."""
    unit: Literal["characters", "words"] = "characters"
    """Of ``length``."""
    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None
    """Of ``length``, both ends included."""
    must: tuple[str, ...] = ()
    """Of ``pattern``: regular expressions that must all be found."""
    must_not: tuple[str, ...] = ()
    """Of ``pattern``: regular expressions none of which may be found."""
    ignore_case: bool = False
    """Of ``pattern``."""
    max_profanity: Share = 0.5
    """Of ``profanity``, for ``label: acceptable``: the probability up to which an answer passes."""
    references: str | None = None
    """Of ``reference``: a JSONL or CSV file of prompt and response (the right answer); several for a prompt: any."""
    match: Literal["exact", "normalized", "contains"] = "normalized"
    """Of ``reference``: equal, equal but for case and white space, or contained but for these."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "length":
            if self.min is None and self.max is None:
                raise ValueError("a length rule needs min, max or both")
            if self.min is not None and self.max is not None and self.min > self.max:
                raise ValueError(f"min = {self.min} is above max = {self.max}")
        if self.kind == "pattern" and not (self.must or self.must_not):
            raise ValueError("a pattern rule needs must, must_not or both")
        for pattern in (*self.must, *self.must_not):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        if self.kind == "reference" and self.references is None:
            raise ValueError("a reference rule needs references: a file of prompts and their right answers")
        return self


class JudgeSettings(Section):
    """A model as a labeler, and programs (``rules``): ``rewardloop judge``."""

    name: Name = "judge"
    """Part of the labeler's id, ``judge:NAME:DIGEST``; the digest is of the questions' wording and the model."""
    kind: Literal["pairwise", "rating"] = "pairwise"
    """``pairwise``: every two answers are asked about, in both orders. ``rating``: every answer gets a number."""
    criterion: str = "overall"
    constitution: Annotated[str, Field(min_length=1)] | None = None
    """What the model is to judge by: guidelines or principles. Needed where a model judges."""
    scale: tuple[int, int] = (1, 10)
    """Of ``rating``: lowest and highest."""
    ask_again: Annotated[int, Field(ge=0)] = 2
    """How often a question is asked again whose answer cannot be read; then it is left out and counted."""
    base: str | None = None
    """A local model: as ``model.base``. Asked through the probabilities of the verdicts."""
    device: str = "auto"
    """Of the local model: auto, cpu, cuda or cuda:N."""
    max_tokens: Positive = 4_096
    """Longest question that the local model is asked, in tokens; its own limit holds too."""
    url: str | None = None
    """An OpenAI-compatible endpoint up to ``/v1``; questions go to ``URL/chat/completions``."""
    model: str | None = None
    """The endpoint's model."""
    key_variable: str | None = None
    """Environment variable with the endpoint's key, such as OPENAI_API_KEY; None: no key is sent."""
    temperature: AtLeast0 | None = 0.0
    """Of the endpoint's answers; None: not sent, for models that refuse it."""
    max_new_tokens: Positive = 512
    """Of one answer of the endpoint: reasoning and the last line."""
    max_new_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls that limit."""
    timeout_seconds: Above0 = 60
    """For one answer of the endpoint."""
    patience_seconds: Above0 = 300
    """How long a question is asked again that the endpoint does not answer, or answers with 429 or 5xx."""
    max_answer_bytes: Positive = 1 << 20
    requests_per_minute: Above0 | None = None
    """At most, by this process; None: as fast as ``concurrent`` allows."""
    concurrent: Positive = 4
    """Requests on their way at a time."""
    price_input: AtLeast0 | None = None
    price_output: AtLeast0 | None = None
    """Of a million tokens, in any currency."""
    max_cost: AtLeast0 | None = None
    """Of one ``rewardloop judge``; it stops before a request that could exceed this, and keeps what is done."""
    rules: tuple[RuleSettings, ...] = ()
    """Programs as labelers: ``rewardloop judge --rules``."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)}; expected [LOWEST, HIGHEST]")
        if self.base is not None and self.url is not None:
            raise ValueError("base and url are both set; one model judges at a time")
        if (self.url is None) != (self.model is None):
            raise ValueError(f"url = {self.url!r} with model = {self.model!r}; an endpoint needs both")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url = {self.url!r}; expected https://HOST/v1, or http:// on this machine")
        if self.max_cost is not None and (self.price_input is None or self.price_output is None):
            raise ValueError("max_cost needs price_input and price_output")
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}; name them differently")
        return self
