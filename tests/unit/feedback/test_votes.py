"""Votes of people without an identity: equal ones are several people's, in whatever format a row is one vote."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings
from rewardloop.feedback.importers.base import importers
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from tests.exports import argilla

HEADER = "prompt,response_a,response_b,verdict"


def pairwise(verdicts: str) -> str:
    return "\n".join([HEADER, *(f"Q,A,B,{verdict}" for verdict in verdicts)]) + "\n"


def label_studio(sides: list[str]) -> str:
    annotations = [{"result": [{"type": "pairwise", "value": {"selected": side}}]} for side in sides]
    return json.dumps([{"data": {"prompt": "Q", "answer1": "A", "answer2": "B"}, "annotations": annotations}])


def argilla_rankings(orders: list[list[str]]) -> str:
    record = argilla(ranking=orders)
    for answer in record["responses"]["ranking"]:
        del answer["user_id"]
    return json.dumps([record])


def arena(winners: list[str]) -> str:
    def turns(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}]

    rows = [{"conversation_a": turns("A"), "conversation_b": turns("B"), "winner": winner} for winner in winners]
    return "".join(json.dumps(row) + "\n" for row in rows)


def ground_truth(names: list[str]) -> str:
    workers = [{"annotationData": {"content": json.dumps({"best": name})}} for name in names]
    about = {"type": "groundtruth/custom", "human-annotated": "yes"}
    line = {"source": "Q", "response_1": "A", "response_2": "B", "pref": {"annotationsFromAllWorkers": workers}}
    return json.dumps({**line, "pref-metadata": about}) + "\n"


EXPORTS: dict[str, tuple[str, dict[str, str]]] = {
    "pairwise": (pairwise("aaab"), {}),
    "label-studio-pairwise": (label_studio(["left"] * 3 + ["right"]), {}),
    "argilla": (argilla_rankings([["response_1", "response_2"]] * 3 + [["response_2", "response_1"]]), {}),
    "arena": (arena(["model_a"] * 3 + ["model_b"]), {}),
    "ground-truth": (ground_truth(["response_1"] * 3 + ["response_2"]), {"path": "best"}),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_three_equal_votes_against_one(
    name: str, tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    text, options = EXPORTS[name]
    columns = {"prompt": "source"} if name == "ground-truth" else {}
    for file in ("export.txt", "again.txt"):
        (tmp_path / file).write_text(text)
    how: dict[str, Any] = {"key": key, "options": options, "columns": columns}
    report = ingest([tmp_path / "export.txt"], store, settings, **how)
    assert report.importer == name
    assert (report.rows_in, report.rows_taken, report.rows_duplicate) == (4, 4, 0)
    assert (report.groups, report.labels, report.labelers) == (2, 4, None)
    assert report.digest is not None
    sizes = store.read_batch(report.digest)["labels"].list.len().to_list()
    assert sizes == [3, 1]
    lenient = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_failed_share": 1.0})}
    )
    again = ingest([tmp_path / "again.txt"], store, lenient, **how)
    assert (again.digest, again.rows_duplicate) == (None, 4)


def test_the_same_file_twice_in_one_ingest_counts_once(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text(pairwise("aab"))
    report = ingest([tmp_path / "one.csv", tmp_path / "two.csv"], store, settings, key=key)
    assert (report.rows_taken, report.rows_duplicate, report.labels) == (3, 3, 3)


def test_who_has_an_identity_votes_once(tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes) -> None:
    rows = [f"{HEADER},labeler", "Q,A,B,a,anna", "Q,A,B,a,anna", "Q,A,B,a,", "Q,A,B,a,", "Q,A,B,b,"]
    (tmp_path / "votes.csv").write_text("\n".join(rows))
    report = ingest([tmp_path / "votes.csv"], store, settings, key=key)
    assert (report.rows_taken, report.rows_duplicate, report.groups) == (4, 1, 3)
    assert report.digest is not None
    labels = store.read_batch(report.digest)["labels"].to_list()
    assert Counter(len(given) for given in labels) == {1: 2, 2: 1}


def test_votes_of_different_tasks_stay_apart(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    rows = [HEADER, "Q,A,B,a", "Q,B,A,a", "Q,A,B,a", "P,A,B,a"]
    (tmp_path / "votes.csv").write_text("\n".join(rows))
    report = ingest([tmp_path / "votes.csv"], store, settings, key=key)
    assert (report.rows_taken, report.groups, report.labels) == (4, 3, 4)


def test_the_same_canonical_record_twice_is_a_duplicate(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    choice = {"kind": "choice", "chosen": "a", "rejected": "b"}
    responses = [{"response_id": "a", "content": "A"}, {"response_id": "b", "content": "B"}]
    record = json.dumps({"group_id": "g", "responses": responses, "labels": [choice]})
    (tmp_path / "records.jsonl").write_text(f"{record}\n{record}\n")
    report = ingest([tmp_path / "records.jsonl"], store, settings, key=key)
    assert (report.rows_taken, report.rows_duplicate, report.labels) == (1, 1, 1)


def test_formats_in_which_a_row_is_one_vote() -> None:
    votes = {name for name, one in importers().items() if one.votes}
    tools = {"pairwise", "ranker", "tasks", "verdicts"}
    argillas = {"argilla", "argilla-flat", "argilla-v1"}
    assert votes == {"arena", "pairwise", "ground-truth", *argillas, *(f"label-studio-{tool}" for tool in tools)}


def test_what_is_left_out_of_known_rows_is_not_counted_again(
    tmp_path: Path, store: FeedbackStore, settings: Settings, key: bytes
) -> None:
    def row(prompt: str, rating: str) -> str:
        ratings = {"helpfulness": {"Rating": rating}, "honesty": {"Rating": "4"}}
        completions = [{"response": text, "annotations": ratings, "overall_score": 8} for text in "AB"]
        return json.dumps({"instruction": prompt, "completions": completions}) + "\n"

    (tmp_path / "one.jsonl").write_text(row("Q", "N/A"))
    (tmp_path / "two.jsonl").write_text(row("Q", "N/A") + row("P", "5"))
    first = ingest([tmp_path / "one.jsonl"], store, settings, key=key)
    assert sum(first.left_out.values()) == 2
    second = ingest([tmp_path / "two.jsonl"], store, settings, key=key)
    assert (second.rows_taken, second.rows_duplicate, second.left_out) == (1, 1, {})
