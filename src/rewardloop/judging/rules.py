"""Programs as labelers (``signal``): length, patterns, profanity, agreement with a known right answer.

In: items and ``judge.rules``. Out: canonical groups with one label per rule. What a rule says is a rating from 0 to 1
on a criterion of its own, unless the configuration says otherwise, so that it is never taken for people's opinion.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardloop.config import RuleSettings
from rewardloop.errors import BadInputError
from rewardloop.judging.items import Item
from rewardloop.judging.judge import Judged
from rewardloop.judging.questions import digest_of
from rewardloop.records import normalize_text, prompt_key

NO_RULE_SAYS = "groups about which no rule says anything"
Scores = Sequence[float | None]
_Rule = Callable[[Sequence[Item]], list[Scores]]


def apply_rules(items: Sequence[Item], rules: Sequence[RuleSettings], *, limit: int) -> Judged:
    """Label ``items`` by every rule.

    Args:
        items: groups to label.
        rules: ``judge.rules``.
        limit: most bytes of a file of references.

    Raises:
        BadInputError: there is no rule, or a file of references cannot be read.
    """
    if not rules:
        raise BadInputError("judge.rules: there is none; add some to the configuration, or judge without --rules")
    made: list[list[dict[str, Any]]] = [[] for _ in items]
    judged = Judged([], items=len(items))
    for rule in rules:
        score, about = _prepared(rule, limit)
        labeler = f"rule:{rule.name}:{digest_of(about)[:8]}"
        judged.labelers.append(labeler)
        who = {"labeler": labeler, "labeler_kind": "signal", "criterion": rule.criterion or rule.name}
        for item, labels, scores in zip(items, made, score(items), strict=True):
            said = {
                response.response_id: value
                for response, value in zip(item.responses, scores, strict=True)
                if value is not None
            }
            if said:
                labels.append(who | _label(rule, said))
    for item, labels in zip(items, made, strict=True):
        if labels:
            judged.groups.append(item.labeled(labels))
            judged.labels += len(labels)
        else:
            judged.left_out[NO_RULE_SAYS] += 1
    return judged


def _label(rule: RuleSettings, said: Mapping[str, float]) -> dict[str, Any]:
    if rule.label == "rating":
        return {"kind": "rating", "scores": said, "scale": [0, 1]}
    least = 1 - rule.max_profanity if rule.kind == "profanity" else 1.0
    return {"kind": "acceptable", "values": {name: value >= least for name, value in said.items()}}


def _prepared(rule: RuleSettings, limit: int) -> tuple[_Rule, object]:
    """The rule as a function, and what its label's digest is made of."""
    about: dict[str, Any] = rule.model_dump(mode="json", exclude={"criterion", "references"})
    if rule.kind == "reference":
        known = _references(rule, limit)
        about["references"] = sorted((key, sorted(texts)) for key, texts in known.items())
        return lambda items: [_matches(item, rule, known) for item in items], about
    if rule.kind == "profanity":
        return _profanity, about
    test = _length_test(rule) if rule.kind == "length" else _pattern_test(rule)
    return lambda items: [[float(test(one.content)) for one in item.responses] for item in items], about


def _length_test(rule: RuleSettings) -> Callable[[str], bool]:
    low, high = rule.min or 0, rule.max

    def test(text: str) -> bool:
        size = len(text) if rule.unit == "characters" else len(text.split())
        return low <= size and (high is None or size <= high)

    return test


def _pattern_test(rule: RuleSettings) -> Callable[[str], bool]:
    flags = re.IGNORECASE if rule.ignore_case else 0
    must, must_not = ([re.compile(one, flags) for one in patterns] for patterns in (rule.must, rule.must_not))
    return lambda text: all(one.search(text) for one in must) and not any(one.search(text) for one in must_not)


def _profanity(items: Sequence[Item]) -> list[Scores]:
    """1 minus the probability that alt-profanity-check gives; all texts at once, which is much faster."""
    from profanity_check import predict_prob

    texts = [response.content for item in items for response in item.responses]
    found = iter(predict_prob(texts).tolist() if texts else [])
    return [[round(1 - min(1.0, max(0.0, next(found))), 6) for _ in item.responses] for item in items]


def _references(rule: RuleSettings, limit: int) -> dict[str, set[str]]:
    """Prompt's key -> right answers."""
    from rewardloop.feedback.text_sets import read_text_set

    assert rule.references is not None, "the configuration was checked"
    try:
        table = read_text_set(Path(rule.references), "demonstrations", limit=limit)
    except BadInputError as error:
        raise BadInputError(f"judge.rules: {rule.name}: references: {error}") from error
    known: dict[str, set[str]] = {}
    for row in table.iter_rows(named=True):
        known.setdefault(row["key"], set()).add(row["response"])
    return known


def _matches(item: Item, rule: RuleSettings, known: Mapping[str, set[str]]) -> Scores:
    right = known.get(prompt_key((message.role, message.content) for message in item.prompt))
    if right is None:
        return [None] * len(item.responses)
    as_read = str if rule.match == "exact" else normalize_text
    wanted = [as_read(text) for text in right]
    found = [as_read(response.content) for response in item.responses]
    if rule.match == "contains":
        return [float(any(text in one for text in wanted)) for one in found]
    return [float(one in wanted) for one in found]
