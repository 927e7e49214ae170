"""The endpoint as a judge: what it is sent, and everything that can go wrong on the way."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from rewardloop.config import JudgeSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.judging.backends import UnanswerableError
from rewardloop.judging.endpoint import Endpoint
from rewardloop.judging.limits import BudgetSpentError
from rewardloop.judging.questions import Question, pair_question
from tests.judges import Judge, JudgeServer, Reply, completion, failure, judging

SECRET = "sk-very-secret-0123456789"


def settings(server: JudgeServer, **more: Any) -> JudgeSettings:
    return JudgeSettings.model_validate(
        {"constitution": "Be kind.", "url": server.url, "model": "m-1", "patience_seconds": 3, "timeout_seconds": 5}
        | more
    )


def question(number: int = 0) -> Question:
    return pair_question([], f"one {number}", "two", JudgeSettings(constitution="Be kind."))


def ask(judge: Judge, **more: Any) -> Any:
    with judging(judge) as server:
        return Endpoint(settings(server, **more), SECRET).answer(question())


def test_what_is_sent_and_what_comes_back() -> None:
    with judging(lambda *_: completion("VERDICT: A", tokens=(50, 5))) as server:
        endpoint = Endpoint(settings(server, key_variable="KEY", price_input=2, price_output=10), f" {SECRET}\n")
        answer = endpoint.answer(question())
    assert (answer.text, answer.cut, answer.input_tokens, answer.output_tokens) == ("VERDICT: A", None, 50, 5)
    [body] = server.asked
    assert (body["path"], body["model"], body["temperature"], body["max_tokens"]) == (
        "/v1/chat/completions", "m-1", 0, 512,
    )  # fmt: skip
    assert server.keys == [f"Bearer {SECRET}"]
    assert endpoint.budget.cost == pytest.approx((50 * 2 + 5 * 10) / 1e6)


def test_without_a_key_none_is_sent_not_even_a_netrc_login(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with judging() as server:
        Endpoint(settings(server), None).answer(question())
    assert server.keys == [None]


def test_fields_that_some_endpoints_refuse_can_be_left_out() -> None:
    with judging() as server:
        chosen = settings(server, temperature=None, max_new_tokens_field="max_completion_tokens")
        Endpoint(chosen, None).answer(question())
    assert set(server.asked[0]) == {"model", "messages", "max_completion_tokens", "path"}


def passing(*replies: Reply | None) -> Judge:
    """These replies first, then a verdict."""
    left = list(replies)
    return lambda *_: left.pop(0) if left else completion("VERDICT: B")


def test_errors_of_the_moment_are_asked_again() -> None:
    assert ask(passing(failure(503, "busy"), None)).text == "VERDICT: B"


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(as_date: bool) -> None:
    wait = "1" if not as_date else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    with judging(passing(failure(429, "slow down", Retry_After=wait))) as server:
        Endpoint(settings(server), None).answer(question())
    assert server.times[1] - server.times[0] >= 0.9


def test_everybody_waits_where_one_is_told_to() -> None:
    with judging(passing(failure(429, "slow down", Retry_After="1"))) as server:
        endpoint = Endpoint(settings(server), None)
        one = threading.Thread(target=endpoint.answer, args=(question(),))
        one.start()
        while not server.times:
            time.sleep(0.01)
        time.sleep(0.1)
        endpoint.answer(question(1))
        one.join()
    assert min(server.times[1:]) - server.times[0] >= 0.9


def test_a_pause_beyond_our_patience_is_an_error_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(RewardloopError, match=r"did not answer for long \(429.*judge.patience_seconds"):
        ask(lambda *_: failure(429, "tomorrow", Retry_After="86400"))
    assert time.monotonic() - started < 1


def test_an_endpoint_that_stays_away_is_an_error_in_words() -> None:
    with judging() as server:
        gone = settings(server, patience_seconds=0.5)
    with pytest.raises(RewardloopError, match=r"judge.url: http://127.*did not answer for long.*run again"):
        Endpoint(gone, None).answer(question())


def test_an_answer_that_drips_is_given_up() -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(50):
            time.sleep(0.05)  # far below the timeout each
            yield b" "

    with pytest.raises(RewardloopError, match=r"no whole answer within 0\.3 s"):
        ask(lambda *_: (200, {"Content-Length": "50"}, drops()), timeout_seconds=0.3, patience_seconds=0.2)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (failure(400, "context length exceeded"), r"refused by the endpoint \(400\)"),
        ((200, {}, b"<html>welcome</html>"), "no chat completion"),
        ((200, {}, b'{"choices": []}'), "no chat completion"),
        ((200, {}, b'{"choices": [{"message": {"content": ["x"]}}]}'), "no chat completion"),
        ((200, {}, b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "no chat completion"),
        ((200, {}, b"[" * 9_000), "no chat completion"),
        ((200, {}, b" " * 20_000), "more than 10,000 bytes"),
    ],
)
def test_an_answer_to_one_question_that_cannot_be_used(reply: Reply, reason: str) -> None:
    with pytest.raises(UnanswerableError, match=reason):
        ask(lambda *_: reply, max_answer_bytes=10_000)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_was_cut_is_marked(reason: str) -> None:
    assert ask(lambda *_: completion("SCORE: 1", finish=reason)).cut == reason
    assert ask(lambda *_: completion(None)).text == ""


@pytest.mark.parametrize("reason", ["stop", "eos", "stop_sequence", "eos_token", "", None, {"type": "stop"}])
def test_whatever_else_ends_an_answer_is_its_end(reason: Any) -> None:
    assert ask(lambda *_: completion("SCORE: 1", finish=reason)).cut is None


def reply(content: Any, **more: Any) -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"content": content}}]} | more).encode()


def test_parts_of_a_content_that_are_text_are_the_answer() -> None:
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "So.\n"}]
    assert ask(lambda *_: reply([*parts, {"type": "text", "text": "VERDICT: A"}])).text == "So.\nVERDICT: A"
    assert ask(lambda *_: reply([])).text == ""


@pytest.mark.parametrize(
    ("paid", "cost"),
    [
        (reply(5, usage={"prompt_tokens": 2_000, "completion_tokens": 100}), 100e-6),
        ((200, {}, b'{"usage": {"completion_tokens": 7}}'), 7e-6),
        ((200, {}, b"<html>welcome</html>"), 512e-6),  # not told: the most that an answer can have
        ((200, {}, b" " * 20_000), 512e-6),
        (failure(400, "too long"), 0.0),
        ((400, {}, b" " * 20_000), 0.0),
    ],
)
def test_an_answer_that_came_is_paid_for_though_it_cannot_be_used(paid: Reply, cost: float) -> None:
    with judging(lambda *_: paid) as server:
        chosen = settings(server, price_input=0, price_output=1, max_cost=0.0015, max_answer_bytes=10_000)
        endpoint = Endpoint(chosen, None)
        with pytest.raises(UnanswerableError):
            endpoint.answer(question())
        assert endpoint.budget.cost == pytest.approx(cost)
        assert endpoint.budget.requests == (1 if cost else 0)


def test_answers_that_cannot_be_used_do_not_pass_the_budget() -> None:
    with judging(lambda *_: reply(5, usage={"prompt_tokens": 0, "completion_tokens": 500})) as server:
        endpoint = Endpoint(settings(server, price_input=0, price_output=1, max_cost=0.0015), None)
        for number in range(2):
            with pytest.raises(UnanswerableError, match="no chat completion"):
                endpoint.answer(question(number))
        with pytest.raises(BudgetSpentError):  # 0.001 paid, and 0.000512 more could be too much
            endpoint.answer(question(2))
    assert len(server.asked) == 2


@pytest.mark.parametrize("usage", [None, [], "much", {"prompt_tokens": -1, "completion_tokens": True}])
def test_a_usage_that_is_none_is_not_told(usage: Any) -> None:
    answer = ask(lambda *_: reply("VERDICT: A", usage=usage))
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("VERDICT: A", None, None)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (failure(401, f"Incorrect API key provided: {SECRET}"), r"answered 401: .*\*\*\*; correct the key.*KEY"),
        (failure(404, "no such model"), "answered 404: some_code no such model; correct judge.url or judge.model"),
        ((307, {"Location": "http://127.0.0.1:9/"}, b""), "a redirect, which is not followed; correct judge.url"),
        (
            (429, {}, b'{"error": {"message": "pay first", "code": "insufficient_quota"}}'),
            "answered 429: insufficient_quota pay first",
        ),
    ],
)
def test_what_no_question_can_pass_is_an_error_without_the_key(reply: Reply, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        ask(lambda *_: reply, key_variable="KEY")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "url", "words"),
    [
        (None, "https://judge.example/v1", "environment variable KEY is not set; set it"),
        ("  ", "https://judge.example/v1", "environment variable KEY is not set; set it"),
        ("sk one", "https://judge.example/v1", "holds spaces"),
        (SECRET, "http://judge.example/v1", "the key would travel in the clear; use https://"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_before_anything_is_asked(key: str | None, url: str, words: str) -> None:
    chosen = JudgeSettings(constitution="x", url=url, model="m", key_variable="KEY")
    with pytest.raises(BadInputError, match=words):
        Endpoint(chosen, key)


def test_requests_are_spaced() -> None:
    with judging() as server:
        endpoint = Endpoint(settings(server, requests_per_minute=300), None)
        for number in range(4):
            endpoint.answer(question(number))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert min(gaps) > 0.15


def test_the_budget_is_never_exceeded() -> None:
    with judging() as server:
        # At most 512 tokens written: 0.000512 a question; the answers cost 0.00001 each.
        chosen = settings(server, price_input=0, price_output=1, max_cost=0.00053)
        endpoint = Endpoint(chosen, None)
        for number in range(2):
            endpoint.answer(question(number))
        with pytest.raises(BudgetSpentError):
            endpoint.answer(question(2))
    assert len(server.asked) == 2
    assert endpoint.budget.cost == pytest.approx(0.00002)


def test_tokens_that_are_not_told_are_counted_as_the_most_there_can_be() -> None:
    with judging(lambda *_: completion("VERDICT: A", tokens=None)) as server:
        endpoint = Endpoint(settings(server, price_input=0, price_output=1), None)
        endpoint.answer(question())
    assert endpoint.budget.output_tokens == 512
