"""Section ``privacy``: what is taken out of texts before they are stored."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewardloop.config.base import Section

RedactedKind = Literal["email", "phone", "card", "id_number", "iban", "ip"]


class PrivacySettings(Section):
    """What is taken out of texts at ingestion; what is stored already stays as it is."""

    redact: tuple[RedactedKind, ...] = ()
    """Each one found becomes a marker such as ``[EMAIL]``, in texts, quarantined rows and names of sources."""
    regions: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...] = ()
    """Countries (ISO 3166, ``US``) whose phone numbers are found without their +prefix, and whose id numbers are."""

    @model_validator(mode="after")
    def _regions_known(self) -> Self:
        if "id_number" in self.redact and not self.regions:
            raise ValueError(
                "redact has id_number, but regions is empty; name the countries, regions: [US] for example"
            )
        return self
