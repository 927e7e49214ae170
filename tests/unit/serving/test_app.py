"""The server over HTTP, with a real tiny model: answers, limits, keys, figures, and what goes wrong."""

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from fastapi import FastAPI

from rewardloop.config import DecisionLogSettings, ServingSettings
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.serving.app import make_app
from rewardloop.serving.decision_log import DecisionLog
from rewardloop.serving.keys import ApiKeys
from rewardloop.serving.models import Holder, ServedModel
from rewardloop.serving.service import Service
from rewardloop.storage import Storage
from tests.served import MAX_LENGTH, app_of, serving, write_reward_model

THRESHOLD = 0.0
TURNS = [{"role": "user", "content": "How was the film?"}, {"role": "assistant", "content": "Long."}]
ROWS: list[dict[str, Any]] = [
    {"response": "A quiet film."},
    {"prompt": "How was the film?", "response": "Two hours lost. 名作 \U0001f3ac"},
    {"prompt": TURNS, "response": "Long."},
    {"prompt": None, "response": "x" * (MAX_LENGTH + 1)},
]
MESSAGES: list[Any] = [[], TURNS[:1], TURNS, []]


@pytest.fixture(scope="module")
def local(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[RewardScorer, str]:
    folder = tmp_path_factory.mktemp("reward_model")
    return write_reward_model(folder, tiny_base, threshold=THRESHOLD), weights_digest(folder / "model")


@pytest.fixture(scope="module")
def url(local: tuple[RewardScorer, str]) -> Iterator[str]:
    with serving(app_of(*local, max_body_bytes=200_000, max_responses=8)) as address:
        yield address


def post(url: str, path: str, body: Any, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return requests.post(url + path, data=data, headers={"Content-Type": "application/json"} | headers, timeout=30)


def test_decisions_are_those_of_the_model(local: tuple[RewardScorer, str], url: str) -> None:
    scorer, _ = local
    answer = post(url, "/v1/decide", {"rows": ROWS}, **{"X-Request-Id": "mine-1"})
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (200, "mine-1")
    lines = answer.json()["decisions"]
    expected = scorer.score(MESSAGES, [row["response"] for row in ROWS])
    found = np.array([line["score"] for line in lines], dtype=float)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert [line["decision"] for line in lines] == scorer.decisions(expected).tolist()
    assert [line["allowed"] for line in lines] == scorer.allowed(expected).tolist()
    assert {line["threshold"] for line in lines} == {THRESHOLD}
    assert {(line["request_id"], line["model_version"]) for line in lines} == {("mine-1", "")}
    assert [line["error"] for line in lines] == [None] * 3 + ["the response is longer than the model can read"]
    scores = post(url, "/v1/score", {"rows": ROWS}).json()["scores"]
    assert [line["score"] for line in scores] == [line["score"] for line in lines]


def test_a_prompt_that_is_a_json_list_stands_for_its_messages(url: str) -> None:
    rows = [{"prompt": TURNS, "response": "Long."}, {"prompt": json.dumps(TURNS), "response": "Long."}]
    same, again = post(url, "/v1/score", {"rows": rows}).json()["scores"]
    assert same["score"] == pytest.approx(again["score"], abs=1e-6)
    # A text that looks like messages and is none is an answer of its own row.
    rows.append({"prompt": '[{"role": "nobody"}]', "response": "Long."})
    answer = post(url, "/v1/decide", {"rows": rows})
    assert answer.status_code == 200
    third = answer.json()["decisions"][2]
    assert (third["score"], third["allowed"], third["decision"]) == (None, False, "block")
    assert third["error"].startswith("message {'role': 'nobody'}; expected a role")


def test_without_a_threshold_nothing_is_decided(tiny_base: str, tmp_path: Path) -> None:
    scorer = write_reward_model(tmp_path, tiny_base)
    with serving(app_of(scorer, "digest")) as url:
        [line] = post(url, "/v1/decide", {"rows": ROWS[:1]}).json()["decisions"]
    assert (line["allowed"], line["decision"], line["threshold"]) == (None, None, None)
    assert line["score"] is not None


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("nonsense", 400, "the body is not JSON: expected ident at line 1 column 2"),
        ("", 400, "the body is not JSON: EOF while parsing a value"),
        (b'{"rows": [{"response": "\xff"}]}', 400, "the body is not JSON"),
        ('{"rows": [{"response": "\\ud800"}]}', 400, "the body is not JSON"),
        ("[" * 100_000, 400, "the body is not JSON: recursion limit exceeded"),
        ([1], 422, "the body: Input should be an object; found [1]"),
        ({}, 422, "rows: Field required"),
        ({"rows": []}, 422, "rows: List should have at least 1 item"),
        ({"rows": [{"response": "a"}, {"prompt": "b"}]}, 422, "rows.1.response: Field required"),
        ({"rows": [{"response": 4}]}, 422, "rows.0.response: Input should be a valid string; found 4"),
        ({"rows": [{"response": "a", "answer": ""}]}, 422, "rows.0.answer: Extra inputs are not permitted"),
        ({"rows": [{"response": "a", "prompt": [{"role": "nobody", "content": ""}]}]}, 422, "'nobody'"),
        ({"rows": [{"response": "a"}] * 9}, 413, "found 9; send at most 8 in a request (serving.max_responses)"),
    ],
)
def test_what_cannot_be_decided_is_named(url: str, body: Any, status: int, says: str) -> None:
    answer = post(url, "/v1/decide", body)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(url: str) -> None:
    says = "the body is larger than 200,000 bytes (serving.max_body_bytes)"
    large = json.dumps({"rows": [{"response": "a" * 300_000}]})
    answer = post(url, "/v1/decide", large)
    assert (answer.status_code, says in answer.text) == (413, True)
    # Without a length, in chunks.
    chunks = iter([large[:150_000].encode(), large[150_000:].encode()])
    answer = requests.post(f"{url}/v1/decide", data=chunks, timeout=30)
    assert (answer.status_code, says in answer.text) == (413, True)
    # A gigabyte is announced and never sent.
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.putrequest("POST", "/v1/decide")
    connection.putheader("Content-Length", str(10**9))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_prompt_of_a_megabyte(local: tuple[RewardScorer, str], url: str) -> None:
    rows = [{"prompt": "word " * 200_000, "response": "Good."}, {"response": "b" * 1_000_000}]
    assert post(url, "/v1/decide", {"rows": rows}).status_code == 413
    with serving(app_of(*local)) as larger:
        first, second = post(larger, "/v1/decide", {"rows": rows}).json()["decisions"]
    # A prompt is cut to what the model reads, a response never is.
    assert first["score"] is not None
    assert (second["score"], second["allowed"]) == (None, False)


