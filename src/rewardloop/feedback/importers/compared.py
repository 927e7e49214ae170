"""What the formats share that show two answers side by side and say which one is better, or neither.

In: a prompt, answers a and b in the order in which they were shown, and a verdict. Out: a feedback group of two
responses, in that order, so that a liking for the first one can be measured.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from rewardloop.feedback.importers.base import LabelOptions, RowError, content_id
from rewardloop.feedback.importers.quoting import quoted
from rewardloop.records import Acceptable, Choice, FeedbackGroup, Label, Message, Ranking, Response

Verdict = Literal["a", "b", "tie", "bothbad"]
_OPTIONS: dict[Verdict, str] = {"bothbad": "both_bad"}
"""Verdicts whose names are set by an option that is called otherwise."""


def _listed(value: Any) -> Any:
    return (
        tuple(part.strip().casefold() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


Values = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""An option that lists values of a file, with commas between; compared without regard to case."""


class ComparedOptions(LabelOptions):
    """``bothbad``: what a verdict that both answers are bad becomes: a tie, or a tie of two unacceptable answers."""

    bothbad: Literal["tie", "unacceptable"] = "tie"


@dataclass(frozen=True)
class Compared:
    """One verdict on two answers. ``id``: of what was asked; it may come with other answers, or with these swapped."""

    prompt: tuple[Message, ...]
    a: str
    b: str
    verdict: Verdict
    labeler: str | None = None
    id: str | None = None
    segment: str | None = None
    labeled_at: datetime | None = None
    models: tuple[str | None, str | None] = (None, None)


def compared_group(row: Compared, options: ComparedOptions) -> FeedbackGroup:
    """The group of a verdict.

    Raises:
        RowError: both answers are the same text.
    """
    if row.a == row.b:
        raise RowError("both answers are the same text")
    turns = [f"{message.role}:{message.content}" for message in row.prompt]
    asked = [name for name in (row.id, *row.models) if name]
    return FeedbackGroup(
        group_id=content_id(*asked, *turns, row.a, row.b),
        # Without a prompt the texts themselves say what must not be torn.
        document_id=row.id if row.prompt else None,
        prompt=row.prompt,
        responses=(
            Response(response_id="a", content=row.a, model=row.models[0]),
            Response(response_id="b", content=row.b, model=row.models[1]),
        ),
        labels=tuple(_labels(row, options)),
        labeled_at=row.labeled_at,
        segment=row.segment or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _labels(row: Compared, options: ComparedOptions) -> Sequence[Label]:
    about: dict[str, Any] = {
        "labeler": row.labeler,
        "labeler_kind": options.labeler_kind,
        "criterion": options.criterion,
    }
    if row.verdict == "a" or row.verdict == "b":
        return [Choice(chosen=row.verdict, rejected="b" if row.verdict == "a" else "a", **about)]
    tie = Ranking(ranks={"a": 1, "b": 1}, **about)
    if row.verdict == "bothbad" and options.bothbad == "unacceptable":
        return [tie, Acceptable(values={"a": False, "b": False}, **about)]
    return [tie]


def named_verdict(
    found: str, names: dict[Verdict, tuple[str, ...]], column: str, *, match: Literal["exact", "start"] = "exact"
) -> Verdict:
    """The verdict that ``found`` names; with ``match="start"`` a text that begins with the name as whole words does.

    Raises:
        RowError: no verdict is called so, or several are.
    """
    text = found.strip().casefold()
    matching = [verdict for verdict, values in names.items() if any(_is(text, value, match) for value in values)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RowError(f"{column}: {quoted(found)} names several verdicts: {', '.join(matching)}")
    known = "; ".join(
        f"{_OPTIONS.get(verdict, verdict)}: {', '.join(values)}" for verdict, values in names.items() if values
    )
    unnamed = [f"--option {_OPTIONS.get(verdict, verdict)}=VALUE" for verdict, values in names.items() if not values]
    mend = f". Say what stands for others: {', '.join(unnamed)}" if unnamed else ""
    raise RowError(f"{column}: found {quoted(found)}; expected one of {known}{mend}")


def _is(text: str, value: str, match: str) -> bool:
    if match == "exact":
        return text == value
    return text.startswith(value) and not text[len(value) : len(value) + 1].isalnum()


def twice(names: Collection[tuple[str, ...]]) -> str | None:
    """The first value that stands in two of the lists, or None."""
    seen: set[str] = set()
    for values in names:
        both = seen & set(values)
        if both:
            return sorted(both)[0]
        seen |= set(values)
    return None
