"""The server follows the champion: verified before it answers, swapped without dropping a request, freed after."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import requests

from rewardloop.config import ServingSettings
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.serving import models
from rewardloop.serving.app import make_app
from rewardloop.serving.models import Champion, Holder, ServedModel, open_registered
from rewardloop.serving.service import Service
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from tests.registered import Candidate, bless, make_candidate
from tests.served import serving

ROWS = [{"prompt": "How was the film?", "response": "A quiet film that stays."}]


def registered_twice(tmp_path: Path, base: str) -> tuple[Candidate, list[str]]:
    """Two versions with different weights; the second is the champion. Digests of both."""
    uri = connect(None, tmp_path / "home", 5)
    digests = []
    for seed in range(2):
        folder = tmp_path / f"candidate-{seed}"
        candidate = Candidate(make_candidate(folder, base, uri, seed=seed).folder, uri)
        if seed:
            bless(candidate, champion="1")
        candidate.register(store=str(tmp_path / "store"))
        digests.append(weights_digest(folder / "reward_model" / "model"))
    return candidate, digests


def change_champion(tmp_path: Path, name: str, version: str) -> None:
    history = History(Storage.open(str(tmp_path / "store")), name)
    now = history.champion()
    assert now is not None
    history.append(
        "rollback", version, expected=now.version, why="test", threshold=0.4, compared_with=f"version {now.version}"
    )


def weights_of(name: str) -> list[Path]:
    return sorted(Path(name).rglob("model.safetensors"))


@pytest.fixture
def registered(tiny_base: str, tmp_path: Path) -> tuple[Candidate, list[str]]:
    return registered_twice(tmp_path, tiny_base)


def test_swaps_under_load_drop_nothing(registered: tuple[Candidate, list[str]], tmp_path: Path) -> None:
    candidate, digests = registered
    champion = Champion(candidate.name, Storage.open(str(tmp_path / "store")), candidate.tracking_uri)
    holder = Holder(champion.open(), champion)
    assert holder.current is not None
    assert (holder.current.version, holder.current.digest) == ("2", digests[1])
    first = weakref.ref(holder.current.scorer)
    service = Service(holder, ServingSettings(poll_seconds=0.05))
    expected = {
        version: open_registered(f"models:/{candidate.name}/{version}", candidate.tracking_uri).scorer.score(
            [[{"role": "user", "content": ROWS[0]["prompt"]}]], [ROWS[0]["response"]]
        )[0]
        for version in ("1", "2")
    }
    answers: list[tuple[int, Any]] = []
    over = threading.Event()

    def ask(url: str) -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.post(f"{url}/v1/decide", json={"rows": ROWS}, timeout=30)
                answers.append((answer.status_code, answer.json()))

    with serving(make_app(service)) as url:
        callers = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        for version in ("1", "2", "1"):
            change_champion(tmp_path, candidate.name, version)
            while requests.get(f"{url}/v1/model", timeout=30).json()["version"] != version:
                pass
        over.set()
        for caller in callers:
            caller.join()
        figures = requests.get(f"{url}/metrics", timeout=30).text
    assert {status for status, _ in answers} == {200}
    seen = {answer["decisions"][0]["model_version"] for _, answer in answers}
    assert seen == {"1", "2"}
    for _, answer in answers:
        [line] = answer["decisions"]
        assert line["score"] == pytest.approx(expected[line["model_version"]], abs=1e-5)
    assert "rewardloop_model_swaps_total 3.0" in figures
    assert f'rewardloop_model{{digest="{digests[1][:12]}",version="2"}} 0.0' in figures
    assert f'rewardloop_model{{digest="{digests[0][:12]}",version="1"}} 1.0' in figures
    gc.collect()
    assert first() is None


def test_a_champion_that_was_tampered_with_does_not_answer(
    registered: tuple[Candidate, list[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[str] = []

    def counted(uri: str, *args: Any, **options: Any) -> ServedModel:
        attempts.append(uri)
        return open_registered(uri, *args, **options)

    monkeypatch.setattr(models, "open_registered", counted)
    monkeypatch.setattr(models, "_FIRST_PAUSE_SECONDS", 3.0)  # longer than ten polls, on a busy machine too
    candidate, digests = registered
    champion = Champion(candidate.name, Storage.open(str(tmp_path / "store")), candidate.tracking_uri)
    holder = Holder(champion.open(), champion)
    [weights] = [path for path in weights_of(str(tmp_path / "home")) if weights_digest(path.parent) == digests[0]]
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    failures: list[int] = []

    async def follow() -> None:
        following = asyncio.create_task(holder.follow(0.02, failed=lambda: failures.append(1)))
        while len(failures) < 10:
            await asyncio.sleep(0.01)
        assert len(attempts) == 2, "the first champion, and one attempt: then there is a pause"
        assert holder.current is not None
        assert (holder.current.version, holder.trouble is not None) == ("2", True)
        weights.write_bytes(sound)
        while holder.current.version == "2":
            await asyncio.sleep(0.01)
        assert holder.trouble is None
        following.cancel()

    change_champion(tmp_path, candidate.name, "1")
    asyncio.run(follow())
    told = [record.message for record in caplog.records if "cannot be loaded" in record.message]
    assert len(told) == 1  # and not at every poll
    assert "model.safetensors: the file is changed since registration" in told[0]


def test_a_store_that_is_away_changes_nothing(
    registered: tuple[Candidate, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_FIRST_PAUSE_SECONDS", 0.0)
    candidate, _ = registered
    champion = Champion(candidate.name, Storage.open(str(tmp_path / "store")), candidate.tracking_uri)
    model = champion.open()
    assert champion.newer(model) is None
    database = tmp_path / "home" / "mlflow.db"
    change_champion(tmp_path, candidate.name, "1")
    database.rename(tmp_path / "away.db")
    with pytest.raises(Exception, match=r"(?i)no such table|unable to open|does not|cannot"):
        champion.newer(model)
    database.unlink(missing_ok=True)
    (tmp_path / "away.db").rename(database)
    newer = champion.newer(model)
    assert isinstance(newer, ServedModel)
    assert (newer.version, champion.newer(newer)) == ("1", None)
