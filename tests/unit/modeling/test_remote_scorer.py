"""A reward model over HTTP scores as it does here, and what can go wrong on the way is told or waited for."""

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import requests
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.modeling import remote_scorer
from rewardloop.modeling.remote_scorer import RemoteScorer
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from tests.served import MAX_LENGTH, app_of, serving, write_reward_model

THRESHOLD = 0.0
TURN = [{"role": "user", "content": "How was the film?"}]
PROMPTS: list[list[dict[str, str]]] = [[], TURN, TURN, [], [*TURN, {"role": "assistant", "content": "Good."}, *TURN]]
RESPONSES = ["A quiet film.", "Two hours lost. 名作 \U0001f3ac", "Long.", "x" * (MAX_LENGTH + 1), "  \n"]
TOO_LONG = 3


@pytest.fixture(scope="module")
def local(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[RewardScorer, str]:
    """A reward model in this process, and the digest of its weights."""
    folder = tmp_path_factory.mktemp("reward_model")
    scorer = write_reward_model(folder, tiny_base, threshold=THRESHOLD)
    return scorer, weights_digest(folder / "model")


@pytest.fixture(scope="module")
def url(local: tuple[RewardScorer, str]) -> Iterator[str]:
    with serving(app_of(*local)) as address:
        yield address


Interception = Callable[[Request], Response | None]


@contextmanager
def disturbed(local: tuple[RewardScorer, str], intercept: Interception) -> Iterator[str]:
    """The same model, but ``intercept`` may answer instead."""
    app = app_of(*local)

    @app.middleware("http")
    async def _first(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        return intercept(request) or await proceed(request)

    with serving(app) as address:
        yield address


def test_scores_are_those_of_the_model_here(local: tuple[RewardScorer, str], url: str) -> None:
    scorer, digest = local
    remote = RemoteScorer.connect(url + "/", expected_digest=digest)
    done: list[int] = []
    scores = remote.raw_scores(PROMPTS, RESPONSES, tokens_per_batch=64, progress=done.append)
    expected = scorer.raw_scores(PROMPTS, RESPONSES)
    assert scores.dtype == np.float64
    assert np.flatnonzero(np.isnan(scores)).tolist() == [TOO_LONG]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)
    assert (remote.digest, remote.scoring, done) == (digest, scorer.scoring, [5])
    assert remote.raw_scores([], []).shape == (0,)


def test_many_responses_go_in_several_requests(
    local: tuple[RewardScorer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_scorer, "_CHUNK", 2)
    asked: list[str] = []

    def watch(request: Request) -> None:
        asked.append(request.url.path)

    with disturbed(local, watch) as address:
        remote = RemoteScorer.connect(address, expected_digest=None)
        done: list[int] = []
        scores = remote.raw_scores(PROMPTS, RESPONSES, progress=done.append)
    assert asked == ["/health", "/score", "/score", "/score"]
    assert done == [2, 2, 1]
    # In other company a text is rounded differently.
    np.testing.assert_allclose(scores, local[0].raw_scores(PROMPTS, RESPONSES), rtol=0, atol=1e-5)


def test_a_prompt_for_each_response(url: str) -> None:
    with pytest.raises(ValueError, match="1 prompts for 2 responses"):
        RemoteScorer.connect(url, expected_digest=None).raw_scores([[]], ["a", "b"])


def test_another_model_is_refused(local: tuple[RewardScorer, str], url: str) -> None:
    with pytest.raises(BadInputError) as refused:
        RemoteScorer.connect(url, expected_digest="0123456789abcdef")
    for part in ("align.reward_url", url, local[1][:12], "expected 0123456789ab"):
        assert part in str(refused.value)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "node-2:8080", "http://[::"])
def test_nobody_there_is_known_soon(url: str) -> None:
    with pytest.raises(BadInputError, match=r"align\.reward_url: .*no reward model answers"):
        RemoteScorer.connect(url, expected_digest=None)


def test_another_kind_of_server_is_refused() -> None:
    with (
        serving(FastAPI()) as address,
        pytest.raises(BadInputError, match="not rewardloop serve: /health answered 404"),
    ):
        RemoteScorer.connect(address, expected_digest=None)


def test_a_server_that_is_briefly_away_is_waited_for(local: tuple[RewardScorer, str]) -> None:
    answers = [Response(status_code=503), Response(status_code=503)]

    def away_twice(request: Request) -> Response | None:
        return answers.pop() if request.url.path == "/score" and answers else None

    with disturbed(local, away_twice) as address:
        scores = RemoteScorer.connect(address, expected_digest=local[1]).raw_scores(PROMPTS, RESPONSES)
    assert not answers
    np.testing.assert_allclose(scores, local[0].raw_scores(PROMPTS, RESPONSES), rtol=0, atol=1e-9)


