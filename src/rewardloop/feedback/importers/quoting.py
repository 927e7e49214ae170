"""Values in reasons: short, on one line, and never half of something that redaction would have found whole.

In: a value of a row. Out: its text for a reason. Reasons are redacted behind the importers, so a long text is cut only
where no address and no number can go on: half of one would not be found.
"""

import json
import re
from typing import Any

_MOST = 60
_AHEAD = 300
"""Characters behind the cut that are looked at."""
_GAP = re.compile(r"([\s/]+)")
_GOES_ON = re.compile(r"[0-9]")
"""In the words on both sides of a gap inside of a number in groups, at least in one of them."""
_UNSEEN = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal acts on instead of showing it, and halves of surrogate pairs; JSON escapes the rest."""


def shown(value: Any) -> str:
    """A value in a reason, as JSON, cut where it is long."""
    return cut(_visible(value))


def quoted(text: str) -> str:
    """A text in a reason, in single quotes and cut where it is long."""
    return f"'{cut(_visible(text)[1:-1])}'"


def cut(text: str, most: int = _MOST) -> str:
    """``text`` itself, or as much of it as ends before ``most`` and before anything that might be redacted."""
    if len(text) <= most:
        return text
    parts = _GAP.split(text[: most + _AHEAD])
    kept = length = 0
    for place in range(0, len(parts), 2):
        word, following = parts[place], "".join(parts[place + 2 : place + 3])
        length += len(word)
        if length > most:
            # A long word that is no address, nor the beginning of one.
            kept = kept if _GOES_ON.search(word + following) or "@" in word else most
            break
        if not _GOES_ON.search(word + following):
            kept = length
        length += len("".join(parts[place + 1 : place + 2]))
    opening = 1 if text.startswith(("[", "{", '"')) else 0
    return f"{text[: kept or opening]}..."


def _visible(value: Any) -> str:
    # Letters stay as they are: redaction finds no address that is written in escapes.
    text = json.dumps(value, default=str, ensure_ascii=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
