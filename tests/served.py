"""A tiny random reward model, as ``train_reward_model`` leaves it, and servers of it, for tests of serving."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import uvicorn
from fastapi import FastAPI

from rewardloop.config import ServingSettings, TrainingSettings
from rewardloop.modeling.reward_model import build_reward_model, save_reward_model
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.serving.app import make_app
from rewardloop.serving.models import Holder, ServedModel
from rewardloop.serving.service import Service
from rewardloop.tracking.connection import connect
from tests.registered import PROMPTS, RESPONSES, Candidate, make_candidate, write

CONFIG = Path("conf/smoke.yaml").resolve()
MAX_LENGTH = 128
"""The tokenizer is byte-level: a response of more bytes cannot be scored."""


def write_reward_model(folder: Path, base: str, *, threshold: float | None = None) -> RewardScorer:
    """Write ``model/``, ``scoring.json`` and ``parity.json``; returns the model loaded from there."""
    model, tokenizer = build_reward_model(base, TrainingSettings(seed=0))
    save_reward_model(model, tokenizer, folder / "model")
    scoring = {
        "format": 1,
        "template": "plain",
        "max_length": MAX_LENGTH,
        "truncation_side": "left",
        "precision": "float32",
        "scale": {"raw": [-1.0, 1.0], "public": [-3.0, 5.0]},
        "threshold": threshold,
    }
    write(folder / "scoring.json", scoring)
    scorer = RewardScorer.load(folder)
    raw = scorer.raw_scores(PROMPTS, RESPONSES).tolist()
    write(folder / "parity.json", {"prompts": PROMPTS, "responses": RESPONSES, "raw_scores": raw})
    return scorer


def spoil_fixture(folder: Path) -> None:
    """Let the fixture expect another score."""
    fixture = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    fixture["raw_scores"][0] += 1
    write(folder / "parity.json", fixture)


def app_of(scorer: Any, digest: str, **settings: Any) -> FastAPI:
    """The application that serves ``scorer``."""
    return make_app(Service(Holder(ServedModel(scorer, digest, "folder")), ServingSettings(**settings)))


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Address of ``app`` on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class Served:
    """The real command in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rewardloop.cli.main", "serve", "--port", "0", *arguments],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("w"),
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.rpartition(" ")[2].strip()

    def __enter__(self) -> "Served":
        assert self.url.startswith("http"), self.line
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        finally:
            self.process.kill()
            self.process.communicate()


def decide(url: str, **headers: str) -> requests.Response:
    """Ask for a decision on one answer."""
    return requests.post(f"{url}/v1/decide", json={"rows": [{"response": RESPONSES[0]}]}, headers=headers, timeout=30)


def registered_version(folder: Path, base: str) -> tuple[Candidate, list[str]]:
    """A champion, and the arguments by which a command finds it."""
    candidate = make_candidate(folder, base, connect(None, folder / "home", 5))
    candidate.register()
    settings = [f"tracking.uri={candidate.tracking_uri}", f"store.url={candidate.store}", "organization=film-reviews"]
    settings += [f"home={folder / 'home'}", "serving.log.sample=1"]
    return candidate, ["-c", str(CONFIG), *(part for setting in settings for part in ("--set", setting))]