class Held:
    """A scorer that answers when it may."""

    threshold = None

    def __init__(self) -> None:
        self.scoring = {"threshold": None, "max_length": 8}
        self.inside, self.may_answer = threading.Event(), threading.Event()

    def raw_scores(self, prompts: list[Any], responses: list[str]) -> np.ndarray:
        self.inside.set()
        assert self.may_answer.wait(30)
        return np.ones(len(responses))

    def public(self, raw: np.ndarray) -> np.ndarray:
        return raw


def test_too_late_and_too_much() -> None:
    held: Any = Held()
    rows = [{"response": "a"}]
    with serving(app_of(held, "digest", timeout_seconds=0.5, queue=2)) as url:
        first = threading.Thread(target=post, args=(url, "/v1/decide", {"rows": rows}))
        first.start()
        assert held.inside.wait(10)
        waiting = threading.Thread(target=post, args=(url, "/v1/decide", {"rows": rows * 2}))
        waiting.start()
        while "rewardloop_queue_rows 2.0" not in requests.get(f"{url}/metrics", timeout=10).text:
            time.sleep(0.01)
        refused = post(url, "/v1/decide", {"rows": rows})
        # Alignment tries again after 503, and takes 429 for the last word.
        busy = post(url, "/score", {"prompts": [""], "responses": ["a"]})
        waiting.join()
        late = post(url, "/v1/decide", {"rows": rows})
        # Whoever gave up has left the queue.
        left = requests.get(f"{url}/metrics", timeout=10).text
        held.may_answer.set()
        first.join()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "1")
    assert (late.status_code, late.json()["detail"]) == (504, "not scored within 0.5 s (serving.timeout_seconds)")
    assert "rewardloop_queue_rows 0.0" in left


def test_a_body_that_trickles_is_given_up(local: tuple[RewardScorer, str]) -> None:
    with serving(app_of(*local, timeout_seconds=0.3)) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.putrequest("POST", "/v1/decide")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b'{"rows"')
        answer = connection.getresponse()
        assert (answer.status, "did not arrive within 0.3 s" in answer.read().decode()) == (408, True)
        connection.close()


