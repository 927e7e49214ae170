"""Every importer against golden files written by hand: what each row of a file becomes."""

import json

import pytest

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import LabelerId, Rejected, Taken, choose, importers, parse_options
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import Source
from tests.exports import DATA, expected, read, shown, table

WIDE = {"text": "Request", "id": "Id", "segment": "Community", "score": "Score#", "labeler": "TurkId#"}

# file, format, options, columns, does `auto` find it with the same options
CASES: list[tuple[str, str, dict[str, str], dict[str, str], bool]] = [
    ("canonical.jsonl", "canonical", {}, {}, True),
    ("wide.csv", "ratings-wide", {"scale": "1..25", "criterion": "politeness"}, WIDE, True),
    ("wide_groups.tsv", "ratings-wide", {"group": "labelers"}, {}, True),
    ("wide_names.csv", "ratings-wide", {}, {"text": "answer", "prompt": "question", "score": "by_*"}, True),
    ("long.csv", "ratings-long", {"scale": "0..5", "source": "desk"}, {"id": "item"}, True),
    ("long_anonymous.csv", "ratings-long", {}, {}, False),
    ("lists.tsv", "rating-lists", {"scale": "-4..4", "default_segment": "film"}, {"document": "doc"}, True),
    ("classes.csv", "classification", {}, {"text": "review", "label": "sentiment"}, False),
    ("classes_numbers.jsonl", "classification", {"positive": "4, 5", "negative": "1,2"}, {}, True),
    ("hh.jsonl", "pairs", {}, {}, True),
    ("trl.jsonl", "pairs", {"labeler_kind": "model", "criterion": "help"}, {}, True),
    (
        "implicit.csv",
        "pairs",
        {"strings": "common-prefix"},
        {"chosen": "better", "rejected": "worse", "labeler": "who"},
        True,
    ),
]


def table_of(text: str, name: str = "labels.csv") -> Table:
    return Table.of(Source(name, text, "0" * 64))


@pytest.mark.parametrize(("name", "format", "options", "columns", "auto"), CASES, ids=[case[0] for case in CASES])
def test_golden_file(name: str, format: str, options: dict[str, str], columns: dict[str, str], auto: bool) -> None:
    outcomes = read(table(name), format, options, columns)
    by_line = sorted((shown(outcome) for outcome in outcomes), key=lambda one: one["lines"])
    assert by_line == expected(name)


@pytest.mark.parametrize(("name", "format", "options", "columns", "auto"), CASES, ids=[case[0] for case in CASES])
def test_auto_takes_the_same_importer_or_says_that_it_cannot(
    name: str, format: str, options: dict[str, str], columns: dict[str, str], auto: bool
) -> None:
    if auto:
        choice = choose([table(name)], "auto", options, columns)
        assert choice.importer.name == format
        assert choice.reason
    else:  # neutral labels, scores without labelers: nothing to be sure by
        with pytest.raises(BadInputError, match="format not recognized; found"):
            choose([table(name)], "auto", options, columns)


def test_auto_refuses_what_two_formats_may_be() -> None:
    both = table_of("text,label,labeler,score\nx,1,anna,3\n")
    with pytest.raises(BadInputError, match=r"may be any of: classification .*; ratings-long .*--format"):
        choose([both], "auto", {}, {})


def test_auto_names_the_file_that_is_unlike_the_others() -> None:
    first = table_of("prompt,response_a,response_b,verdict\nQ,A,B,a\n", "first.csv")
    other = table_of("question,answer\nQ,A\n", "other.csv")
    message = r"^other.csv: format not recognized, and first.csv looks like pairwise \(.*found .* question, answer\. "
    for tables in ([first, other], [other, first]):
        with pytest.raises(BadInputError, match=message):
            choose(tables, "auto", {}, {})


@pytest.mark.parametrize("form", ["json-lines", "json-list"])
def test_keys_of_json_are_columns_wherever_they_begin(form: str) -> None:
    early: list[dict[str, object]] = [{"chosen": f"good {at}", "rejected": f"bad {at}"} for at in range(30)]
    late = {"prompt": "Q", "chosen": "yes", "rejected": "no", "labeler": "anna", "margin": 2.0}
    text = json.dumps([*early, late])
    if form == "json-lines":
        text = "\n".join(map(json.dumps, [*early, late]))
    rows = table_of(text)
    assert rows.columns == ("chosen", "rejected", "prompt", "labeler", "margin")
    *_, last = read(rows, "pairs", {}, {})
    assert isinstance(last, Taken)
    assert [message.content for message in last.group.prompt] == ["Q"]
    assert {label.labeler for label in last.group.labels} == {"anna"}


