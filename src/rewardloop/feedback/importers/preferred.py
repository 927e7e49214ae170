"""What the formats with a chosen and a rejected answer share: splitting a row's texts, and the group made of them.

In: the fields of a row. Out: a prompt and two answers, or a feedback group of two responses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rewardloop.feedback.importers.base import LabelOptions, Outcome, Rejected, RowError, Taken, content_id
from rewardloop.feedback.importers.messages import answer, messages_of, parted
from rewardloop.feedback.importers.table import Record, Table, raw_row
from rewardloop.feedback.importers.transcripts import (
    is_transcript,
    prompt_of,
    repeats_prompt,
    shared_characters,
    split_transcripts,
)
from rewardloop.records import Choice, FeedbackGroup, Label, Message, Rating, Response


@dataclass(frozen=True)
class Preference:
    """One row: a prompt, two answers, and what else it says of them.

    ``scores``: of (chosen, rejected). ``margin``: by how much the chosen one is better; 0 says nothing.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    labeler: str | None = None
    id: str | None = None
    segment: str | None = None
    margin: float | None = None
    scores: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    models: tuple[str | None, str | None] = (None, None)


_Columns = dict[str, str | None]
_O = TypeVar("_O", bound=LabelOptions)


def preferences(
    table: Table, options: _O, columns: _Columns, read: Callable[[Record, _Columns, _O], Preference]
) -> Iterator[Outcome]:
    """Every row as a group of two responses.

    Args:
        table: the file.
        options: the importer's.
        columns: what a column is for -> its name, None where it is not there; ``labeler`` among them.
        read: a row's preference; RowError where it has none.
    """
    labeler = columns["labeler"]
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
            continue
        keep = [column for name, column in columns.items() if name != "labeler"]
        row = raw_row(record, keep=keep, labelers={labeler: "cell"} if labeler else {})
        try:
            yield Taken(preference_group(read(record, columns, options), options), (row,))
        except RowError as error:
            yield Rejected(row, str(error))


def preference_group(row: Preference, options: LabelOptions) -> FeedbackGroup:
    """A group of two responses: with scores one ``rating``, else one ``choice``, and a ``rating`` with a margin.

    Raises:
        RowError: both answers are the same text, or scores or margin say that the rejected one is better.
    """
    if row.chosen == row.rejected:
        raise RowError("chosen and rejected are the same text; a tie is no preference")
    # Ids follow from the texts, not from who won: another labeler's opposite choice is then about the same responses.
    ids = {text: name for name, text in zip("ab", sorted((row.chosen, row.rejected)), strict=True)}
    models = {row.chosen: row.models[0], row.rejected: row.models[1]}
    turns = [f"{message.role}:{message.content}" for message in row.prompt]
    return FeedbackGroup(
        group_id=row.id or content_id(*turns, *ids),
        prompt=row.prompt,
        responses=tuple(Response(response_id=name, content=text, model=models[text]) for text, name in ids.items()),
        labels=tuple(_labels(row, ids[row.chosen], ids[row.rejected], options)),
        segment=row.segment or options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _labels(row: Preference, chosen: str, rejected: str, options: LabelOptions) -> Sequence[Label]:
    about: dict[str, Any] = {
        "labeler": row.labeler,
        "labeler_kind": options.labeler_kind,
        "criterion": options.criterion,
    }
    if row.scores is not None:
        if row.scores[0] < row.scores[1]:
            raise RowError(f"the chosen answer scores {row.scores[0]:g} and the rejected one {row.scores[1]:g}")
        # The scores hold the choice; of equal ones it was drawn by lot, and a tie is what was judged.
        scores = dict(zip((chosen, rejected), row.scores, strict=True))
        return [Rating(scores=scores, scale=row.scale, **about)]
    if row.margin is not None and row.margin < 0:
        raise RowError(f"margin: found {row.margin:g}; a negative one says that the rejected answer is better")
    choice = Choice(chosen=chosen, rejected=rejected, **about)
    return [choice, Rating(scores={chosen: row.margin, rejected: 0.0}, **about)] if row.margin else [choice]


def split_pair(
    prompt: Any, chosen: Any, rejected: Any, strings: Literal["whole", "common-prefix"]
) -> tuple[tuple[Message, ...], str, str]:
    """(prompt, chosen answer, rejected answer) of one row.

    Args:
        prompt: a text, a list of messages, or None.
        chosen: a text or a list of messages; transcripts and lists may begin with the prompt.
        rejected: the same.
        strings: with ``common-prefix``, what plain texts begin with belongs to the prompt: they may repeat it, too.

    Raises:
        RowError: the row has none of the known shapes.
    """
    if isinstance(chosen, list) and isinstance(rejected, list):
        return split_conversations(prompt, messages_of(chosen, "chosen"), messages_of(rejected, "rejected"))
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise RowError("chosen and rejected: expected two texts or two lists of messages")
    if prompt is None or prompt == "":
        if is_transcript(chosen) and is_transcript(rejected):
            return split_transcripts(chosen, rejected)
        start = _common_start(chosen, rejected) if strings == "common-prefix" else 0
        messages = (Message(role="user", content=chosen[:start].strip()),) if chosen[:start].strip() else ()
        return messages, chosen[start:], rejected[start:]
    if isinstance(prompt, str):
        if repeats_prompt(prompt, chosen) and repeats_prompt(prompt, rejected):
            return split_transcripts(chosen, rejected)
        turns = prompt_of(prompt)
        if turns is not None:
            return turns, chosen.strip(), rejected.strip()
        if strings == "common-prefix" and chosen.startswith(prompt) and rejected.startswith(prompt):
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        return (Message(role="user", content=prompt),), chosen, rejected
    return messages_of(prompt, "prompt"), chosen, rejected


def split_conversations(
    prompt: Any,
    chosen: tuple[Message, ...],
    rejected: tuple[Message, ...],
    names: tuple[str, str] = ("chosen", "rejected"),
) -> tuple[tuple[Message, ...], str, str]:
    """The same of two lists of messages: what both begin with belongs to the prompt.

    Args:
        prompt: a list of messages before them, of which the last ones may be their first, a text (used where the lists
            share nothing), or None.
        chosen: messages; its last one is the answer.
        rejected: the same.
        names: what reasons call the two.
    """
    messages, one, other = parted(chosen, rejected)
    if isinstance(prompt, list | tuple):
        explicit = messages_of([_as_dict(message) for message in prompt], "prompt")
        messages = explicit + messages[_repeated(explicit, messages) :]
    elif isinstance(prompt, str) and prompt and not messages:
        messages = (Message(role="user", content=prompt),)
    return messages, answer(one, names[0]), answer(other, names[1])


def _repeated(prompt: tuple[Message, ...], messages: tuple[Message, ...]) -> int:
    """How many messages repeat the end of the prompt: all of it, or its last turn without the system message."""
    most = min(len(prompt), len(messages))
    return next((count for count in range(most, 0, -1) if prompt[-count:] == messages[:count]), 0)


def _as_dict(message: Any) -> Any:
    return message.model_dump() if isinstance(message, Message) else message


def _common_start(chosen: str, rejected: str) -> int:
    """Where the strings part, moved back to the start of the word (TRL's ``extract_prompt`` leaves it in the word)."""
    start = shared_characters(chosen, rejected)
    while start and not chosen[start - 1].isspace():
        start -= 1
    # The answer keeps the space before its first word.
    return start - 1 if start and chosen[start - 1] == " " else start
