"""A forgetting that is killed, by injected faults at each of its changes and by the real signal, ends the same."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from rewardloop.feedback.forgotten import read_forgotten
from rewardloop.feedback.text_sets import TEXTS, keep_text_set
from rewardloop.operation.forget import Subject
from rewardloop.tracking.connection import connect
from tests.forgetting import HERS, KEY, TEXT, WHO, Dying, Killed, dying, fill, held, settings_of

pytestmark = pytest.mark.timeout(600)


def _content(store: Path) -> dict[str, Any]:
    """The store's files without moments and owners."""
    found: dict[str, Any] = {}
    for path in sorted(store.rglob("*")):
        name = str(path.relative_to(store))
        if not path.is_file() or "takeover" in name:
            continue
        found[name] = path.read_bytes()
        if path.parent.name == "forgotten":
            about = json.loads(path.read_bytes())
            # What an attempt before found clean already it does not count again.
            ignored = ("at", "owner", "places", "quarantined", "decisions", "remaining")
            found[name] = {key: value for key, value in about.items() if key not in ignored}
    return found


def test_killed_at_any_change_it_ends_the_same_and_readers_see_one_or_the_other(
    tmp_path: Path,
) -> None:
    subject = Subject(labelers=frozenset({HERS}), texts=frozenset({hashlib.sha256(TEXT.encode()).hexdigest()}))
    first = fill(tmp_path, settings_of(tmp_path), connect(None, tmp_path / "tracking", 5))
    keep_text_set(first.store.storage, pl.DataFrame([{"prompt": [], "response": TEXT, "key": "k"}], schema=TEXTS))
    shutil.copytree(tmp_path / "store", tmp_path / "kept")
    old = {one.digest for one in first.store.batches()}
    first.forget(subject)
    new = {one.digest for one in first.store.batches()}
    expected = _content(tmp_path / "store")
    assert old != new

    kills = 0
    while True:
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / "kept", tmp_path / "store")
        Dying.left = kills
        try:
            first.forget(subject, dying(first.settings.store.url))
        except Killed:
            assert {one.digest for one in first.store.batches()} in (old, new)
            first.store.current_corpus()
            first.forget(subject, take_over=True)
            assert _content(tmp_path / "store") == expected, f"killed at change {kills}"
            kills += 1
            continue
        break
    assert kills >= 15


def test_killed_for_real_it_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    place = fill(tmp_path, settings, "unused")
    about = settings.model_dump(mode="json", include={"organization", "home", "store", "model", "splits", "validation"})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    environment = os.environ | {"REWARDLOOP_LABELER_KEY": KEY.decode(), "REWARDLOOP_CONFIG": str(tmp_path / "c.yaml")}
    command = [sys.executable, "-m", "rewardloop.cli.main", "forget"]

    def forget(*arguments: str) -> dict[str, Any]:
        whole = [*command, "--json", *arguments]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)[0]  # type: ignore[no-any-return]

    would = forget("--labeler", WHO, "--dry-run")
    process = subprocess.Popen([*command, "--labeler", WHO], env=environment)
    while not read_forgotten(place.store.storage).sequence and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = forget()
    assert (done["labels"], done["groups"]) == (would["labels"], would["groups"]) == (15, 1)
    assert held(tmp_path / "store", HERS, WHO) == []
