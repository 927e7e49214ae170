"""Served answers that a person should judge, as tasks for Label Studio: acceptable or not.

In: answers with their prompts. Out: tasks that do not tell score or decision, and the labeling configuration. A task is
named by its texts, so the import of the finished tasks (``importers/label_studio_verdicts.py``) sees whether somebody
changed them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rewardloop.feedback.comparisons import shown_prompt

ACCEPTABLE, UNACCEPTABLE = "acceptable", "unacceptable"
"""What the verdicts are called in ``LABELING_CONFIG``."""
SELECTION = "selection:"
"""What ``source`` of such a group begins with; the selection's id follows."""

LABELING_CONFIG = f"""<View>
  <Header value="May this answer be shown?"/>
  <Text name="prompt" value="$prompt"/>
  <View style="border: 1px solid #999; padding: 1em; margin-top: 1em">
    <Text name="response" value="$response"/>
  </View>
  <Choices name="verdict" toName="response" choice="single-radio" showInLine="true" required="true">
    <Choice value="{ACCEPTABLE}" hint="It may be shown"/>
    <Choice value="{UNACCEPTABLE}" hint="It must not be shown"/>
  </Choices>
</View>
"""
_ID = re.compile(r"[0-9a-f]{64}")
_TASK = re.compile(r"[0-9a-f]{16}")


class Answer(NamedTuple):
    """One answer to judge."""

    prompt: Sequence[Mapping[str, str]]
    response: str
    segment: str | None


def make_tasks(answers: Iterable[Answer], *, model: str, criterion: str) -> list[dict[str, Any]]:
    """Tasks as Label Studio imports them, in the given order.

    Args:
        answers: without duplicates.
        model: the version that decided on them; it takes part in the selection's id.
        criterion: what is judged.
    """
    data: list[dict[str, Any]] = [
        {
            "prompt": shown_prompt(answer.prompt),
            "response": answer.response,
            "messages": [dict(turn) for turn in answer.prompt],
            "segment": answer.segment,
            "criterion": criterion,
            "task": task_id(answer.prompt, answer.response),
        }
        for answer in answers
    ]
    selection = _digest([model, sorted(one["task"] for one in data)])
    return [{"data": {**one, "selection": selection}} for one in data]


def task_id(prompt: Sequence[Mapping[str, str]], response: str) -> str:
    """Names a task by its texts."""
    return _digest([[[turn["role"], turn["content"]] for turn in prompt], response])[:16]


def is_selected(data: Any) -> bool:
    """Whether the data of a task say that it was made here."""
    if not isinstance(data, dict):
        return False
    found = (data.get("selection"), data.get("task"))
    return all(
        isinstance(value, str) and pattern.fullmatch(value) for value, pattern in zip(found, (_ID, _TASK), strict=True)
    )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
