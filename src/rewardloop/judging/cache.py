"""What a judge answered, kept by what it was asked: the same question is never paid for twice.

In: the digest of a request. Out: its answer, in a file of its own under ``<home>/judge``, whole or not at all. Of
several processes that ask the same at once the first one's answer stands, so that all of them label alike.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rewardloop.storage import Storage


@dataclass(frozen=True)
class Answer:
    """What came back. ``cut``: why it ends before its own end, in the endpoint's word; None: its last line is whole."""

    text: str
    cut: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class AnswerCache:
    """Answers by digest; readable by their owner only, since a judge quotes what it judged."""

    def __init__(self, home: Path) -> None:
        self._storage = Storage.open(str(home / "judge" / "answers"))

    def get(self, digest: str) -> Answer | None:
        """The answer to this request; None where there is none that can be read."""
        try:
            known = json.loads(self._storage.read(_name(digest)))
            # Earlier files say no more than that; what they call unfinished may have ended by a word of its own.
            return Answer(**known) if known.pop("finished", True) else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None  # it is asked again, which mends the file

    def keep(self, digest: str, answer: Answer) -> Answer:
        """Keep an answer and return the one that stands."""
        data = json.dumps(asdict(answer), ensure_ascii=False).encode()
        if self._storage.create(_name(digest), data, mode=0o600):
            return answer
        found = self.get(digest)
        if found is None:  # damaged: what was there is no answer
            self._storage.write(_name(digest), data, mode=0o600)
        return found or answer


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}.json"
