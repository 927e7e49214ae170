"""The name of a training's work folder: equal inputs and settings go on from the same checkpoint."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def work_digest(files: Iterable[Path], *parts: Any) -> str:
    """SHA-256 over the files' bytes and ``parts`` (anything that is JSON)."""
    total = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for path in files:
        total.update(path.read_bytes())
    return total.hexdigest()
