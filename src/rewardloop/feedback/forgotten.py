"""What was forgotten: the store's list of it, and which batches are in force since.

In: the folder ``forgotten/`` of the store. Out: pseudonyms and keyed hashes of texts that no ingest takes again, and
for each rewritten batch the one in its place. The files of the forgetting with number N, in the order in which they are
created, each only if absent:

    N.json            announced: from now on no ingest takes what it lists
    N.takeover-K.json the process that goes on with it, since the one before is gone
    N.replaced.json   in force: batch -> the batch in its place; readers see all of the new ones, and none of the old
    N.done.json       every copy that rewardloop can reach is gone; the others are named

Neither ids nor texts are in them: a labeler's pseudonym and an HMAC of a text's SHA-256 under the same key.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from rewardloop.errors import BadInputError
from rewardloop.feedback.store_files import BatchManifest, StoreFile
from rewardloop.records import normalize_text, prompt_key
from rewardloop.storage import Storage

FOLDER = "forgotten"
FORGOTTEN = "forgotten, so it is not taken again"
"""Why an ingest skips a row."""
_LOOKS = 5
"""A forgetting that comes into force between two reads is seen whole by the next look."""


class Forgetting(StoreFile):
    """``forgotten/<sequence>.json``."""

    format: Literal[1] = 1
    sequence: int
    at: datetime
    by: str
    reason: str
    labelers: list[str]
    """Pseudonyms."""
    texts: list[str]
    """``text_mark`` of each."""
    owner: dict[str, Any]
    """The process at work on it."""


class Takeover(StoreFile):
    """``forgotten/<sequence>.takeover-<number>.json``."""

    owner: dict[str, Any]
    at: datetime


class Replacement(StoreFile):
    """One rewritten batch."""

    by: str | None
    """Digest of the batch in its place; None: nothing was left of it."""
    ingested_at: datetime
    groups: int
    """Groups that went."""
    labels: int
    """Labels that went, those of groups that went included."""


class Replaced(StoreFile):
    """``forgotten/<sequence>.replaced.json``."""

    format: Literal[1] = 1
    at: datetime
    batches: dict[str, Replacement]
    checked: list[str]
    """Batches that hold nothing of it."""
    text_sets: list[str] = Field(default_factory=list)
    """Files in ``texts/`` and ``references/`` that hold it, and go: runs may have read them."""


class Forgotten(StoreFile):
    """``forgotten/<sequence>.done.json``: what went, and what of it is left where rewardloop cannot remove it."""

    format: Literal[1] = 1
    at: datetime
    groups: int
    labels: int
    quarantined: int
    decisions: int
    places: list[str]
    """Other files and folders that went or were rewritten."""
    models: list[str]
    """Versions that were trained on it."""
    remaining: list[str]


_M = TypeVar("_M", bound=StoreFile)


@dataclass(frozen=True)
class ForgottenList:
    """Everything that was forgotten so far."""

    announced: tuple[Forgetting, ...] = ()
    replaced: Mapping[int, Replaced] = field(default_factory=dict)
    done: frozenset[int] = frozenset()

    @property
    def sequence(self) -> int:
        """Number of the latest announcement, 0 where there is none."""
        return self.announced[-1].sequence if self.announced else 0

    @property
    def unfinished(self) -> Forgetting | None:
        """The forgetting that is under way, or was cut short."""
        return self.announced[-1] if self.announced and self.sequence not in self.done else None

    @property
    def labelers(self) -> frozenset[str]:
        """Pseudonyms."""
        return frozenset(one for forgetting in self.announced for one in forgetting.labelers)

    @property
    def texts(self) -> frozenset[str]:
        """Marks of texts."""
        return frozenset(one for forgetting in self.announced for one in forgetting.texts)

    def replacements(self) -> dict[str, Replacement]:
        """Every batch that was rewritten -> what is in its place; that may have been rewritten again."""
        return {old: one for replaced in self.replaced.values() for old, one in replaced.batches.items()}

    def current(self, digest: str) -> str | None:
        """The batch that is in the place of ``digest`` today; None where nothing was left of it."""
        replacements = self.replacements()
        found: str | None = digest
        while found is not None and found in replacements:
            found = replacements[found].by
        return found

    def names_of(self, digest: str) -> frozenset[str]:
        """``digest`` and every batch that it is in the place of."""
        replacements = self.replacements()
        names = {digest}
        while True:
            more = {old for old, one in replacements.items() if one.by in names} - names
            if not more:
                return frozenset(names)
            names |= more

    def unchecked(self, batch: BatchManifest) -> str | None:
        """Why no corpus takes the batch: an ingest that was under way may have brought in what is forgotten."""
        latest = max(self.replaced, default=0)
        if batch.forgetting >= latest or batch.digest in self.replaced[latest].checked:
            return None
        return f"was ingested while {place(latest)} was under way and may hold what it forgets; run: rewardloop forget"


def read_forgotten(storage: Storage) -> ForgottenList:
    """The list as it is now.

    Raises:
        BadInputError: a file of it is not of this version of rewardloop.
    """
    announced, replaced, done = [], {}, set()
    for name in storage.list(FOLDER):
        number, _, kind = name.removesuffix(".json").partition(".")
        if not number.isdecimal():
            continue
        if not kind:
            announced.append(_read(storage, Forgetting, name))
        elif kind == "replaced":
            replaced[int(number)] = _read(storage, Replaced, name)
        elif kind == "done":
            done.add(int(number))
    return ForgottenList(tuple(announced), replaced, frozenset(done))


def latest_owner(storage: Storage, forgetting: Forgetting) -> tuple[int, dict[str, Any]]:
    """How often a forgetting was taken over, and the process at work on it."""
    start = f"{forgetting.sequence:08d}.takeover-"
    names = [name for name in storage.list(FOLDER) if name.startswith(start)]
    return len(names), _read(storage, Takeover, names[-1]).owner if names else forgetting.owner


def batches_in_force(storage: Storage, read: Callable[[], list[BatchManifest]]) -> list[BatchManifest]:
    """The batches that readers see, of those that ``read`` finds.

    The list is read after the batches: whoever sees a batch gone sees what is in its place, or looks again.
    """
    missing: set[str] = set()
    for _ in range(_LOOKS):
        found = read()
        forgotten = read_forgotten(storage)
        if not forgotten.announced:
            return [batch for batch in found if batch.replaces is None]
        replacements = forgotten.replacements()
        made = {one.by for one in replacements.values() if one.by is not None}
        missing = made - set(replacements) - {batch.digest for batch in found}
        if not missing:
            # What replaces another and is in no list was not finished.
            return [b for b in found if b.digest not in replacements and (b.replaces is None or b.digest in made)]
    raise BadInputError(
        f"{storage.path('batches')}: batch {min(missing)[:12]} is missing, which is in the place of one with something "
        "forgotten; restore it from a copy"
    )


def place(sequence: int, kind: str = "") -> str:
    """Path of a file of a forgetting."""
    return f"{FOLDER}/{sequence:08d}{kind and '.'}{kind}.json"


def text_mark(key: bytes, digest: str) -> str:
    """What stands for a text in the list: HMAC-SHA256 of its SHA-256 (hex), so that guesses cannot be tried on it."""
    return hmac.digest(key, f"forgotten text: {digest}".encode(), "sha256").hex()


def marks_of(key: bytes, text: str) -> set[str]:
    """Marks under which ``text`` may have been forgotten: as it is, and normalized."""
    # A quarantined text may hold half of a surrogate pair.
    forms = {text.encode("utf-8", "surrogatepass"), normalize_text(text).encode("utf-8", "surrogatepass")}
    return {text_mark(key, hashlib.sha256(form).hexdigest()) for form in forms}


def prompt_mark(key: bytes, turns: Iterable[tuple[str, str]]) -> str:
    """Mark under which a whole prompt may have been forgotten: that of ``records.prompt_key``."""
    return text_mark(key, prompt_key(turns))


def copy_list(source: Storage, target: Storage) -> None:
    """Announcements of one store for another, in which an ingest is staged."""
    for forgetting in read_forgotten(source).announced:
        target.create(place(forgetting.sequence), (forgetting.model_dump_json(indent=1) + "\n").encode())


def _read(storage: Storage, model: type[_M], name: str) -> _M:
    path = f"{FOLDER}/{name}"
    try:
        return model.model_validate_json(storage.read(path))
    except (ValidationError, OSError) as error:
        raise BadInputError(
            f"{storage.path(path)}: cannot be read as a {model.__name__}: {error}; restore it"
        ) from error