def test_scores_of_a_labeler_who_came_later_are_read_and_the_labeler_stays_unnamed() -> None:
    early: list[dict[str, object]] = [{"text": f"t{at}", "score_anna": 3} for at in range(30)]
    late = [{"text": "t", "score_anna": 3, "score_zoe": 1}, {"text": 5, "score_zoe": 1}]
    rows = table_of("\n".join(map(json.dumps, [*early, *late])))
    outcomes = read(rows, "ratings-wide", {}, {"score": "score_*"})
    (group,) = (one.group for one in outcomes if isinstance(one, Taken) and one.group.responses[0].content == "t")
    assert {label.labeler: list(label.values().values()) for label in group.labels} == {"anna": [3.0], "zoe": [1.0]}
    (rejected,) = (one for one in outcomes if isinstance(one, Rejected))
    assert [key for key in rejected.row.raw or {} if isinstance(key, LabelerId)] == ["zoe"]


def test_messages_about_columns_do_not_name_labelers() -> None:
    rows = table_of("id,body,score_anna.smith,score_bob\n1,x,2,3\n")
    message = r"no column 'text'; found a table with the columns id, body, score_\*\. Name it: --column text=COLUMN"
    with pytest.raises(BadInputError, match=message):
        read(rows, "ratings-wide", {}, {"score": "score_*"})
    with pytest.raises(BadInputError, match=r"found a table with the columns id, body, score_\*\. Name the format"):
        choose([rows], "auto", {}, {"score": "score_*"})


def test_what_pandas_writes_for_a_missing_value_is_none() -> None:
    text = (
        '{"prompt": NaN, "response_a": "A", "response_b": "B", "verdict": "a", "labeler": NaN, "id": NaN}\n'
        '{"prompt": "Q", "response_a": "A", "response_b": "B", "verdict": NaN, "labeler": NaN, "id": NaN}\n'
    )
    taken, rejected = read(table_of(text), "pairwise", {}, {})
    assert isinstance(taken, Taken)
    assert taken.group.prompt == ()
    assert taken.group.labels[0].labeler is None
    assert taken.group.group_id.startswith("c_")
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "verdict: is empty; expected a verdict"
    assert (rejected.row.raw or {})["labeler"] is None


def test_a_score_that_pandas_misses_was_not_given() -> None:
    (taken,) = read(table_of('{"text": "x", "score1": NaN, "score2": 4}\n'), "ratings-wide", {}, {})
    assert isinstance(taken, Taken)
    assert [list(label.values().values()) for label in taken.group.labels] == [[4.0]]


def test_a_number_of_a_labeler_is_the_same_as_a_whole_number_with_a_point() -> None:
    rows = table_of(
        '{"id": 4, "text": "x", "labeler": 1, "score": 2}\n{"id": 4.0, "text": "x", "labeler": 1.0, "score": 3}\n'
        '{"id": 4.5, "text": "y", "labeler": 2.0, "score": 2}\n'
    )
    rejected, *taken = read(rows, "ratings-long", {}, {})
    assert isinstance(rejected, Rejected)
    assert "a labeler gives id '4' the score 3 here and 2 in an earlier row" in rejected.reason
    assert (rejected.row.raw or {})["labeler"] == "1"
    groups = [one.group for one in taken if isinstance(one, Taken)]
    assert [(group.group_id, group.labels[0].labeler) for group in groups] == [("4", "1"), ("4.5", "2")]


def test_one_readable_list_of_ratings_is_enough_to_recognize_them() -> None:
    assert choose([table_of("text\tratings\nx\tnone\ny\t[3]\n")], "auto", {}, {}).importer.name == "rating-lists"
    for cell in ("[]", '["good"]', "3"):
        with pytest.raises(BadInputError, match="format not recognized"):
            choose([table_of(f"text\tratings\nx\t{cell}\n")], "auto", {}, {})


def test_auto_looks_no_further_than_the_first_rows_where_they_settle_the_format() -> None:
    pairs = ", ".join(['{"chosen": "a", "rejected": "b"}'] * 20)
    broken = table_of(f'[{pairs}, {{"chosen" "a"}}]')
    assert choose([broken], "auto", {}, {}).importer.name == "pairs"
    with pytest.raises(BadInputError, match="entry 21 of the list is not JSON"):
        read(broken, "pairs", {}, {})


