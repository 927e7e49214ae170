"""The section on asking people: how tasks look, who gets which, and the responses that are made for them."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rewardloop.config.base import Positive, Section

KNOWN_ANSWER = "known-answer"
"""Criterion of the label that says what a control item's right answer is."""


class SampledModel(Section):
    """A model that responses are sampled from."""

    base: str
    """A hub id, a directory (also of an aligned policy), ``package:...``, ``random:tiny``, or a registered policy:
    ``models:/NAME/VERSION``."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    share: Annotated[float, Field(gt=0)] = 1.0
    """Of the responses, relative to the other models'."""

    @field_validator("base")
    @classmethod
    def _not_empty(cls, base: str) -> str:
        if not base.strip():
            raise ValueError("is empty; expected a model")
        return base


class LabelingSettings(Section):
    """What people are asked to judge, and what responses they are given."""

    guidelines: str = ""
    """Shown above every task, as it is written: markup is shown, not obeyed."""
    criteria: tuple[str, ...] = ()
    """What is judged beside the overall preference: [coherence, relevance, factual correctness, tone], say."""
    criteria_as: Literal["rating", "comparison"] = "rating"
    """``rating``: stars for each answer. ``comparison``: left, right or tie by criterion, for pairs only."""
    rating_stars: Annotated[int, Field(ge=2, le=10)] = 5
    control_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Of a labeler's tasks, the share of control items, where a file of them is given."""
    min_shared_items: Positive = 10
    """Items that every two labelers should share, so that their agreement can be measured; fewer are warned of."""
    pairs_per_prompt: Positive | None = None
    """Pairs of responses to one prompt that are compared; None: all of them."""
    models: tuple[SampledModel, ...] = ()
    """Where ``rewardloop sample-responses`` takes responses from; empty: the policy that is aligned."""
    max_new_tokens: Positive = 256
    plain_text: bool | None = None
    """Responses continue the prompt's text; None: where the model has no chat template."""
    attempts: Positive = 3
    """How often a response that is empty or the same as another is drawn again."""
    prompts_at_once: Positive = 32
    """Prompts whose responses are written together: what a kill loses at most."""
    rows: Positive = 64
    """Responses that are generated at once."""
    keep_models_loaded: bool = True
    """False: one model in memory at a time, loaded again for every ``prompts_at_once`` prompts."""
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = Field(default=0, ge=0)

    @field_validator("criteria")
    @classmethod
    def _usable(cls, criteria: tuple[str, ...]) -> tuple[str, ...]:
        names = [tag_name(criterion) for criterion in criteria]
        for criterion, name in zip(criteria, names, strict=True):
            if not name.strip("_"):
                raise ValueError(f"{criterion!r} has no letter; expected a criterion")
            if criterion == KNOWN_ANSWER or names.count(name) > 1:
                raise ValueError(f"{criterion!r} is taken; name every criterion differently")
        return criteria

    @model_validator(mode="after")
    def _different_models(self) -> Self:
        asked = [(model.base, model.temperature) for model in self.models]
        for model in asked:
            if asked.count(model) > 1:
                raise ValueError(f"models: {model[0]} with temperature {model[1]:g} comes twice; give it one share")
        return self


def tag_name(criterion: str) -> str:
    """What a criterion's tag is called in a labeling configuration: letters, digits and underscores."""
    return "".join(character if character.isalnum() else "_" for character in criterion.lower())
