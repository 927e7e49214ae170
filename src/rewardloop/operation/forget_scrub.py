"""What is forgotten, taken out of files that quote it.

In: pseudonyms and texts. Out: the same file with ``[FORGOTTEN]`` in their places; JSON stays JSON of the same shape. A
text is found whole, cut short at its end as reports do, and inside a longer one; a short text (a word or two) only
where it stands alone, since it says nothing in a sentence.
"""

import html
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GONE = "[FORGOTTEN]"
_INSIDE = 20
"""Characters from which on a text is looked for inside others."""
_CUT = ("…", "...")
_PLAIN = {".txt", ".log", ".html", ".md", ".csv", ".jsonl"}


@dataclass(frozen=True)
class Scrubber:
    """Takes out ``labelers`` (pseudonyms) and ``texts``."""

    labelers: Collection[str]
    texts: Collection[str]

    def __bool__(self) -> bool:
        return bool(self.labelers or self.texts)

    def text(self, value: str) -> str:
        """``value`` without them."""
        for labeler in self.labelers:
            value = value.replace(labeler, GONE)
        for text in self.texts:
            if value == text or self._is_cut(value, text):
                return GONE
            if len(text) >= _INSIDE:
                value = value.replace(text, GONE)
        return value

    def tree(self, value: Any) -> Any:
        """A JSON tree without them."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.tree(part) for part in value]
        if isinstance(value, dict):
            return {self.text(name): self.tree(part) for name, part in value.items()}
        return value

    def file(self, path: Path) -> bool:
        """Whether the file held any of them; it is replaced whole. Only JSON and plain texts are read."""
        if path.suffix == ".json":
            data = self._json(path.read_bytes())
        elif path.suffix in _PLAIN:
            data = self._lines(path)
        else:
            return False
        if data == path.read_bytes():
            return False
        temporary = path.with_name(f".{path.name}.forgetting")
        temporary.write_bytes(data)
        temporary.chmod(path.stat().st_mode)
        temporary.replace(path)
        return True

    def _json(self, data: bytes) -> bytes:
        try:
            content = json.loads(data)
        except ValueError:
            return self._anywhere(data.decode("utf-8", "replace")).encode()
        kept = self.tree(content)
        return data if kept == content else json.dumps(kept, indent=1, ensure_ascii=False).encode()

    def _lines(self, path: Path) -> bytes:
        data = path.read_bytes()
        text = data.decode("utf-8", "surrogateescape")
        kept = self._anywhere(text)
        return data if kept == text else kept.encode("utf-8", "surrogateescape")

    def _anywhere(self, content: str) -> str:
        for labeler in self.labelers:
            content = content.replace(labeler, GONE)
        for text in (text for text in self.texts if len(text) >= _INSIDE):
            for form in {text, html.escape(text), html.escape(text, quote=False), *_in_json(text)}:
                content = content.replace(form, GONE)
        return content

    @staticmethod
    def _is_cut(value: str, text: str) -> bool:
        cut = next((value.removesuffix(end) for end in _CUT if value.endswith(end)), "")
        return len(cut) >= _INSIDE and text.startswith(cut)


def _in_json(text: str) -> set[str]:
    return {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
