"""Importers of public data sets' and trainers' formats against golden files written by hand."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    LabelerId,
    Rejected,
    Skipped,
    Taken,
    choose,
    importers,
    parse_options,
)
from rewardloop.feedback.importers.table import Record, Table
from rewardloop.tables import feedback_frame
from tests.exports import expected, read, reason, shown, table, table_of

Case = tuple[str, str, dict[str, str], dict[str, str]]
# file, format, options, columns
CASES: list[Case] = [
    ("margins.jsonl", "pairs", {}, {}),
    ("binarized.jsonl", "ultrafeedback-binarized", {"scale": "1..10"}, {}),
    ("openai.jsonl", "openai-preference", {}, {}),
    ("openpipe.jsonl", "openpipe", {}, {}),
    ("arena_conversations.jsonl", "arena", {"bothbad": "unacceptable"}, {"segment": "language"}),
    ("arena_votes.csv", "arena", {"turns": "transcript"}, {}),
    ("google.jsonl", "google-preference", {}, {}),
    ("nemo.jsonl", "nemo-preference", {}, {}),
    ("ultrafeedback.jsonl", "ultrafeedback", {}, {}),
    (
        "pairwise.csv",
        "pairwise",
        {"a": "1", "b": "2", "tie": "equal", "match": "start", "keep": "Approved,Submitted"},
        {
            "prompt": "question",
            "response_a": "answer1",
            "response_b": "answer2",
            "verdict": "better",
            "labeler": "who",
            "model_a": "modelA",
            "model_b": "modelB",
        },
    ),
    ("ranks.csv", "ranks-long", {}, {}),
    ("squality.jsonl", "squality", {"take": "both", "criteria": "overall"}, {}),
]
WITHOUT_AUTO = {"pairwise.csv"}  # some of its verdicts are called by no name


@pytest.mark.parametrize(("name", "format", "options", "columns"), CASES, ids=[case[0] for case in CASES])
def test_golden_file(name: str, format: str, options: dict[str, str], columns: dict[str, str]) -> None:
    found = sorted((shown(outcome) for outcome in read(table(name), format, options, columns)), key=_first_line)
    assert found == expected(name)


def _first_line(one: dict[str, Any]) -> int:
    return int(one["lines"][0])


@pytest.mark.parametrize(
    ("name", "format", "options", "columns"),
    [case for case in CASES if case[0] not in WITHOUT_AUTO],
    ids=[case[0] for case in CASES if case[0] not in WITHOUT_AUTO],
)
@pytest.mark.parametrize("with_options", [False, True])
def test_auto_takes_exactly_this_format(
    name: str, format: str, options: dict[str, str], columns: dict[str, str], with_options: bool
) -> None:
    choice = choose([table(name)], "auto", options if with_options else {}, columns if with_options else {})
    assert choice.importer.name == format
    assert choice.reason


@pytest.mark.parametrize(("name", "format", "options", "columns"), CASES, ids=[case[0] for case in CASES])
def test_no_labeler_is_left_in_a_row_for_quarantine(
    name: str, format: str, options: dict[str, str], columns: dict[str, str]
) -> None:
    """What is refused is written down: ids of labelers are marked in it, to be replaced by pseudonyms."""
    for outcome in read(table(name), format, options, columns):
        if isinstance(outcome, Rejected):
            left = json.dumps(_without_marked(outcome.row.raw))
            named = {"anna", "ben", "cleo", "dan", "eve", "fay", "gil", "u1", "u2"}
            assert not {word for word in named if f'"{word}"' in left}
            assert '"worker_id"' not in left


def _without_marked(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {key: _without_marked(value) for key, value in raw.items() if not isinstance(value, LabelerId)}
    return raw


def test_house_made_names_are_found_by_auto_once_they_are_named() -> None:
    rows = [{"question": "Q", "answer1": "x", "answer2": "y", "verdict": "tie", "labeler": "anna"}]
    columns = {"prompt": "question", "response_a": "answer1", "response_b": "answer2"}
    with pytest.raises(BadInputError, match="format not recognized"):
        choose([table_of(*rows)], "auto", {}, {})
    assert choose([table_of(*rows)], "auto", {}, columns).importer.name == "pairwise"


def test_a_tie_of_an_unknown_name_is_never_guessed() -> None:
    rows = [{"response_a": "x", "response_b": "y", "verdict": verdict} for verdict in ("A", "same", "b")]
    found = [shown(outcome) for outcome in read(table_of(*rows), "pairwise")]
    assert [set(one) - {"lines"} for one in found] == [{"group"}, {"rejected"}, {"group"}]
    assert "verdict: found 'same'; expected one of a: a, response_a; b: b, response_b; tie: tie" in found[1]["rejected"]
    (_, tie, _) = read(table_of(*rows), "pairwise", {"tie": "same"})
    assert isinstance(tie, Taken)


@pytest.mark.parametrize(("verdicts", "known"), [(("a", "equal"), True), (("", "b"), True), (("equal", "?"), False)])
def test_one_known_verdict_is_enough_to_recognize_comparisons(verdicts: tuple[str, ...], known: bool) -> None:
    rows = table_of(*({"response_a": "x", "response_b": "y", "verdict": verdict} for verdict in verdicts))
    if known:
        assert choose([rows], "auto", {}, {}).importer.name == "pairwise"
    else:
        with pytest.raises(BadInputError, match="format not recognized"):
            choose([rows], "auto", {}, {})


def test_a_row_without_completions_does_not_hide_ultrafeedback() -> None:
    completions = [{"response": text, "annotations": {"honesty": {"Rating": "4"}}} for text in ("A", "B")]
    rows = [{"instruction": "Q", "completions": []}, {"instruction": "Q2", "completions": completions}]
    assert choose([table_of(*rows)], "auto", {}, {}).importer.name == "ultrafeedback"
    with pytest.raises(BadInputError, match="format not recognized"):
        choose([table_of(rows[0])], "auto", {}, {})


def test_answers_are_called_by_their_columns_too() -> None:
    named = {"response_a": "left", "response_b": "right"}
    rows = [{"left": "x", "right": "y", "verdict": "right"}, {"left": "x", "right": "z", "verdict": "Left"}]
    found = read(table_of(*rows), "pairwise", columns=named)
    assert [one.group.labels[0].chosen for one in found if isinstance(one, Taken)] == ["b", "a"]
    with pytest.raises(BadInputError, match="'a' stands for two verdicts; say with a="):
        parse_options(importers()["pairwise"], {}, {"response_a": "b", "response_b": "a"})
    parse_options(importers()["pairwise"], {"a": "b", "b": "a"}, {"response_a": "b", "response_b": "a"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a": "1,x", "b": "2,X"}, "'x' stands for two verdicts"),
        ({"match": "middle"}, "--option match=middle"),
        ({"bothbad": "bad"}, "--option bothbad=bad"),
    ],
)
def test_options_of_verdicts_that_contradict_each_other(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        parse_options(importers()["pairwise"], options, {})


def test_keeping_some_statuses_needs_their_column() -> None:
    rows = table_of({"response_a": "x", "response_b": "y", "verdict": "a"})
    with pytest.raises(BadInputError, match=r"no column 'status'.*--column status=COLUMN"):
        read(rows, "pairwise", {"keep": "Approved"})


@pytest.mark.parametrize(("ratings", "kept"), [(["4", "4"], False), (["4", "5"], True), (["N/A"], False)])
def test_a_ten_of_ultrafeedback_needs_ratings_above_four(ratings: list[str], kept: bool) -> None:
    annotations = {f"c{place}": {"Rating": rating} for place, rating in enumerate(ratings)}
    other = {"response": "y", "annotations": {"c0": {"Rating": "1"}}, "overall_score": 2}
    row = {
        "instruction": "Q",
        "completions": [{"response": "x", "annotations": annotations, "overall_score": 10}, other],
    }
    for tens in ("leave-out", "keep"):
        (taken,) = read(table_of(row), "ultrafeedback", {"tens": tens})
        assert isinstance(taken, Taken)
        overall = next(label for label in taken.group.labels if label.criterion == "overall")
        assert ("r0" in overall.values()) is (kept or tens == "keep")


@pytest.mark.parametrize(("overall", "expected"), [("score", [9.0, 3.0]), ("mean", [4.5, 2.0]), ("none", None)])
def test_what_rates_a_completion_of_ultrafeedback_as_a_whole(overall: str, expected: list[float] | None) -> None:
    def completion(text: str, score: float, *ratings: str) -> dict[str, Any]:
        annotations = {f"c{place}": {"Rating": rating} for place, rating in enumerate(ratings)}
        return {"response": text, "annotations": annotations, "overall_score": score}

    row = {"instruction": "Q", "completions": [completion("x", 9, "4", "5"), completion("y", 3, "2", "N/A")]}
    (taken,) = read(table_of(row), "ultrafeedback", {"overall": overall, "criteria": "C1"})
    assert isinstance(taken, Taken)
    found = {label.criterion: list(label.values().values()) for label in taken.group.labels}
    assert found == {"c1": [5.0]} | ({"overall": expected} if expected else {})


def test_a_prompt_that_both_conversations_repeat_is_taken_once() -> None:
    prompt = [{"role": "user", "content": "Q"}]
    row = {"prompt": prompt} | {
        name: [*prompt, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")
    }
    (taken,) = read(table_of(row), "pairs")
    assert isinstance(taken, Taken)
    assert [message.content for message in taken.group.prompt] == ["Q"]


def test_margins_can_be_ignored() -> None:
    outcomes = read(table("margins.jsonl"), "pairs", {"margins": "ignore"})
    groups = [outcome.group for outcome in outcomes if isinstance(outcome, Taken)]
    assert [[label.kind for label in group.labels] for group in groups] == [["choice"]] * 6


def test_conversations_of_several_turns_become_transcripts_only_when_asked() -> None:
    (outcome,) = [one for one in read(table("arena_conversations.jsonl"), "arena") if isinstance(one, Skipped)]
    assert "--option turns=transcript" in outcome.reason
    taken = read(table("arena_conversations.jsonl"), "arena", {"turns": "transcript"})[4]
    assert isinstance(taken, Taken)
    assert taken.group.responses[1].content == "Assistant: y\n\nHuman: More\n\nAssistant: yy"


def test_other_names_of_both_bad_are_taken_by_option() -> None:
    taken = read(table("arena_conversations.jsonl"), "arena", {"both_bad": "both_bad"})[3]
    assert isinstance(taken, Taken)
    assert [label.kind for label in taken.group.labels] == ["ranking"]


def test_squality_takes_its_questions_from_another_file(tmp_path: Path) -> None:
    story = {"metadata": {"passage_id": "50827"}, "questions": [{"question_text": "Who?"}, {"question_text": "Why?"}]}
    (tmp_path / "stories.jsonl").write_text(json.dumps(story) + "\n")
    options = {"criteria": "overall", "questions": str(tmp_path / "stories.jsonl")}
    first, *_, last = read(table("squality.jsonl"), "squality", options)
    assert isinstance(first, Taken)
    assert [message.content for message in first.group.prompt] == ["Who?"]
    assert [label.kind for label in first.group.labels] == ["ranking", "ranking"]
    assert isinstance(last, Rejected)
    assert last.reason == "question 0: stories.jsonl has no question '0' of passage '50829'"
    kept = parse_options(importers()["squality"], options, {}).model_dump(mode="json")["questions"]
    assert set(kept) == {"name", "sha256"}


def test_no_reason_of_squality_names_a_reviewer() -> None:
    who = {"worker_id": "A3BOBSMITH77"}
    questions: list[Any] = [[who], {"1": [who]}, {"1": {"s1": [who]}}, {"1": {"s1": {"response": who, "reviews": []}}}]
    found = read(table_of(*({"passage-id": "p", "questions": one} for one in questions)), "squality")
    assert [reason(one) for one in found] == [
        "questions: found a JSON list; expected an object with questions, beside a passage-id",
        "question 1: found a JSON list; expected the responses of systems by name",
        "question 1: found a JSON dict; expected the responses of systems by name",
        "question 1: s1.response: found a JSON dict; expected a text",
    ]


def test_a_file_beside_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"--option questions=.*nowhere.jsonl: cannot be read"):
        parse_options(importers()["squality"], {"questions": str(tmp_path / "nowhere.jsonl")}, {})


def test_a_file_beside_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(BadInputError, match=r"other.jsonl:1: KeyError 'metadata'; expected stories"):
        read(table("squality.jsonl"), "squality", {"questions": str(tmp_path / "other.jsonl")})


@pytest.mark.parametrize(("chosen", "rejected"), [("chosen", "rejected"), ("better", "worse")])
def test_conversations_in_a_table_are_read_as_json(chosen: str, rejected: str) -> None:
    def cell(answer: str) -> str:
        return json.dumps([{"role": "user", "content": "Q"}, {"role": "assistant", "content": answer}])

    row = {chosen: cell("good"), rejected: cell("bad")}
    (taken,) = read(table_of(row), "pairs", {}, {"chosen": chosen, "rejected": rejected})
    assert isinstance(taken, Taken)
    assert [message.content for message in taken.group.prompt] == ["Q"]
    assert [response.content for response in taken.group.responses] == ["bad", "good"]


def test_a_conversation_that_python_printed_is_refused_and_like_texts_are_not() -> None:
    printed = {"chosen": "[{'role': 'user', 'content': 'Q'}]", "rejected": "x"}
    texts = {"chosen": '[{"role": as it is', "rejected": "[x] {y}"}
    refused, taken = read(table_of(printed, texts), "pairs")
    assert isinstance(refused, Rejected)
    assert "chosen: is a list as Python prints it, not JSON; write the table again with json.dumps" in refused.reason
    assert isinstance(taken, Taken)


ODD: list[Any] = [
    None,
    True,
    -1,
    7.5,
    10**400,
    float("inf"),
    "",
    "x" * 30,
    "[",
    '[{"role": 1}]',
    [],
    [None],
    [[]],
    {},
    {"role": {}},
    "\u0000",
]


def _odd_rows(value: Any) -> Iterator[Any]:
    """``value`` with each part of it, in turn, replaced by each odd one, and left out."""
    yield from ODD
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        left_out = copy.copy(value)
        del left_out[key]
        yield left_out
        for changed in _odd_rows(part):
            whole = copy.copy(value)
            whole[key] = changed
            yield whole


@pytest.mark.parametrize(("name", "format", "options", "columns"), CASES, ids=[case[0] for case in CASES])
def test_no_value_makes_an_importer_fail_or_lose_a_row(
    name: str, format: str, options: dict[str, str], columns: dict[str, str]
) -> None:
    first, *_ = table(name).first
    # The whole row first: without it a file has no columns to look for.
    rows = [row for row in _odd_rows(first.values) if isinstance(row, dict) and row]
    records = [first, *(Record(f"odd.jsonl:{place}", row) for place, row in enumerate(rows, start=2))]
    outcomes = read(_OddTable(name, records), format, options, columns)
    units = 6 if format == "squality" else 1  # reviews of a row
    counted = sum(len(one.rows) if isinstance(one, Taken) else 1 for one in outcomes)
    assert len(records) <= counted <= units * len(records)
    places = {row.place for one in outcomes for row in (one.rows if isinstance(one, Taken) else (one.row,))}
    assert len(places) == len(records)
    frame = feedback_frame((str(place), one.group) for place, one in enumerate(outcomes) if isinstance(one, Taken))
    assert frame.height > 0


class _OddTable(Table):
    """A table whose rows are given, as a file of columns gives them."""

    def __init__(self, name: str, records: list[Record]) -> None:
        vars(self).update(name=name, columns=tuple(records[0].values), first=tuple(records[:20]), records=records)

    def rows(self) -> Iterator[Record | Rejected]:
        yield from vars(self)["records"]