def test_a_defect_is_a_clear_500(local: tuple[RewardScorer, str], monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(*local)
    with serving(app) as url:
        monkeypatch.setattr(ServedModel, "decide", lambda *_: 1 / 0)
        answer = post(url, "/v1/decide", {"rows": ROWS[:1]})
        monkeypatch.undo()
        assert answer.status_code == 500
        assert answer.json()["detail"] == "a defect of the server (ZeroDivisionError); its log says more"
        assert post(url, "/v1/decide", {"rows": ROWS[:1]}).status_code == 200


def test_state_model_and_figures(local: tuple[RewardScorer, str]) -> None:
    with serving(app_of(*local)) as url:
        assert requests.get(f"{url}/healthz", timeout=10).json() == {"alive": True}
        assert requests.get(f"{url}/readyz", timeout=10).json() == {"ready": True, "model": "folder", "trouble": None}
        model = requests.get(f"{url}/v1/model", timeout=10).json()
        assert (model["digest"], model["threshold"], model["max_length"]) == (local[1], THRESHOLD, MAX_LENGTH)
        post(url, "/v1/decide", {"rows": ROWS})
        requests.get(f"{url}/elsewhere", timeout=10)
        answer = requests.get(f"{url}/metrics", timeout=10)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'rewardloop_requests_total{route="/v1/decide",status="200"} 1.0' in answer.text
    assert 'rewardloop_requests_total{route="other",status="404"} 1.0' in answer.text
    assert f'rewardloop_model{{digest="{local[1][:12]}",version=""}} 1.0' in answer.text
    assert "rewardloop_batch_rows_sum 4.0" in answer.text
    assert 'rewardloop_decisions_total{decision="block"}' in answer.text


def app_with(model: ServedModel | None, **parts: Any) -> FastAPI:
    return make_app(Service(Holder(model), ServingSettings(), **parts))


def test_before_there_is_a_model() -> None:
    with serving(app_with(None)) as url:
        ready = requests.get(f"{url}/readyz", timeout=10)
        asked = post(url, "/v1/decide", {"rows": ROWS})
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert (asked.status_code, asked.headers["Retry-After"]) == (503, "1")


def test_keys(local: tuple[RewardScorer, str]) -> None:
    keys = ApiKeys({"search": hashlib.sha256(b"right").hexdigest()})
    with serving(app_with(ServedModel(*local, "folder"), keys=keys)) as url:
        for path in ("/v1/decide", "/v1/score", "/score"):
            refused = post(url, path, {"rows": ROWS}, Authorization="Bearer wrong")
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        for path in ("/v1/model", "/health", "/v1/../v1/model", "/elsewhere"):
            assert requests.get(url + path, timeout=10).status_code == 401
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert requests.get(url + path, timeout=10).status_code == 200
        assert post(url, "/v1/decide", {"rows": ROWS}, Authorization="Bearer right").status_code == 200
        assert post(url, "/v1/decide", {"rows": ROWS}, **{"X-API-Key": "right"}).status_code == 200
        document = requests.get(f"{url}/openapi.json", timeout=10).json()
    assert document["paths"]["/v1/decide"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_decisions_are_logged(local: tuple[RewardScorer, str], tmp_path: Path) -> None:
    settings = DecisionLogSettings(sample=1.0, texts=True)
    log = DecisionLog(Storage.open(str(tmp_path)), settings, b"a key of sixteen and more")
    with serving(app_with(ServedModel(*local, "m/3", "3"), log=log)) as url:
        unreadable = {"prompt": '[{"role": "nobody"}]', "response": "Long."}
        rows = [ROWS[2] | {"segment": "films", "user": "ann"}, unreadable, ROWS[3]]
        lines = post(url, "/v1/decide", {"rows": rows}, **{"X-Request-Id": "r-1"}).json()["decisions"]
        post(url, "/v1/score", {"rows": ROWS})
    # The end of the server writes what is left.
    [path] = tmp_path.glob("decisions/*/*.jsonl")
    first, second = (DecisionRecord.model_validate_json(line) for line in path.read_text().splitlines())
    assert (first.request_id, first.model_version, first.segment, first.threshold) == ("r-1", "3", "films", THRESHOLD)
    assert (first.score, first.decision) == (lines[0]["score"], lines[0]["decision"])
    assert (first.prompt, first.response) == (TURNS, "Long.")
    assert first.user is not None
    assert first.user.startswith("l_")
    assert (second.score, second.decision, second.prompt, second.segment) == (None, "block", [], None)
