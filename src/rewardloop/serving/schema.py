"""What the server takes and gives, as JSON.

In: nothing. Out: the models of the OpenAPI document. Numbers are finite or null: JSON has no NaN.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Decision = Literal["accept", "review", "block"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Turn(_Body):
    """One message of a prompt."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Row(_Body):
    """An answer to be scored."""

    prompt: Annotated[
        str | list[Turn] | None,
        Field(description="What was asked: a text, messages, or nothing where there is no prompt."),
    ] = None
    response: Annotated[str, Field(description="The answer.")]


class DecideRow(Row):
    """An answer to be decided on."""

    segment: Annotated[
        str | None, Field(max_length=200, description="Where it comes from, for the decision log and drift.")
    ] = None
    user: Annotated[
        str | None, Field(max_length=1_000, description="Who it is shown to; only a keyed pseudonym is ever kept.")
    ] = None


class ScoreRequest(_Body):
    """What ``POST /v1/score`` takes."""

    rows: Annotated[list[Row], Field(min_length=1)]


class DecideRequest(_Body):
    """What ``POST /v1/decide`` takes."""

    rows: Annotated[list[DecideRow], Field(min_length=1)]


class ScoreLine(BaseModel):
    """One answer's score."""

    score: Annotated[float | None, Field(description="On the public scale; null: see error.")]
    error: Annotated[str | None, Field(description="Why there is no score.")]


class ScoreAnswer(BaseModel):
    """What ``POST /v1/score`` gives, in the order of the rows."""

    request_id: str
    model_version: Annotated[str, Field(description="Registered version; empty where a folder is served.")]
    scores: list[ScoreLine]


class DecideLine(BaseModel):
    """May this answer be shown?"""

    score: Annotated[float | None, Field(description="On the public scale; null: see error.")]
    allowed: Annotated[
        bool | None, Field(description="Whether it may be shown; null: this version has no certified threshold.")
    ]
    decision: Annotated[
        Decision | None, Field(description="review: a person decides, for versions that have such a zone.")
    ]
    threshold: Annotated[float | None, Field(description="Accepted is a score that reaches it.")]
    model_version: Annotated[str, Field(description="Registered version; empty where a folder is served.")]
    request_id: str
    error: Annotated[str | None, Field(description="Why there is no score; such an answer is never allowed.")]


class DecideAnswer(BaseModel):
    """What ``POST /v1/decide`` gives, in the order of the rows."""

    decisions: list[DecideLine]


class ModelAnswer(BaseModel):
    """What ``GET /v1/model`` gives."""

    name: str
    version: str
    digest: Annotated[str, Field(description="SHA-256 over the weights.")]
    threshold: float | None
    block_threshold: float | None
    max_length: Annotated[int, Field(description="Tokens that the model can read.")]
    loaded_at: str


class Ready(BaseModel):
    """What ``GET /readyz`` gives."""

    ready: bool
    model: str | None
    trouble: Annotated[str | None, Field(description="Why a newer champion does not answer yet.")]


class Alive(BaseModel):
    """What ``GET /healthz`` gives."""

    alive: bool


class Problem(BaseModel):
    """Every answer that is no success."""

    detail: Annotated[str, Field(description="The place, what was found and the mend.")]
    request_id: str | None = None


class AlignmentRequest(_Body):
    """What ``POST /score`` takes: one prompt per response."""

    prompts: Annotated[list[Any], Field(description="Each a text, a list of messages, or nothing.")]
    responses: list[str]


class AlignmentAnswer(BaseModel):
    """What ``POST /score`` gives, in the order of the responses."""

    digest: Annotated[str, Field(description="Of the weights that scored: a server may change its model.")]
    raw_scores: Annotated[list[float | None], Field(description="null: too long, or no finite number.")]
    scores: Annotated[list[float | None], Field(description="On the public scale.")]
    allowed: Annotated[list[bool] | None, Field(description="null: no threshold was certified.")]
    decisions: Annotated[list[Decision] | None, Field(description="null: no threshold was certified.")]


class AlignmentHealth(BaseModel):
    """What ``GET /health`` gives."""

    digest: str
    scoring: Annotated[dict[str, Any], Field(description="scoring.json: encoding, public scale and thresholds.")]
    ready: bool = True
