"""What webhooks take and give, as the OpenAPI document describes it.

In: nothing. Out: models of bodies and headers, and the description of every refusal.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Approval(BaseModel):
    """What ``POST /v1/webhooks/approve`` takes: who makes a waiting version the champion, and why."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
    name: Annotated[
        str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
    ]
    reason: Annotated[str, StringConstraints(max_length=2_000, pattern=r"\S")]
    policy: Annotated[bool, Field(description="The version is one of the policy, not of the reward model.")] = False


class SignedHeaders(BaseModel):
    """The headers of the Standard Webhooks scheme."""

    webhook_id: str | None = Field(None, description="Unique per message; the same when it is sent again.")
    webhook_timestamp: str | None = Field(None, description="Whole seconds since 1970.")
    webhook_signature: str | None = Field(
        None, description="v1,BASE64 of HMAC-SHA256 over id.timestamp.body; several are separated by spaces."
    )


class Taken(BaseModel):
    """The request was taken; the log says under its id what it led to."""

    request_id: str
    what: str


class Problem(BaseModel):
    """Why nothing was done."""

    detail: str


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


def _problems(**described: str) -> dict[int | str, dict[str, Any]]:
    return {int(code[1:]): {"model": Problem, "description": what} for code, what in described.items()}


OF_BODIES = _problems(
    _400="The body is not the JSON that is expected.",
    _408="The body did not come in time.",
    _413="The body is larger than webhook.max_body_bytes.",
)
OF_SIGNED = _problems(
    _401="Not signed, wrongly signed, too old, or sent before.", _503="It could not be done now; send it again."
)
OF_STATIC = _problems(_401="The secret is missing or wrong.")
OF_APPROVALS = _problems(_409="Unknown, not waiting for approval, or not good enough any more.")


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The description of a body that a route reads by itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
