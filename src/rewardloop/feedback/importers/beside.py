"""Another file that an importer needs beside the one that it reads: the texts of what was rated, say.

In: a path, as the text of an option (``--option ratings=FILE``). Out: the file's text; its name and SHA-256 stand for
it in the batch's manifest, so that a batch says what it was made of.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rewardloop.errors import BadInputError
from rewardloop.feedback.reading import read_sources


class Beside(BaseModel):
    """A file named by an option; plain, or packed like files of feedback. ``text`` is not written anywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str
    text: str = Field(exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            sources = read_sources([Path(value)])
        except BadInputError as error:
            raise ValueError(str(error)) from error
        if len(sources) != 1:
            raise ValueError(f"{value}: holds {len(sources)} files; expected one")
        return {"name": sources[0].name, "sha256": sources[0].sha256, "text": sources[0].text}