def test_a_json_list_is_read_like_json_lines() -> None:
    lines = (DATA / "trl.jsonl").read_text(encoding="utf-8").split("\n")
    whole = [line for line in lines if line and json.loads(line)]
    in_lines = read(table_of("\n".join(whole)), "pairs", {}, {})
    in_list = read(table_of(f" [ {' , '.join(whole)}\n]\n"), "pairs", {}, {})
    assert in_lines == in_list


def test_what_is_no_object_in_a_json_list_is_rejected_by_its_number() -> None:
    rows = table_of('[{"chosen": "a", "rejected": "b"}, 7, {"chosen": "\\ud800", "rejected": "b"}]')
    _, number, half = read(rows, "pairs", {}, {})
    assert shown(number) == {"lines": [2], "rejected": "found a JSON int; expected an object"}
    assert isinstance(half, Rejected)
    assert "half of a surrogate pair" in half.reason


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(
        BadInputError, match=r"--format csv: unknown; allowed: auto, .*canonical, classification, .*ultrafeedback"
    ):
        choose([table("wide.csv")], "csv", {}, {})


def test_every_wrong_option_is_listed_with_what_is_allowed() -> None:
    with pytest.raises(BadInputError) as caught:
        choose([table("wide.csv")], "ratings-wide", {"grup": "x", "text": "Request"}, {"scale": "1..5"})
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert "--option grup: unknown for format ratings-wide; allowed: criterion, labeler_kind, sampling," in lines[0]
    assert "--option text" in lines[1]
    assert "--column scale" in lines[2]
    assert "text, id, prompt, segment, document, score, labeler" in lines[2]


