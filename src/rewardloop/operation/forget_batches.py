"""Batches that hold something to be forgotten, and the batches in their place.

In: the store, pseudonyms and marks of texts. Out: what holds it, and new batches, written whole before anybody sees
them. A new batch has the age, the source and the standing (refused, accepted) of the one that it replaces.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from rewardloop.feedback.forgotten import ForgottenList, Replacement
from rewardloop.feedback.forgotten_texts import ForgottenTexts
from rewardloop.feedback.rewriting import Rewritten, rewrite
from rewardloop.feedback.store import BatchManifest, FeedbackStore, batch_digest
from rewardloop.feedback.store_files import Acceptance, Refusal
from rewardloop.operation.forget_text_sets import text_sets_with
from rewardloop.storage import Storage
from rewardloop.transfer import remove


@dataclass(frozen=True)
class Held:
    """One batch that holds something of it."""

    manifest: BatchManifest
    digest: str | None
    """Of the batch in its place; None: nothing is left."""
    groups: int
    labels: int


@dataclass(frozen=True)
class Found:
    """``batches``: those that hold it; ``checked``: those that do not."""

    batches: Mapping[str, Held] = field(default_factory=dict)
    checked: frozenset[str] = frozenset()
    labelers: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()
    key: bytes = b""
    text_sets: tuple[str, ...] = ()
    """Files in ``texts/`` and ``references/`` that hold it."""

    @property
    def anything(self) -> bool:
        """Whether a run may read any of it."""
        return bool(self.batches or self.text_sets)


def look(store: FeedbackStore, key: bytes, labelers: frozenset[str], marks: frozenset[str]) -> Found:
    """Look through every batch in force, one at a time, and through the texts that runs were given."""
    batches: dict[str, Held] = {}
    checked = set()
    for manifest in store.batches():
        result = rewrite(store.read_batch(manifest.digest), key, labelers, marks)
        if not result.is_changed:
            checked.add(manifest.digest)
            continue
        digest = None if result.frame.is_empty() else batch_digest(result.frame["record"].to_list())
        batches[manifest.digest] = Held(manifest, digest, result.groups, result.labels)
    text_sets = tuple(text_sets_with(store.storage, ForgottenTexts(key, marks)))
    return Found(batches, frozenset(checked), labelers, marks, key, text_sets)


def put_in_place(store: FeedbackStore, found: Found, sequence: int) -> dict[str, Replacement]:
    """Write the new batches; nobody sees them before the forgetting is in force."""
    made = {}
    for old, held in found.batches.items():
        if held.digest is not None:
            result = rewrite(store.read_batch(old), found.key, found.labelers, found.marks)
            _write(store.storage, held.manifest, held.digest, result, sequence)
        made[old] = Replacement(
            by=held.digest, ingested_at=held.manifest.ingested_at, groups=held.groups, labels=held.labels
        )
    return made


def remove_old_batches(store: FeedbackStore, known: ForgottenList, sequence: int) -> None:
    """Remove what is not in force any more, and what an attempt that was cut short left half-made."""
    storage = store.storage
    replacements = known.replacements()
    made = {one.by for one in replacements.values()}
    for digest in storage.list("batches"):
        names = [f"batches/{digest}/{name}" for name in storage.list(f"batches/{digest}")]
        if digest in replacements:
            ordered = sorted(names)  # the manifest first: who reads the batch now is told why it is not there
        elif digest not in made and _is_half_made(storage, digest, sequence):
            ordered = sorted(names, reverse=True)  # the manifest last: it tells that the folder may go
        else:
            continue
        for name in ordered:
            remove(storage, name)
        remove(storage, f"batches/{digest}")
    for digest in replacements:
        for folder in ("refused", "accepted"):
            remove(storage, f"{folder}/{digest}.json")


def parquet(frame: pl.DataFrame) -> bytes:
    """The table as a file, as the store writes it."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _is_half_made(storage: Storage, digest: str, sequence: int) -> bool:
    try:
        manifest = BatchManifest.model_validate_json(storage.read(f"batches/{digest}/manifest.json"))
    except FileNotFoundError:
        return False  # an ingest may be writing it
    return manifest.replaces is not None and manifest.forgetting <= sequence


def _write(storage: Storage, old: BatchManifest, digest: str, result: Rewritten, sequence: int) -> None:
    name = f"batches/{digest}/manifest.json"
    if storage.exists(name):
        return  # equal records were ingested before, or an attempt before this one wrote them
    labels = result.frame.select(pl.col("labels").explode()).unnest("labels")
    manifest = old.model_copy(
        update={
            "digest": digest,
            "groups": result.frame.height,
            "labels": labels.height,
            "labelers": labels["labeler"].drop_nulls().n_unique() or None,
            "forgetting": sequence,
            "replaces": old.digest,
        }
    )
    for folder, model in (("refused", Refusal), ("accepted", Acceptance)):
        try:
            standing = model.model_validate_json(storage.read(f"{folder}/{old.digest}.json"))
        except FileNotFoundError:
            continue
        storage.create(f"{folder}/{digest}.json", (standing.model_dump_json(indent=1) + "\n").encode())
    storage.write(f"batches/{digest}/records.parquet", parquet(result.frame))
    storage.create(name, (manifest.model_dump_json(indent=1) + "\n").encode())
