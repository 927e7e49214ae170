"""Canonical records that are beyond doubt, checked without making objects of them.

In: a parsed line of JSON. Out: its canonical tree (what ``FeedbackGroup`` would dump), or None where anything is
unusual: a conversion that pydantic would make, a field it would refuse, a text near the limits. Whoever gets None asks
``FeedbackGroup`` itself, so verdicts and messages have one source; this only has to be right when it says yes.
"""

from collections.abc import Callable
from typing import Any

from rewardloop.config import ValidationSettings

_FIELDS = {
    *("group_id", "document_id", "prompt", "responses", "labels"),
    *("labeled_at", "segment", "source", "sampling"),
}
_ROLES = {"system", "user", "assistant", "tool"}
_SAMPLINGS = {"random", "active", "comparison", "control"}
_KINDS = {"human", "model", "signal"}
_MOST = 1 << 31
"""Beyond it integers leave what all columns hold exactly."""

Tree = dict[str, Any]
Namer = Callable[[str], str]


def plain_record(values: Any, limits: ValidationSettings, name_of: Namer) -> Tree | None:
    """The canonical tree of one record with pseudonyms for labelers, or None where ``FeedbackGroup`` has to judge.

    Args:
        values: parsed JSON.
        limits: of the lengths of texts.
        name_of: pseudonym of a labeler's id.
    """
    if type(values) is not dict or not values.keys() <= _FIELDS or values.get("labeled_at") is not None:
        return None
    group_id, sampling = values.get("group_id"), values.get("sampling", "random")
    if type(group_id) is not str or not group_id or type(sampling) is not str or sampling not in _SAMPLINGS:
        return None
    tree: Tree = {"group_id": group_id, "sampling": sampling}
    for field in ("document_id", "segment", "source"):
        text = values.get(field)
        if text is not None:
            if type(text) is not str:
                return None
            tree[field] = text
    prompt = _prompt(values.get("prompt", ()), limits)
    responses = _responses(values.get("responses"), limits)
    if prompt is None or responses is None:
        return None
    known = {response["response_id"] for response in responses}
    if len(known) < len(responses):
        return None
    labels = _labels(values.get("labels"), known, name_of)
    if labels is None:
        return None
    tree["prompt"], tree["responses"], tree["labels"] = prompt, responses, labels
    return tree


def _prompt(turns: Any, limits: ValidationSettings) -> list[Tree] | None:
    if type(turns) is not list:
        return [] if turns == () else None
    characters = 0
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return None
        role, content = turn.get("role"), turn.get("content")
        if type(content) is not str or type(role) is not str or role not in _ROLES:
            return None
        characters += len(content)
    return turns if characters <= limits.max_prompt_characters else None


def _responses(responses: Any, limits: ValidationSettings) -> list[Tree] | None:
    if type(responses) is not list or not responses:
        return None
    lowest, highest = limits.min_response_characters, limits.max_response_characters
    found = []
    for response in responses:
        if type(response) is not dict:
            return None
        identity, content, model = response.get("response_id"), response.get("content"), response.get("model")
        if type(identity) is not str or not identity or type(content) is not str:
            return None
        if len(content) > highest or len(content.strip()) < lowest:
            return None
        if len(response) > 2:
            if response.keys() != {"response_id", "content", "model"} or not (model is None or type(model) is str):
                return None
            if model is None:
                response = {"response_id": identity, "content": content}
        found.append(response)
    return found


def _labels(labels: Any, known: set[str], name_of: Namer) -> list[Tree] | None:
    if type(labels) is not list or not labels:
        return None
    found = []
    for label in labels:
        if type(label) is not dict:
            return None
        kind = label.get("kind")
        tree = _READERS[kind](label, known) if type(kind) is str and kind in _READERS else None
        labeler, of_kind, criterion = (
            label.get("labeler"),
            label.get("labeler_kind", "human"),
            label.get("criterion", "overall"),
        )
        if tree is None or type(criterion) is not str or type(of_kind) is not str or of_kind not in _KINDS:
            return None
        if labeler is not None:
            if type(labeler) is not str:
                return None
            tree["labeler"] = name_of(labeler)
        tree["kind"], tree["labeler_kind"], tree["criterion"] = kind, of_kind, criterion
        found.append(tree)
    return found


_COMMON = {"kind", "labeler", "labeler_kind", "criterion"}


def _ranking(label: Tree, known: set[str]) -> Tree | None:
    ranks = label.get("ranks")
    if not label.keys() <= _COMMON | {"ranks"} or type(ranks) is not dict or not ranks or not ranks.keys() <= known:
        return None
    for rank in ranks.values():
        if type(rank) is not int or not 1 <= rank < _MOST:
            return None
    return {"ranks": ranks}


def _rating(label: Tree, known: set[str]) -> Tree | None:
    scores, scale = label.get("scores"), label.get("scale")
    if not label.keys() <= _COMMON | {"scores", "scale"} or type(scores) is not dict or not scores:
        return None
    if not scores.keys() <= known:
        return None
    lowest, highest = -_MOST, _MOST
    if scale is not None:
        if type(scale) is not list or len(scale) != 2 or not all(_is_number(edge) for edge in scale):
            return None
        lowest, highest = scale
    for score in scores.values():
        if not _is_number(score) or not lowest <= score <= highest:
            return None
    tree: Tree = {"scores": {key: float(score) for key, score in scores.items()}}
    if scale is not None:
        tree["scale"] = [float(lowest), float(highest)]
    return tree


def _is_number(value: Any) -> bool:
    # NaN fails the comparison.
    return (type(value) is int or type(value) is float) and -_MOST <= value <= _MOST


def _choice(label: Tree, known: set[str]) -> Tree | None:
    chosen, rejected = label.get("chosen"), label.get("rejected")
    if not label.keys() <= _COMMON | {"chosen", "rejected"} or type(chosen) is not str or type(rejected) is not str:
        return None
    return None if chosen == rejected or not {chosen, rejected} <= known else {"chosen": chosen, "rejected": rejected}


def _acceptable(label: Tree, known: set[str]) -> Tree | None:
    verdicts = label.get("values")
    if not label.keys() <= _COMMON | {"values"} or type(verdicts) is not dict or not verdicts:
        return None
    if not verdicts.keys() <= known or not all(type(verdict) is bool for verdict in verdicts.values()):
        return None
    return {"values": verdicts}


_READERS: dict[str, Callable[[Tree, set[str]], Tree | None]] = {
    "ranking": _ranking,
    "rating": _rating,
    "choice": _choice,
    "acceptable": _acceptable,
}
