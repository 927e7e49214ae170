"""Labeler ids become keyed pseudonyms before anything is written.

In: an id and a secret key. Out: ``l_`` and 16 hex digits of HMAC-SHA256. The same key gives the same pseudonym, so
labelers can be told apart across batches; without the key an id cannot be tested by hashing guesses. A pseudonym
stays as it is, so that whoever comes back with an export is who he was.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
from pathlib import Path
from typing import Any

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import LabelerId
from rewardloop.records import FeedbackGroup
from rewardloop.storage import Storage

KEY_VARIABLE, KEY_FILE = "REWARDLOOP_LABELER_KEY", "labeler.key"
"""Where the key of a store is found: the variable first, then the file in ``home``."""
_SHORTEST_KEY = 16
_PSEUDONYM = re.compile(r"l_[0-9a-f]{16}")


def store_key(home: str | Path) -> bytes:
    """The key by the environment, else of the file in ``home``, made when absent; errors as ``labeler_key``."""
    return labeler_key(os.environ.get(KEY_VARIABLE), Path(home).resolve() / KEY_FILE)


def labeler_key(env_value: str | None, path: Path) -> bytes:
    """The secret key: ``env_value`` where set, else the content of ``path``, which is made (mode 0600) when absent.

    Raises:
        BadInputError: the key is shorter than 16 characters, or the file cannot be read or written.
    """
    if env_value is not None:
        return _checked(env_value.encode(), KEY_VARIABLE)
    if not path.exists():
        Storage.open(str(path.parent.absolute())).create(path.name, secrets.token_hex(32).encode(), mode=0o600)
    try:
        return _checked(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInputError(f"{path}: the labeler key cannot be read: {error.strerror or error}") from error


def _checked(key: bytes, origin: str) -> bytes:
    key = key.strip()
    if len(key) < _SHORTEST_KEY:
        raise BadInputError(
            f"{origin}: the labeler key has {len(key)} characters; expected at least {_SHORTEST_KEY} random ones"
        )
    return key


def pseudonym(key: bytes, labeler: str) -> str:
    """``l_`` and 64 bits of HMAC-SHA256 as hex; what has that form already came from a store, and stays."""
    return labeler if is_pseudonym(labeler) else f"l_{_mac(key, labeler)[:16]}"


def is_pseudonym(text: str) -> bool:
    """Whether ``text`` has the form of a pseudonym, under whichever key."""
    return _PSEUDONYM.fullmatch(text) is not None


def keyed_hash(key: bytes, text: str) -> str:
    """64 bits as hex that tell texts apart and give none away; not those of a labeler's pseudonym who is called so."""
    return _mac(key, f"\x1f{text}")[:16]


def key_fingerprint(key: bytes) -> str:
    """Tells two keys apart without giving either away."""
    return _mac(key, "rewardloop: fingerprint of the labeler key")[:12]


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def pseudonymized(group: FeedbackGroup, key: bytes) -> FeedbackGroup:
    """The group with every labeler id replaced."""
    labels = tuple(
        label if label.labeler is None else label.model_copy(update={"labeler": pseudonym(key, label.labeler)})
        for label in group.labels
    )
    return group.model_copy(update={"labels": labels})


def pseudonymized_row(raw: Any, key: bytes) -> Any:
    """A raw row as JSON may hold it: each ``LabelerId`` in keys and values replaced, NaN and infinity as text."""
    if isinstance(raw, LabelerId):
        return pseudonym(key, raw)
    if isinstance(raw, dict):
        return {pseudonymized_row(name, key): pseudonymized_row(value, key) for name, value in raw.items()}
    if isinstance(raw, list | tuple):
        return [pseudonymized_row(value, key) for value in raw]
    if isinstance(raw, float) and not math.isfinite(raw):
        return str(raw)
    return raw