def test_a_server_that_stays_away_is_an_error(local: tuple[RewardScorer, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_scorer, "_RETRIES", 1)
    with disturbed(local, lambda request: None) as address:
        remote = RemoteScorer.connect(address, expected_digest=local[1])
        remote.raw_scores(PROMPTS, RESPONSES)
    with pytest.raises(RewardloopError, match=r"no answer for 5 responses within 60 s .*refused"):
        remote.raw_scores(PROMPTS, RESPONSES)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"digest": "fedcba9876543210", "raw_scores": [0.0] * 5}, "serves the reward model fedcba987654 now; it was"),
        ({"raw_scores": [0.0]}, "expected 5 raw_scores"),
    ],
)
def test_an_answer_of_another_model_is_not_used(
    local: tuple[RewardScorer, str], answer: dict[str, Any], says: str
) -> None:
    def replaced(request: Request) -> Response | None:
        return JSONResponse({"digest": local[1]} | answer) if request.url.path == "/score" else None

    with disturbed(local, replaced) as address, pytest.raises(RewardloopError, match=says):
        RemoteScorer.connect(address, expected_digest=local[1]).raw_scores(PROMPTS, RESPONSES)


def test_the_server_gives_public_scores_and_verdicts(local: tuple[RewardScorer, str], url: str) -> None:
    scorer, digest = local
    prompts = ["", "How was the film?", json.dumps(TURN), None, PROMPTS[4]]
    answer = requests.post(f"{url}/score", json={"prompts": prompts, "responses": RESPONSES}, timeout=30).json()
    public = scorer.score(PROMPTS, RESPONSES)
    assert answer["digest"] == digest
    assert answer["scores"][TOO_LONG] is None
    np.testing.assert_allclose(np.array(answer["scores"], dtype=float), public, rtol=0, atol=1e-9)
    assert answer["allowed"] == scorer.allowed(public).tolist()
    assert answer["decisions"] == scorer.decisions(public).tolist()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("nonsense", 400, "the body is not JSON"),
        ([1], 422, "the body: "),
        ({"prompts": []}, 422, "responses: Field required"),
        ({"prompts": [""], "responses": [4]}, 422, "responses.0: Input should be a valid string; found 4"),
        ({"prompts": [""], "responses": ["a"], "answers": []}, 422, "answers: Extra inputs are not permitted"),
        ({"prompts": [], "responses": ["a"]}, 422, "prompts: found 0; expected one for each of the 1 responses"),
        (
            {"prompts": ["", [{"role": "nobody"}]], "responses": ["a", "b"]},
            422,
            "prompts[1]: message {'role': 'nobody'}",
        ),
        ({"prompts": [7], "responses": ["a"]}, 422, "prompts[0]: the prompt is 7; expected a text"),
        (
            {"prompts": [""] * 1_025, "responses": ["a"] * 1_025},
            413,
            "responses: found 1,025; send at most 1,024",
        ),
    ],
)
def test_what_cannot_be_scored_is_named(url: str, body: object, status: int, says: str) -> None:
    data = body if isinstance(body, str) else json.dumps(body)
    answer = requests.post(f"{url}/score", data=data, headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


class Slow:
    """A scorer that answers when it may, and remembers how many requests were at it together."""

    threshold = None

    def __init__(self, scoring: dict[str, Any]) -> None:
        self.scoring = scoring
        self.may_answer = threading.Event()
        self.inside = self.most_inside = 0

    def raw_scores(self, prompts: list[Any], responses: list[str]) -> np.ndarray:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        assert self.may_answer.wait(30)
        time.sleep(0.05)
        self.inside -= 1
        return np.resize([np.inf, 1.0], len(responses))

    def public(self, raw: np.ndarray) -> np.ndarray:
        return raw


def test_requests_take_turns_and_health_does_not_wait() -> None:
    scorer: Any = Slow({"threshold": None, "max_length": np.int64(8)})
    scores: list[list[float]] = []
    with serving(app_of(scorer, "digest")) as address:

        def ask() -> None:
            scores.append(RemoteScorer.connect(address, expected_digest=None).raw_scores([[], []], ["a", "b"]).tolist())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            while not scorer.inside:
                time.sleep(0.01)
            # All of them wait now, but this is answered.
            remote = RemoteScorer.connect(address, expected_digest="digest", timeout_seconds=10)
        finally:
            scorer.may_answer.set()
            for thread in threads:
                thread.join()
    assert remote.scoring == {"threshold": None, "max_length": 8}
    assert scorer.most_inside == 1
    np.testing.assert_array_equal(scores, [[np.nan, 1.0]] * 4)


def test_what_json_cannot_hold_is_refused() -> None:
    scorer: Any = Slow({"scale": {"raw": [0.0, float("inf")]}})
    with pytest.raises(BadInputError, match=r"scoring\.json: cannot be given out"):
        app_of(scorer, "digest")
