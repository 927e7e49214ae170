"""A model labels groups of answers: pairwise in both orders, or one score each.

In: items and a backend. Out: canonical groups whose labels are the judge's, and counts of everything that has none. Two
answers whose order decides the verdict are a tie: a judge that goes by position must not look like one with an opinion.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from rewardloop.config import JudgeSettings
from rewardloop.judging.asking import Asked, ask_all
from rewardloop.judging.backends import Backend
from rewardloop.judging.cache import AnswerCache
from rewardloop.judging.items import Item
from rewardloop.judging.questions import Question, Verdict, labeler_id, pair_question, score_question
from rewardloop.records import FeedbackGroup

ALONE = "groups with one answer: nothing to compare it with"
NO_VERDICT = "groups about which the judge said nothing that can be used"
UNASKED = "groups that the budget left no room for, whole or in part"


@dataclass
class Judged:
    """What a labeler that is no person said."""

    labelers: list[str]
    """Their ids as the records have them."""
    groups: list[FeedbackGroup] = field(default_factory=list)
    items: int = 0
    labels: int = 0
    ties: int = 0
    compared: int = 0
    """Pairs with a verdict in both orders."""
    inconsistent: int = 0
    """Pairs whose two orders contradict each other: ties."""
    first: int = 0
    """Verdicts for the answer shown first."""
    decided: int = 0
    """Verdicts for either answer."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Why something has no label -> how many."""
    asked: Asked | None = None
    """None: nobody was asked, programs labeled."""


class _Place(NamedTuple):
    """Where a question belongs: its item, and the answers in the order in which they are shown."""

    item: int
    first: int
    second: int | None


def judge_items(
    items: Sequence[Item],
    backend: Backend,
    cache: AnswerCache,
    settings: JudgeSettings,
    *,
    progress: Callable[[int], object] | None = None,
) -> Judged:
    """Label ``items``.

    Args:
        items: groups to judge.
        backend: the model.
        cache: its answers of earlier runs, and of this one.
        settings: ``judge``.
        progress: told how many questions were done.

    Raises:
        RewardloopError: the model cannot be asked.
    """
    places = [place for number, item in enumerate(items) for place in _places(number, item, settings)]
    asked = ask_all(
        len(places),
        lambda number: _question(items[places[number].item], places[number], settings),
        backend,
        cache,
        ask_again=settings.ask_again,
        progress=progress,
    )
    judged = Judged([labeler_id(settings, backend.identity)], items=len(items), asked=asked)
    judged.left_out.update({f"questions {reason}": count for reason, count in asked.left_out.items()})
    verdicts: dict[int, dict[_Place, Verdict | float | None]] = {}
    for place, verdict in zip(places, asked.verdicts, strict=True):
        verdicts.setdefault(place.item, {})[place] = verdict
    # Half of a group's labels now would be there twice when the rest is asked about.
    unasked = {places[number].item for number in asked.unasked}
    if unasked:
        judged.left_out[UNASKED] = len(unasked)
    for number, item in enumerate(items):
        if number not in unasked:
            _label(item, verdicts.get(number), settings, judged)
    return judged


def _places(number: int, item: Item, settings: JudgeSettings) -> Iterator[_Place]:
    texts = [response.content for response in item.responses]
    if settings.kind == "rating":
        yield from (_Place(number, place, None) for place in range(len(texts)))
        return
    for a, b in combinations(range(len(texts)), 2):
        if texts[a] != texts[b]:  # nobody can prefer a text to itself
            yield _Place(number, a, b)
            yield _Place(number, b, a)


def _question(item: Item, place: _Place, settings: JudgeSettings) -> Question:
    first = item.responses[place.first].content
    if place.second is None:
        return score_question(item.prompt, first, settings)
    return pair_question(item.prompt, first, item.responses[place.second].content, settings)


def _label(
    item: Item, verdicts: dict[_Place, Verdict | float | None] | None, settings: JudgeSettings, judged: Judged
) -> None:
    if verdicts is None:
        judged.left_out[ALONE] += 1
        return
    who = {"labeler": judged.labelers[0], "labeler_kind": "model", "criterion": settings.criterion}
    made = _ratings(item, verdicts, settings) if settings.kind == "rating" else _choices(item, verdicts, judged)
    if not made:
        judged.left_out[NO_VERDICT] += 1
        return
    judged.labels += len(made)
    judged.groups.append(item.labeled([who | label for label in made]))


def _ratings(
    item: Item, verdicts: dict[_Place, Verdict | float | None], settings: JudgeSettings
) -> list[dict[str, Any]]:
    scores = {item.responses[place.first].response_id: score for place, score in verdicts.items() if score is not None}
    return [{"kind": "rating", "scores": scores, "scale": settings.scale}] if scores else []


def _choices(item: Item, verdicts: dict[_Place, Verdict | float | None], judged: Judged) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for place, verdict in verdicts.items():
        if verdict in ("A", "B"):
            judged.decided += 1
            judged.first += verdict == "A"
        assert place.second is not None, "pairs are asked about"
        if place.first > place.second:
            continue
        other = verdicts[_Place(place.item, place.second, place.first)]
        if verdict is None or other is None:
            continue
        a, b = (item.responses[number].response_id for number in (place.first, place.second))
        judged.compared += 1
        judged.inconsistent += verdict == other and verdict != "TIE"
        if (verdict, other) == ("A", "B"):
            made.append({"kind": "choice", "chosen": a, "rejected": b})
        elif (verdict, other) == ("B", "A"):
            made.append({"kind": "choice", "chosen": b, "rejected": a})
        else:
            judged.ties += 1
            made.append({"kind": "ranking", "ranks": {a: 1, b: 1}})
    return made
