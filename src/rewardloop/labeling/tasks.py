"""Tasks for Label Studio on responses that nobody has judged: pairs or rankings, for each labeler his own.

In: items, control items, the annotators. Out: the tasks of each, the key that stays in the store, and who got what.
Nothing in a task tells which model an answer is from or whether the task is a control. Labelers of one item see its
answers in different orders, so that a habit of taking the first does not pass for agreement.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewardloop.config import LabelingSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.comparisons import shown_prompt
from rewardloop.feedback.task_keys import (
    ANSWERS,
    ITEMS,
    KEY,
    MESSAGES,
    PROMPT,
    TASK,
    ShownAnswers,
    TaskKey,
    TaskKind,
    key_id,
    task_name,
)
from rewardloop.labeling.assignment import Assignment, assign
from rewardloop.labeling.items import Item, item_id
from rewardloop.labeling.label_config import criteria_tags, item_name

Task = dict[str, Any]


class Tasks(NamedTuple):
    """What is exported."""

    of_annotator: dict[str, list[Task]]
    """One entry under "" where no annotators are named."""
    key: TaskKey
    assigned: dict[str, list[str]]
    """Item -> annotators, controls among them."""
    assignment: Assignment | None
    items: int
    controls: int
    """Tasks that are controls, over all annotators."""


def make_tasks(
    items: Sequence[Item],
    controls: Sequence[Item],
    *,
    kind: TaskKind,
    settings: LabelingSettings,
    criterion: str,
    annotators: Sequence[str] = (),
    per_item: int = 1,
    count: int | None = None,
    seed: int = 0,
) -> Tasks:
    """Make tasks and give them out.

    Args:
        items: to judge; of more than two responses, pairs are made for ``pairwise``.
        controls: with a known answer; none are planted where it is empty.
        kind: pairs or rankings.
        settings: the section ``labeling``.
        criterion: what the overall verdict is about.
        annotators: who labels; empty: one list of tasks, for a tool that gives them out itself.
        per_item: different annotators of each item.
        count: most items, a seeded draw.
        seed: of the draw, the orders and the assignment.

    Raises:
        BadInputError: there are too few annotators, or no control has a pair whose better answer is known.
    """
    tags = criteria_tags(settings, kind)
    # Responses and models take part: who sees the tasks and guesses the seed cannot draw the orders again.
    random = np.random.default_rng(_digest([seed, [list(map(repr, one)) for one in (items, controls)]]))
    if kind == "pairwise":
        items = [pair for item in items for pair in _pairs(item, settings.pairs_per_prompt, random)]
        controls = [pair for item in controls for pair in _pairs(item, None, random)]
    control_ids = {item.id for item in controls}
    # A pair of two prompts' files, or one that is a control too, is asked once.
    unique = list({item.id: item for item in items if item.id not in control_ids}.values())
    drawn = [unique[place] for place in random.permutation(len(unique))][:count]
    if not drawn:
        raise BadInputError("--control: every item is a control item; name other control items")
    draft = _Draft(kind)
    names = list(annotators) or [""]
    assignment = assign(len(drawn), len(names), per_item, seed) if annotators else None
    for place, item in enumerate(drawn):
        order = random.permutation(len(item.responses))
        for turn, who in enumerate(assignment.of_item[place] if assignment else (0,)):
            draft.add(names[who], item, np.roll(order, turn))
    _plant(draft, controls, names, settings.control_share, random)
    key = _key(kind, criterion, tags, settings.rating_stars, draft.shown)
    of_annotator = {}
    for name in names:
        tasks = draft.tasks.get(name, [])
        of_annotator[name] = [
            {"data": {**tasks[place]["data"], KEY: key.id}} for place in random.permutation(len(tasks))
        ]
    planted = sum(len(tasks) for tasks in of_annotator.values()) - len(drawn) * (per_item if annotators else 1)
    return Tasks(of_annotator, key, draft.assigned, assignment, len(drawn), planted)


def _key(kind: TaskKind, criterion: str, tags: dict[str, str], stars: int, shown: dict[str, ShownAnswers]) -> TaskKey:
    return TaskKey(
        id=key_id(kind, criterion, tags, stars, shown),
        kind=kind,
        criterion=criterion,
        criteria=tags,
        rating_stars=stars,
        created_at=datetime.now(UTC),
        tasks=shown,
    )


class _Draft:
    """Tasks as they are made."""

    def __init__(self, kind: TaskKind) -> None:
        self.kind = kind
        self.shown: dict[str, ShownAnswers] = {}
        self.tasks: dict[str, list[Task]] = {}
        self.assigned: dict[str, list[str]] = {}

    def add(self, annotator: str, item: Item, order: NDArray[np.int64]) -> None:
        """Give an annotator an item, its answers in this order."""
        responses = [item.responses[place] for place in order]
        texts = [response.content for response in responses]
        name = task_name(item.prompt, texts)
        self.shown[name] = ShownAnswers(
            item=item.id,
            response_ids=[response.response_id for response in responses],
            models=[response.model for response in responses],
            segment=item.segment,
            sampling=item.sampling,
            known=[item.known[place] for place in order] if item.known else None,
        )
        prompt = [turn.model_dump() for turn in item.prompt]
        data: Task = {PROMPT: shown_prompt(prompt)}
        if self.kind == "pairwise":
            data |= dict(zip(ANSWERS, texts, strict=True))
        else:
            data[ITEMS] = [
                {"id": item_name(place), "title": f"Answer {place + 1}", "body": text}
                for place, text in enumerate(texts)
            ]
        self.tasks.setdefault(annotator, []).append({"data": {**data, MESSAGES: prompt, TASK: name}})
        self.assigned.setdefault(item.id, []).append(annotator)


def _pairs(item: Item, at_most: int | None, random: np.random.Generator) -> list[Item]:
    """Pairs of an item's responses, each response in as many as the others; of a control those that differ."""
    pairs = [
        pair
        for pair in combinations(range(len(item.responses)), 2)
        if item.known is None or item.known[pair[0]] != item.known[pair[1]]
    ]
    pairs = [pairs[place] for place in random.permutation(len(pairs))]
    taken: list[tuple[int, int]] = []
    uses = [0] * len(item.responses)
    while pairs and (at_most is None or len(taken) < at_most):
        best = min(pairs, key=lambda pair: uses[pair[0]] + uses[pair[1]])
        pairs.remove(best)
        taken.append(best)
        for place in best:
            uses[place] += 1
    made = []
    for pair in taken:
        responses = tuple(item.responses[place] for place in pair)
        known = tuple(item.known[place] for place in pair) if item.known else None
        made.append(item._replace(id=item_id(item.prompt, responses), responses=responses, known=_ranks(known)))
    return made


def _ranks(known: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if known is None:
        return None
    order = sorted(set(known))
    return tuple(order.index(rank) + 1 for rank in known)


def _plant(
    draft: _Draft, controls: Sequence[Item], names: Sequence[str], share: float, random: np.random.Generator
) -> None:
    """Give every annotator controls, ``share`` of his tasks (rounded, at least one), each control once."""
    if not controls or not share:
        return
    turn = 0
    order = random.permutation(len(controls))
    for name in names:
        own = len(draft.tasks.get(name, []))
        wanted = min(len(controls), max(1, round(own * share / (1 - share)))) if own else 0
        for _ in range(wanted):
            item = controls[order[turn % len(controls)]]
            draft.add(name, item, np.roll(random.permutation(len(item.responses)), turn))
            turn += 1


def _digest(content: Any) -> int:
    return int(hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest(), 16)
