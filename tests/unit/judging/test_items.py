"""What there is to judge, from files and from the store."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.pseudonyms import pseudonym
from rewardloop.feedback.store import FeedbackStore
from rewardloop.judging.items import Item, items_of_batch, read_items
from tests.preferences_tables import smoke_settings

KEY = b"k" * 32


def items_of(tmp_path: Path, *rows: Any) -> list[Item]:
    place = tmp_path / "answers.jsonl"
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_items([place], smoke_settings(), FeedbackStore.open(str(tmp_path / "store")), key=KEY)[0]


def test_answers_without_labels_as_texts_and_as_objects(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    full = {"response_id": "x", "content": "Ho", "model": "m-1"}
    one, two = items_of(
        tmp_path,
        {"prompt": "Hi", "responses": ["Ho", "Hu"], "segment": "s", "source": "shop"},
        {"id": 7, "prompt": chat, "responses": [full, {"text": "Ha"}], "sampling": "active", "anything": 1},
    )
    assert [message.content for message in one.prompt] == ["Hi"]
    assert [(response.response_id, response.content) for response in one.responses] == [("0", "Ho"), ("1", "Hu")]
    assert (one.segment, one.source, one.sampling) == ("s", "shop", "random")
    assert (two.group_id, two.sampling, two.responses[0].model, two.responses[1].response_id) == (
        "7", "active", "m-1", "1",
    )  # fmt: skip
    assert [message.role for message in two.prompt] == ["system", "user"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "Hi", "responses": []}, r"answers.jsonl:1: responses: found list, empty or no list; expected JSON"),
        ({"prompt": "Hi", "responses": "Ho"}, "responses: found str"),
        ({"prompt": "Hi", "responses": [1]}, "response 0: found int"),
        ({"prompt": "Hi", "responses": [{"model": "m"}]}, "response 0: has no content"),
        ({"prompt": 5, "responses": ["Ho"]}, "the prompt is 5; expected a text"),
        ({"prompt": "Hi", "responses": ["Ho"], "sampling": "often"}, "sampling: Input should be"),
        (
            {"prompt": "Hi", "responses": [{"response_id": "a", "content": "x"}, {"response_id": "a", "content": "y"}]},
            "not unique inside the group",
        ),
    ],
)
def test_rows_that_cannot_be_judged_are_named(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        items_of(tmp_path, row)


def test_groups_that_come_twice_are_judged_once(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "responses": ["Ho", "Hu"]}
    assert len(items_of(tmp_path, row, row | {"responses": ["Hu", "Ho"]}, row | {"prompt": "Hey"})) == 2


def test_feedback_of_any_format_brings_its_labels_along(tmp_path: Path) -> None:
    place = tmp_path / "feedback.jsonl"
    labels = [{"kind": "choice", "chosen": "a", "rejected": "b", "labeler": "ann"}]
    responses = [{"response_id": "a", "content": "Ho"}, {"response_id": "b", "content": "Hu"}]
    prompt = [{"role": "user", "content": "Hi"}]
    place.write_text(json.dumps({"group_id": "1", "prompt": prompt, "responses": responses, "labels": labels}) + "\n")
    settings, store = smoke_settings(), FeedbackStore.open(str(tmp_path / "store"))
    items, frame = read_items([place], settings, store, key=KEY)
    assert [response.content for response in items[0].responses] == ["Ho", "Hu"]
    assert frame["labels"].to_list()[0][0]["labeler"] == pseudonym(KEY, "ann")
    assert items_of_batch(store, _ingested(place, store, settings)) == items


def test_what_names_people_no_judge_sees(tmp_path: Path) -> None:
    settings = smoke_settings("privacy.redact=[email]")
    store = FeedbackStore.open(str(tmp_path / "store"))
    one, two = tmp_path / "answers.jsonl", tmp_path / "feedback.jsonl"
    texts = ["Write to ann@example.org.", "No."]
    one.write_text(json.dumps({"prompt": "I am ben@example.org", "responses": texts}) + "\n")
    labels = [{"kind": "choice", "chosen": "a", "rejected": "b"}]
    responses = [{"response_id": name, "content": text} for name, text in zip("ab", texts, strict=True)]
    prompt = [{"role": "user", "content": "I am ben@example.org"}]
    two.write_text(json.dumps({"group_id": "1", "prompt": prompt, "responses": responses, "labels": labels}) + "\n")
    for place in (one, two):
        [item] = read_items([place], settings, store, key=KEY)[0]
        assert item.prompt[0].content == "I am [EMAIL]"
        assert [response.content for response in item.responses] == ["Write to [EMAIL].", "No."]


def _ingested(place: Path, store: FeedbackStore, settings: Settings) -> str:
    digest = ingest([place], store, settings, key=KEY).digest
    assert digest is not None
    return digest[:12]
