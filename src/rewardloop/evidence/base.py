"""What all evidence has in common: strict fields, and measured values with their interval."""

from pydantic import BaseModel, ConfigDict


class Evidence(BaseModel):
    """Base of everything below: unknown fields are refused, so that a renamed one cannot vanish in silence."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Estimate(Evidence):
    """A measured value with its interval; ``count`` is the number of things averaged over (``unit``)."""

    value: float
    low: float
    high: float
    level: float = 0.95
    count: int
    unit: str = "pairs"
