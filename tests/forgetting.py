"""A store in which somebody is to be forgotten, and a writer that is killed at any of its changes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from fsspec.implementations.local import LocalFileSystem

from rewardloop.config import Settings
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.forget import Asked, ForgetReport, Forgetter, Subject
from rewardloop.records import normalize_text, text_digest
from rewardloop.storage import Storage

KEY = b"a labeler key of the tests"
WHO = "anna.smith"
HERS = pseudonym(KEY, WHO)
TEXT = "Number seven said something that it should never have said."


def settings_of(folder: Path) -> Settings:
    """A configuration with store and home in ``folder``."""
    return Settings.model_validate(
        {
            "organization": f"org-{abs(hash(folder)):x}",
            "home": str(folder / "home"),
            "store": {"url": str(folder / "store")},
            "model": {"base": "random:tiny"},
            "splits": {"golden": 0.25, "anchors": 30},
            "validation": {"max_failed_share": 0.5},
        }
    )


def row(number: int, labelers: tuple[str, ...] = (WHO, "bob", "cleo")) -> dict[str, Any]:
    return {
        "group_id": f"g{number}",
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "responses": [
            {"response_id": one, "content": TEXT if (number, one) == (7, "b") else f"Answer {one} to {number}."}
            for one in "abc"
        ],
        "labels": [{"labeler": who, "kind": "ranking", "ranks": {"a": 1, "b": 2, "c": 3}} for who in labelers],
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class Place:
    """A store with two batches that hold her, one that does not, quarantine and decisions."""

    folder: Path
    settings: Settings
    tracking_uri: str

    @property
    def store(self) -> FeedbackStore:
        return FeedbackStore.open(self.settings.store.url)

    def forgetter(self, store: FeedbackStore | None = None) -> Forgetter:
        return Forgetter(self.settings, store or self.store, KEY, self.tracking_uri)

    def forget(self, subject: Subject, store: FeedbackStore | None = None, **asked: Any) -> list[ForgetReport]:
        return self.forgetter(store).forget(Asked(subject=subject, by="me", reason="asked to", **asked))

    def ingest(self, name: str, rows: list[dict[str, Any]]) -> str | None:
        return ingest([write_rows(self.folder / name, rows)], self.store, self.settings, key=KEY).digest

    def bytes_of(self, folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, settings: Settings, tracking_uri: str) -> Place:
    made = Place(folder, settings, tracking_uri)
    bad = row(90) | {"labels": [{"labeler": WHO, "kind": "choice", "chosen": "a", "rejected": "zz"}]}
    made.ingest("first.jsonl", [*(row(number) for number in range(10)), bad])
    made.ingest("second.jsonl", [*(row(number) for number in range(20, 24)), row(24, (WHO,))])
    made.ingest("third.jsonl", [row(number, ("bob", "cleo")) for number in range(30, 34)])
    lines = [
        _decision(user=HERS),
        _decision(response_hash=text_digest(normalize_text(TEXT))),
        _decision(user=pseudonym(KEY, "bob")),
    ]
    made.store.storage.write("decisions/2026-01-01/one.jsonl", "".join(lines).encode())
    return made


def _decision(**changes: Any) -> str:
    about: dict[str, Any] = {
        "at": "2026-01-01T00:00:00+00:00", "request_id": "r", "model_version": "1", "prompt_hash": "p",
        "response_hash": "h", "prompt_characters": 1, "response_characters": 1,
    }  # fmt: skip
    return DecisionRecord(**(about | changes)).model_dump_json() + "\n"


def held(folder: Path, *what: str) -> list[str]:
    """Files that hold one of these, Parquet included; the store's own list of what is forgotten is no copy."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.parent.name != "forgotten":
            content = json.dumps(pl.read_parquet(path).to_dicts(), default=str) if path.suffix == ".parquet" else (
                path.read_bytes().decode("utf-8", "replace")
            )  # fmt: skip
            found += [f"{path.name}: {one}" for one in what if one in content]
    return found


class Killed(BaseException):
    pass


class Dying(Storage):
    """A store whose writer is killed before its n-th change."""

    left = 0

    def change(self, call: Callable[[], Any]) -> Any:
        if Dying.left == 0:
            raise Killed
        Dying.left -= 1
        return call()

    def write(self, name: str, data: bytes, *, mode: int | None = None) -> None:
        self.change(lambda: Storage.write(self, name, data, mode=mode))

    def create(self, name: str, data: bytes, *, mode: int | None = None) -> bool:
        return bool(self.change(lambda: Storage.create(self, name, data, mode=mode)))


class DyingFiles(LocalFileSystem):  # type: ignore[misc]
    cachable = False
    store: Dying

    def rm_file(self, path: str) -> None:
        self.store.change(lambda: LocalFileSystem.rm_file(self, path))


def dying(url: str) -> FeedbackStore:
    files = DyingFiles()
    files.store = Dying(url=url, fs=files, root=url)
    return FeedbackStore(files.store)
