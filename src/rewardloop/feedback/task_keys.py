"""What the tasks of ``rewardloop export-tasks --kind pairwise|ranker`` do not tell: whose answers they show, and which
of them are controls.

In: shown answers in their order. Out: the key ``labeling/<id>.json`` in the feedback store, where the import of the
finished tasks (``importers/label_studio_tasks.py``) finds it. A task is named by its texts and their places, so that a
changed one is seen.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, ValidationError

from rewardloop.errors import BadInputError
from rewardloop.feedback.store_files import StoreFile
from rewardloop.records import Message, Sampling
from rewardloop.storage import Storage

FOLDER = "labeling"
"""Of the store, for the keys."""
TaskKind = Literal["pairwise", "ranker"]
PROMPT, ANSWERS, ITEMS = "prompt", ("answer1", "answer2"), "items"
"""Keys of a task's data: the prompt as people read it, the answers of a pair, the answers to rank."""
MESSAGES, TASK, KEY = "messages", "task", "labeling"
"""Keys of a task's data that nobody sees: the prompt itself, the task, its key."""
COMPARISON, RANK, TIE = "comparison", "rank", "tie"
"""Tags of the labeling configuration; the choice beside a comparison has the name of its value."""
_ID = re.compile(r"[0-9a-f]{64}")
_TASK = re.compile(r"[0-9a-f]{16}")


class ShownAnswers(StoreFile):
    """One task: the answers in the order in which they are shown."""

    item: str
    """Names prompt and answers, whatever their order: ``group_id`` of what comes back."""
    response_ids: list[str]
    models: list[str | None]
    segment: str | None = None
    sampling: Sampling = "random"
    known: list[int] | None = None
    """Ranks of the answers of a control item, 1 is best."""


class TaskKey(StoreFile):
    """``labeling/<id>.json``."""

    format: Literal[1] = 1
    id: str
    """SHA-256 over what follows, without the time."""
    kind: TaskKind
    criterion: str
    """What the overall verdict is about."""
    criteria: dict[str, str] = Field(default_factory=dict)
    """Tag -> criterion of what is judged beside."""
    rating_stars: int
    created_at: datetime
    tasks: dict[str, ShownAnswers]


def task_name(prompt: Iterable[Message], answers: Sequence[str]) -> str:
    """Names a task by its prompt and its answers in their order."""
    return _digest([[[turn.role, turn.content] for turn in prompt], list(answers)])[:16]


def key_id(
    kind: TaskKind, criterion: str, criteria: Mapping[str, str], stars: int, tasks: Mapping[str, ShownAnswers]
) -> str:
    """The id of a key with this content."""
    shown = [[name, tasks[name].model_dump(mode="json")] for name in sorted(tasks)]
    return _digest([kind, criterion, sorted(criteria.items()), stars, shown])


def is_assigned(data: Any) -> bool:
    """Whether the data of a task say that its key is in a store."""
    if not isinstance(data, dict):
        return False
    found = (data.get(KEY), data.get(TASK))
    return all(
        isinstance(value, str) and pattern.fullmatch(value) for value, pattern in zip(found, (_ID, _TASK), strict=True)
    )


def keep_task_key(storage: Storage, key: TaskKey) -> bool:
    """Put the key into the store; False when it is there already."""
    return storage.create(_name(key.id), (key.model_dump_json(indent=1) + "\n").encode())


def load_task_key(storage: Storage, wanted: str) -> TaskKey:
    """The key with this id.

    Raises:
        BadInputError: the store has none, or it was changed.
    """
    name = _name(wanted)
    try:
        key = TaskKey.model_validate_json(storage.read(name))
    except FileNotFoundError:
        raise BadInputError(
            f"labeling {wanted[:12]}: {storage.url} has no {name}; ingest into the store that its tasks were exported "
            "from (store.url)"
        ) from None
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{storage.path(name)}: cannot be read: {error}; restore it from a copy") from error
    if not wanted == key.id == key_id(key.kind, key.criterion, key.criteria, key.rating_stars, key.tasks):
        raise BadInputError(f"{storage.path(name)}: was changed; restore it from a copy")
    return key


def _name(wanted: str) -> str:
    return f"{FOLDER}/{wanted}.json"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
