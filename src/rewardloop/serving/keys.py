"""API keys: who may ask.

In: a file with lines ``name sha256hex``, as ``rewardloop serve-key`` prints them. Out: the name that a key belongs to.
Keys are random and 256 bits long, so a plain SHA-256 of one cannot be guessed back.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from rewardloop.errors import BadInputError

_LINE = re.compile(r"(?P<name>\S+)\s+(?P<digest>[0-9a-f]{64})")
_PREFIX = "rl_"


@dataclass(frozen=True)
class ApiKeys:
    """Digests of the keys that are let in, by name."""

    digests: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "ApiKeys":
        """Read the file; empty lines and lines that begin with # are left out.

        Raises:
            BadInputError: names the file and the first line that is wrong; a file without keys would let nobody in.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadInputError(f"REWARDLOOP_API_KEYS_FILE: {path} cannot be read: {reason}") from error
        digests: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None or found["name"] in digests:
                wrong = "a name that was given before" if found else "no line as rewardloop serve-key prints it"
                raise BadInputError(f"{path}, line {number}: {wrong}; expected a new name and 64 hex digits")
            digests[found["name"]] = found["digest"]
        if not digests:
            raise BadInputError(f"{path}: holds no key; add the line that rewardloop serve-key NAME prints")
        return cls(digests)

    def name_of(self, key: str) -> str | None:
        """Whose key this is, or None; takes equally long whichever it is."""
        digest = _digest(key)
        found = None
        for name, known in self.digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def new_key(name: str) -> tuple[str, str]:
    """A new key, and its line for the file.

    Raises:
        BadInputError: the name is empty or holds white space.
    """
    if not re.fullmatch(r"[^\s#]\S*", name):
        raise BadInputError(f"serve-key {name!r}: expected a name without white space")
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, f"{name} {_digest(key)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
