"""Groups become labels of a judge: both orders, ties, what is left out, the cache, kills and budgets."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import JudgeSettings
from rewardloop.errors import RewardloopError
from rewardloop.judging.asking import CUT, UNREAD
from rewardloop.judging.cache import Answer, AnswerCache
from rewardloop.judging.endpoint import Endpoint
from rewardloop.judging.items import Item
from rewardloop.judging.judge import ALONE, NO_VERDICT, UNASKED, Judged, judge_items
from rewardloop.records import Message, Response
from tests.judges import Judge, JudgeServer, Reply, answers_of, completion, failure, fair, first, judging


def item(*texts: str, prompt: str = "Q", **fields: Any) -> Item:
    responses = tuple(Response(response_id=chr(97 + place), content=text) for place, text in enumerate(texts))
    return Item(f"g-{prompt}", (Message(role="user", content=prompt),), responses, **fields)


def run(server: JudgeServer, items: list[Item], home: Path, **more: Any) -> Judged:
    settings = JudgeSettings.model_validate(
        {"constitution": "Be lively.", "url": server.url, "model": "m", "patience_seconds": 2} | more
    )
    return judge_items(items, Endpoint(settings, None), AnswerCache(home), settings)


def labels_of(judged: Judged) -> list[list[dict[str, Any]]]:
    names = {"labeler", "labeler_kind", "criterion"}
    return [
        [label.model_dump(exclude=names, by_alias=True, exclude_none=True) for label in group.labels]
        for group in judged.groups
    ]


def test_every_two_answers_are_asked_about_in_both_orders(tmp_path: Path) -> None:
    with judging() as server:
        judged = run(server, [item("a", "b!", "c!!"), item("d!", "e!", prompt="R")], tmp_path)
    assert len(server.asked) == 2 * 3 + 2
    shown = {tuple(answers_of(body)) for body in server.asked}
    assert {("a", "b!"), ("b!", "a"), ("a", "c!!"), ("c!!", "a"), ("d!", "e!"), ("e!", "d!")} <= shown
    assert labels_of(judged) == [
        [
            {"kind": "choice", "chosen": "b", "rejected": "a"},
            {"kind": "choice", "chosen": "c", "rejected": "a"},
            {"kind": "choice", "chosen": "c", "rejected": "b"},
        ],
        [{"kind": "ranking", "ranks": {"a": 1, "b": 1}}],
    ]
    label = judged.groups[0].labels[0]
    assert label.labeler is not None
    assert label.labeler.startswith("judge:judge:")
    assert (label.labeler_kind, label.criterion) == ("model", "overall")
    assert (judged.compared, judged.ties, judged.inconsistent) == (4, 1, 0)


def test_a_judge_that_goes_by_position_says_nothing_but_ties(tmp_path: Path) -> None:
    with judging(first) as server:
        judged = run(server, [item("a", "b!"), item("c", "d!", prompt="R")], tmp_path)
    assert labels_of(judged) == [[{"kind": "ranking", "ranks": {"a": 1, "b": 1}}]] * 2
    assert (judged.ties, judged.inconsistent, judged.first, judged.decided) == (2, 2, 4, 4)


def test_ratings_are_one_question_per_answer(tmp_path: Path) -> None:
    with judging() as server:
        judged = run(server, [item("a", "b!!")], tmp_path, kind="rating", criterion="liveliness")
    assert labels_of(judged) == [[{"kind": "rating", "scores": {"a": 1.0, "b": 3.0}, "scale": (1.0, 10.0)}]]
    assert judged.groups[0].labels[0].criterion == "liveliness"


def test_the_group_stays_what_it_was(tmp_path: Path) -> None:
    one = item("a", "b!", document_id="d", segment="s", source="shop", sampling="active")
    with judging() as server:
        [group] = run(server, [one], tmp_path).groups
    assert (group.group_id, group.document_id, group.segment, group.source, group.sampling) == (
        "g-Q", "d", "s", "shop", "active",
    )  # fmt: skip
    assert (group.prompt, group.responses) == (one.prompt, one.responses)


def test_what_nobody_can_compare_is_counted_and_not_asked_about(tmp_path: Path) -> None:
    with judging() as server:
        judged = run(server, [item("alone"), item("same", "same", prompt="R")], tmp_path)
    assert (judged.groups, judged.left_out, server.asked) == ([], {ALONE: 2}, [])


def test_an_unreadable_answer_is_asked_again_with_what_was_wrong(tmp_path: Path) -> None:
    def stubborn(server: JudgeServer, body: dict[str, Any]) -> Reply:
        return fair(server, body) if len(body["messages"]) > 2 else completion("I prefer the second one.")

    with judging(stubborn) as server:
        judged = run(server, [item("a", "b!")], tmp_path)
    assert labels_of(judged) == [[{"kind": "choice", "chosen": "b", "rejected": "a"}]]
    again = next(body["messages"] for body in server.asked if len(body["messages"]) > 2)
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert "must be exactly VERDICT: A or VERDICT: B or VERDICT: TIE" in again[-1]["content"]
    assert judged.asked is not None
    assert judged.asked.again == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(completion("Both are fine."), UNREAD), (completion("VERDICT: A", finish="length"), CUT)],
)
def test_what_stays_unreadable_is_left_out_with_a_count(tmp_path: Path, reply: Reply, reason: str) -> None:
    with judging(lambda *_: reply) as server:
        judged = run(server, [item("a", "b!")], tmp_path, ask_again=1)
    assert len(server.asked) == 4
    assert judged.groups == []
    assert judged.left_out == {f"questions {reason}": 2, NO_VERDICT: 1}


def test_one_question_that_the_endpoint_refuses_costs_one_label(tmp_path: Path) -> None:
    def careful(server: JudgeServer, body: dict[str, Any]) -> Reply:
        return failure(400, "not that one") if "rude" in str(answers_of(body)) else fair(server, body)

    with judging(careful) as server:
        judged = run(server, [item("a", "b!", "rude")], tmp_path)
    assert labels_of(judged) == [[{"kind": "choice", "chosen": "b", "rejected": "a"}]]
    assert judged.left_out == {"questions refused by the endpoint (400)": 4}


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    items = [item("a", "b!"), item("c!", "d", prompt="R")]
    with judging() as server:
        one = run(server, items, tmp_path)
        two = run(server, items, tmp_path)
        assert len(server.asked) == 4
        run(server, items, tmp_path, constitution="Be dull.")
        assert len(server.asked) == 8
    assert one.groups == two.groups
    assert two.asked is not None
    assert two.asked.from_cache == 4


def test_after_an_error_the_same_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    items = [item(f"a{i}", f"b{i}!", prompt=str(i)) for i in range(10)]

    def breaks(server: JudgeServer, body: dict[str, Any]) -> Reply:
        return fair(server, body) if len(server.asked) <= 7 else failure(401, "expired")

    with judging(breaks) as server:
        with pytest.raises(RewardloopError, match="answered 401"):
            run(server, items, tmp_path, concurrent=1)
        server.judge = fair
        before = len(server.asked)
        judged = run(server, items, tmp_path, concurrent=1)
    assert len(server.asked) - before == 20 - 7
    assert len(judged.groups) == 10


def test_the_budget_stops_cleanly_and_the_next_run_goes_on(tmp_path: Path) -> None:
    items = [item(f"a{i}", f"b{i}!", prompt=str(i)) for i in range(10)]
    price = {"price_input": 0, "price_output": 1_000, "max_cost": 0.6}  # 0.512 reserved, 0.01 paid for an answer
    with judging() as server:
        judged = run(server, items, tmp_path, concurrent=3, **price)
        assert judged.asked is not None
        assert len(server.asked) == 9  # 8 cost 0.08, and 0.08 + 0.512 still fits
        assert len(judged.asked.unasked) == 11
        assert len(judged.groups) + judged.left_out[UNASKED] == 10
        rest = run(server, items, tmp_path, **price | {"max_cost": 10})
    assert len(server.asked) == 20
    assert len(rest.groups) == 10


@pytest.mark.parametrize("kind", ["pairwise", "rating"])
def test_a_group_that_was_asked_about_in_part_has_no_label_yet(tmp_path: Path, kind: str) -> None:
    """The first two answers are judged when the budget ends; as labels of their own they would be there twice."""
    items = [item("a", "b!", "c!!", prompt="Q"), item("d", "e!", prompt="R")]
    price = {"price_input": 0, "price_output": 1_000, "concurrent": 1, "kind": kind}  # 0.512 reserved, 0.01 paid
    with judging() as server:
        judged = run(server, items, tmp_path, **price, max_cost=0.525)
        assert len(server.asked) == 2
        assert (judged.groups, judged.labels, judged.compared, judged.decided) == ([], 0, 0, 0)
        assert judged.left_out == {UNASKED: 2}
        rest = run(server, items, tmp_path, **price, max_cost=10)
    assert [len(labels) for labels in labels_of(rest)] == ([3, 1] if kind == "pairwise" else [1, 1])


def test_why_a_group_has_no_label_is_told_by_its_own_questions(tmp_path: Path) -> None:
    price = {"price_input": 0, "price_output": 1_000, "concurrent": 1, "ask_again": 0, "max_cost": 0.525}
    with judging(lambda *_: completion("Both are fine.")) as server:
        judged = run(server, [item("a", "b!"), item("d", "e!", prompt="R")], tmp_path, **price)
    assert judged.left_out == {f"questions {UNREAD}": 2, NO_VERDICT: 1, UNASKED: 1}


def test_requests_go_out_side_by_side_and_labels_keep_the_items_order(tmp_path: Path) -> None:
    together = threading.Barrier(4, timeout=5)

    def slow(server: JudgeServer, body: dict[str, Any]) -> Reply:
        together.wait()
        return fair(server, body)

    items = [item(f"a{i}", f"b{i}!", prompt=str(i)) for i in range(6)]
    with judging(slow) as server:
        judged = run(server, items, tmp_path, concurrent=4)
    assert server.most_at_once == 4
    assert [group.group_id for group in judged.groups] == [one.group_id for one in items]


def test_a_damaged_file_of_the_cache_is_mended(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    cache.keep("ab12", Answer("VERDICT: A"))
    [place] = (tmp_path / "judge").rglob("*.json")
    assert place.stat().st_mode & 0o777 == 0o600
    place.write_text("{")
    assert cache.get("ab12") is None
    assert cache.keep("ab12", Answer("VERDICT: B")) == Answer("VERDICT: B")
    assert json.loads(place.read_text())["text"] == "VERDICT: B"


def test_answers_that_an_earlier_version_kept_are_known_but_for_those_it_took_for_cut(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    for digest, finished in (("ab12", True), ("cd34", False)):
        cache.keep(digest, Answer("VERDICT: A"))
        old = {"text": "VERDICT: A", "finished": finished, "input_tokens": 1, "output_tokens": 2}
        next((tmp_path / "judge").rglob(f"{digest}.json")).write_text(json.dumps(old))
    assert cache.get("ab12") == Answer("VERDICT: A", input_tokens=1, output_tokens=2)
    assert cache.get("cd34") is None
    assert cache.keep("cd34", Answer("VERDICT: B")) == Answer("VERDICT: B") == cache.get("cd34")
    cut = cache.keep("ef56", Answer("VERDICT", cut="length"))
    assert cache.get("ef56") == cut


def test_of_two_who_ask_at_once_the_first_answer_stands(tmp_path: Path) -> None:
    one, two = AnswerCache(tmp_path), AnswerCache(tmp_path)
    assert one.keep("ab12", Answer("VERDICT: A")) == Answer("VERDICT: A")
    assert two.keep("ab12", Answer("VERDICT: B")) == Answer("VERDICT: A")


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    judge: Judge = fair
    with judging(judge) as server:
        run(server, [item("a", "b!")], tmp_path)
    assert not [one for one in threading.enumerate() if one.name.endswith("(work)")]