@pytest.mark.parametrize("scale", ["5", "5..1", "a..b", "1..nan"])
def test_a_scale_that_is_none_is_refused(scale: str) -> None:
    with pytest.raises(BadInputError, match=r"--option scale=.*expected LOWEST..HIGHEST"):
        parse_options(importers()["ratings-long"], {"scale": scale}, {})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": "Reqest", "score": "Score#"},
            "no column 'Reqest'; found a table with the columns Id, Community, Request",
        ),
        ({"text": "Request", "score": "Score#", "id": "Nr"}, "no column 'Nr'.*--column id=COLUMN"),
        ({"text": "Request", "score": "Score#", "id": "Community+Nr"}, "no column 'Nr'.*--column id=COLUMN"),
        ({"text": "Request", "score": "Points#"}, "no column 'Points#'"),
        ({"text": "Request", "score": "Score#", "labeler": "Turk#"}, "no column 'Turk1'"),
        ({"text": "Request", "score": "Score"}, "'Score' is not a pattern of columns"),
    ],
)
def test_missing_columns_are_named(columns: dict[str, str], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read(table("wide.csv"), "ratings-wide", {}, columns)


def test_joined_id_columns_tell_equal_ids_apart() -> None:
    rows = table_of("site,nr,text,score1\na,1,x,3\nb,1,y,4\n")
    outcomes = read(rows, "ratings-wide", {}, {"id": "site+nr"})
    assert [outcome.group.group_id for outcome in outcomes if isinstance(outcome, Taken)] == ["a/1", "b/1"]


def test_classes_are_recognized_though_some_labels_are_in_no_list() -> None:
    options = {"positive": "4,5", "negative": "1,2"}
    rows = table_of("text,label\nA,5\nB,3\nC,1\n")
    choice = choose([rows], "auto", options, {})
    assert (choice.importer.name, "1 positive of 3, 1 neither" in choice.reason) == ("classification", True)
    assert [type(outcome) for outcome in read(rows, "classification", options, {})] == [Taken, Rejected, Taken]
    with pytest.raises(BadInputError, match="format not recognized"):
        choose([rows], "auto", {"positive": "good", "negative": "bad"}, {})


@pytest.mark.parametrize("options", [{}, {"positive": "1.0", "negative": "0"}])
def test_whole_numbers_that_a_table_made_fractions_are_labels(options: dict[str, str]) -> None:
    labels = "text,label\nA,1.0\nB,0.0\n"
    assert choose([table_of(labels)], "auto", options, {}).importer.name == "classification"
    good, bad, between = read(table_of(f"{labels}C,0.5\n"), "classification", options, {})
    assert isinstance(good, Taken)
    assert isinstance(bad, Taken)
    found = [list(one.group.labels[0].values().values()) for one in (good, bad)]
    assert found == [[1.0], [0.0]]
    assert isinstance(between, Rejected)
    with pytest.raises(BadInputError, match="'1' is both positive and negative"):
        parse_options(importers()["classification"], {"positive": "1", "negative": "1.0"}, {})


def test_grouping_by_labelers_needs_labelers() -> None:
    with pytest.raises(BadInputError, match="group=labelers needs labelers with ids"):
        read(table_of("text,score1,score2\nx,1,2\n"), "ratings-wide", {"group": "labelers"}, {})


def test_grouping_by_labelers_keeps_prompts() -> None:
    rows = [f"t{number},{prompt},{number},3,w1,w2" for number, prompt in enumerate(["P", "P", "Q", "", ""])]
    text = "\n".join(["text,prompt,score1,score2,labeler1,labeler2", *rows])
    groups = [
        outcome.group
        for outcome in read(table_of(text), "ratings-wide", {"group": "labelers"}, {})
        if isinstance(outcome, Taken)
    ]
    found = {tuple(one.content for one in group.responses): group.prompt for group in groups}
    assert set(found) == {("t0", "t1"), ("t2",), ("t3", "t4")}
    assert [message.content for message in found["t0", "t1"]] == ["P"]
    assert found["t3", "t4"] == ()


def test_long_texts_are_rejected_row_by_row_also_inside_a_group() -> None:
    rows = table_of(f"text,score1,labeler1\nshort,1,anna\n{'x' * 20_001},2,anna\n")
    taken, rejected = sorted(
        read(rows, "ratings-wide", {"group": "labelers"}, {}), key=lambda outcome: isinstance(outcome, Rejected)
    )
    assert isinstance(taken, Taken)
    assert len(taken.rows) == 1
    assert isinstance(rejected, Rejected)
    assert "a response has 20,001 characters; at most 20,000" in rejected.reason


def test_a_quote_that_never_closes_refuses_the_file() -> None:
    rows = "".join(f"row {number},1\n" for number in range(30))
    text = f'text,score1\n{rows}"open,2\nmore,3\n'
    with pytest.raises(BadInputError, match=r"labels.csv:32: a quote in this row is never closed"):
        read(table_of(text), "ratings-wide", {}, {})


def test_stray_characters_behind_a_quote_reject_one_row() -> None:
    outcomes = read(table_of('text,score1\n"x"y,2\nmore,3\n'), "ratings-wide", {}, {})
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Rejected", "Taken"]


def test_a_broken_quote_that_swallowed_rows_refuses_the_file() -> None:
    text = 'text,score1\na,1\n"Hello,2\nfine,3\nsaid "x",4\nz,5\n'
    with pytest.raises(BadInputError, match=r"labels.csv:3: a quote in this row opens a cell that reaches to line 5"):
        read(table_of(text), "ratings-wide", {}, {})


def test_a_row_of_several_lines_with_cells_too_many_says_how_far_it_reaches() -> None:
    rejected, _ = read(table_of('text,score1\n"Hello,2\nfine,3\nsaid",4,5\nz,5\n'), "ratings-wide", {}, {})
    assert isinstance(rejected, Rejected)
    assert (rejected.row.place, rejected.reason) == ("labels.csv:2", "has 3 cells up to line 4; the header has 2")


def test_cells_larger_than_the_csv_modules_own_limit_are_read() -> None:
    outcomes = read(table_of(f"text,score1\nx,2\n{'y' * 200_000},3\n"), "ratings-wide", {}, {})
    (rejected,) = (outcome for outcome in outcomes if isinstance(outcome, Rejected))
    assert "200,000 characters" in rejected.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "holds a header and no rows"),
        ("a,a\n1,2\n", "column 'a' stands twice in the header"),
        ("[ ]", "holds an empty JSON list; expected rows of feedback"),
        ('[{"a": 1},\n {"b": 2\n]', "labels.csv:3: entry 2 of the list is not JSON: Expecting ',' delimiter"),
        ('[{"a": 1} {"b": 2}]', "behind entry 1 of the list: found '{\"b\": 2}]'; expected ',' or ']'"),
        ('[{"a": 1}', "behind entry 1 of the list: found the end of the file; expected ',' or ']'"),
        ('[{"a": 1}]\n{"b": 2}', "there is text behind the list; expected one list"),
        ("[1, 2]", "labels.csv:1: found a JSON int; expected an object; no row of the file can be read"),
        ("{broken\n", "labels.csv:1: is not JSON"),
    ],
)
def test_files_without_usable_rows(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        table_of(text)
