"""Labeled feedback as files for other tools: TRL's preference data, or canonical records.

In: rows of the store's batches. Out: rows of the file, always the same for the same feedback, and counts of what the
format cannot carry. Preference data has one better and one worse answer per row: labels are voted on (``majority``), or
each says its own rows (``labels``). A row cannot say who judged: where people judged a pair only they
are heard.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from rewardloop.config import KNOWN_ANSWER
from rewardloop.feedback.importers.base import RowError
from rewardloop.feedback.importers.preferred import split_pair
from rewardloop.records import Acceptable, Choice, FeedbackGroup, Label, Message, Ranking, Rating, Response

Format = Literal["trl", "trl-conversational", "canonical"]
Rule = Literal["majority", "labels"]

TIES = "pairs whose answers are even: preference data has no ties"
ONE_ANSWER = "groups with one answer: nothing to prefer it to"
NO_LABEL = "groups without a label on the criterion that compares two answers"
OTHER_CRITERIA = "labels on other criteria"
CONTROLS = "control items: they rate labelers and are no preference data"
TURNS = "pairs whose prompt is more than one user's message: take trl-conversational"
READ_OTHERWISE = "pairs whose texts would be read as transcripts: take trl-conversational"
SEVERAL = "pairs of several labels, of which one row is left"
RATINGS = "pairs of ratings, of which the difference is left as margin, and not the scores"
BESIDE_PEOPLE = "labels of models or programs on pairs that people judged: only people's are in the rows"
NO_PERSON = "pairs that models or programs alone judged: their rows do not say so"
TIE_MARGIN = "pairs with a majority that ratings do not share: written without margin"


class Pair(NamedTuple):
    """Chosen and rejected answer to a prompt; ``margin`` is the difference of their ratings."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    margin: float | None


def group_of(row: Mapping[str, Any]) -> FeedbackGroup:
    """A ``FEEDBACK`` row as the record that it was made of."""
    return FeedbackGroup(
        group_id=row["group_id"],
        document_id=row["document_id"],
        prompt=tuple(Message(**turn) for turn in row["prompt"]),
        responses=tuple(Response(**response) for response in row["responses"]),
        labels=tuple(_label(label) for label in row["labels"]),
        labeled_at=row["labeled_at"],
        segment=row["segment"],
        source=row["source"],
        sampling=row["sampling"],
    )


def _label(row: Mapping[str, Any]) -> Label:
    about = {name: row[name] for name in ("labeler", "labeler_kind", "criterion")}
    values = {value["response_id"]: value["value"] for value in row["values"]}
    if row["kind"] == "ranking":
        return Ranking(ranks={name: int(rank) for name, rank in values.items()}, **about)
    if row["kind"] == "rating":
        return Rating(scores=values, scale=tuple(row["scale"]) if row["scale"] else None, **about)
    if row["kind"] == "acceptable":
        return Acceptable(values={name: value == 1 for name, value in values.items()}, **about)
    chosen = next(name for name, value in values.items() if value == 1)
    rejected = next(name for name, value in values.items() if value == 0)
    return Choice(chosen=chosen, rejected=rejected, **about)


def preference_pairs(same: Sequence[FeedbackGroup], criterion: str, rule: Rule, counts: Counter[str]) -> Iterator[Pair]:
    """The pairs of groups with the same prompt and answers.

    Args:
        same: groups of equal content, from one batch or several.
        criterion: labels on others are counted and left.
        rule: one row for each pair with a majority, or one for each label that prefers one of two answers. Labels of
            models and programs are heard only on pairs that no person judged, by either rule.
        counts: what cannot be carried is added to it.
    """
    judged = [group for group in same if group.sampling != "control"]
    counts[CONTROLS] += len(same) - len(judged)
    if not judged:
        return
    prompt = judged[0].prompt
    texts = sorted({response.content for response in judged[0].responses})
    if len(texts) < 2:
        counts[ONE_ANSWER] += len(judged)
        return
    opinions = list(_opinions(judged, criterion, counts))
    if not any(len(values) > 1 for _, values in opinions):
        counts[NO_LABEL] += len(judged)
        return
    for one, other in combinations(texts, 2):
        found = _heard(
            [(label, values[one] - values[other]) for label, values in opinions if one in values and other in values],
            counts,
        )
        if rule == "majority":
            yield from _majority(prompt, one, other, found, counts)
        else:
            for label, difference in found:
                yield from _of_label(prompt, one, other, label, difference, counts)


def _opinions(
    groups: Iterable[FeedbackGroup], criterion: str, counts: Counter[str]
) -> Iterator[tuple[Label, dict[str, float]]]:
    """Labels on the criterion, with how good each text is by them: higher is better."""
    for group in groups:
        texts = {response.response_id: response.content for response in group.responses}
        for label in group.labels:
            if label.criterion != criterion:
                counts[OTHER_CRITERIA] += label.criterion != KNOWN_ANSWER
                continue
            sign = -1 if isinstance(label, Ranking) else 1
            yield label, {texts[name]: sign * value for name, value in label.values().items()}


def _heard(found: list[tuple[Label, float]], counts: Counter[str]) -> list[tuple[Label, float]]:
    """People's labels on a pair where there are such, else those of models and programs."""
    people = [(label, difference) for label, difference in found if label.labeler_kind == "human"]
    if people:
        counts[BESIDE_PEOPLE] += len(found) - len(people)
        return people
    counts[NO_PERSON] += bool(found)
    return found


def _majority(
    prompt: tuple[Message, ...], one: str, other: str, found: list[tuple[Label, float]], counts: Counter[str]
) -> Iterator[Pair]:
    """One row where more labels prefer one of two answers, ties counting for neither."""
    if not found:
        return
    votes = sum((difference > 0) - (difference < 0) for _, difference in found)
    if not votes:
        counts[TIES] += 1
        return
    counts[SEVERAL] += len(found) > 1
    chosen, rejected = (one, other) if votes > 0 else (other, one)
    rated = [difference for label, difference in found if isinstance(label, Rating)]
    margin = (1 if votes > 0 else -1) * sum(rated) / len(rated) if rated else None
    counts[RATINGS] += bool(rated)
    if margin is not None and margin <= 0:
        counts[TIE_MARGIN] += 1
        margin = None
    yield Pair(prompt, chosen, rejected, margin)


def _of_label(
    prompt: tuple[Message, ...], one: str, other: str, label: Label, difference: float, counts: Counter[str]
) -> Iterator[Pair]:
    if not difference:
        counts[TIES] += 1
        return
    chosen, rejected = (one, other) if difference > 0 else (other, one)
    rated = isinstance(label, Rating)
    counts[RATINGS] += rated
    yield Pair(prompt, chosen, rejected, abs(difference) if rated else None)


def trl_row(pair: Pair, *, conversational: bool, counts: Counter[str]) -> dict[str, Any] | None:
    """A row of TRL's preference data with an explicit prompt; None, and counted, where the format cannot carry it."""
    margin = {} if pair.margin is None else {"margin": pair.margin}
    if conversational:
        return {
            "prompt": [turn.model_dump() for turn in pair.prompt],
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
            **margin,
        }
    if len(pair.prompt) > 1 or (pair.prompt and pair.prompt[0].role != "user"):
        counts[TURNS] += 1
        return None
    prompt = pair.prompt[0].content if pair.prompt else ""
    try:
        same = split_pair(prompt, pair.chosen, pair.rejected, "whole") == (pair.prompt, pair.chosen, pair.rejected)
    except RowError:
        same = False
    if not same:
        counts[READ_OTHERWISE] += 1
        return None
    return {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected, **margin}
