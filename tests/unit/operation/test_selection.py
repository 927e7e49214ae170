"""Which answers are picked for labeling, which are not, and what becomes of the finished tasks."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rewardloop.config import Settings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.ingest_report import IngestReport
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.uncertain import Answer, make_tasks
from rewardloop.operation import selection
from rewardloop.operation.asked import asked_before, keep_asked
from rewardloop.operation.decisions import read_decisions
from rewardloop.operation.selection import Opinion, Selection, select
from rewardloop.preferences.build import build
from rewardloop.records import bucket, normalize_text, prompt_key, text_digest
from rewardloop.storage import Storage
from tests.logged import decision, write_decisions

NOW = datetime.now(UTC)
TRAIN_ONLY = {"train": 1.0, "validation": 0.0, "calibration": 0.0, "test": 0.0}


def configured(**sections: Any) -> Settings:
    known = {"organization": "acme", "model": {"base": "random:tiny"}, "splits": TRAIN_ONLY}
    return Settings.model_validate(known | sections)


def answer(text: str, score: float, prompt: str = "", *, unscored: bool = False) -> DecisionRecord:
    """An answer logged with its texts; the threshold is 0.5."""
    known: dict[str, Any] = {"decision": "accept" if score >= 0.5 else "block", "texts": True}
    return decision(NOW, text, prompt, **known, score=None if unscored else score)


def picked(folder: Path, logged: list[DecisionRecord], count: int, **options: Any) -> Selection:
    storage = Storage.open(str(folder))
    write_decisions(storage, f"{NOW:%Y-%m-%d}/a.jsonl", *logged)
    found = read_decisions(storage, NOW - timedelta(days=1), "3", texts=True).frame
    settings = options.pop("settings", None) or configured()
    return select(found, FeedbackStore(storage), settings, count=count, ask=options.pop("ask", None), **options)


def canonical(path: Path, *groups: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(group) + "\n" for group in groups))
    return path


def labeled(text: str, acceptable: bool = True, prompt: str = "") -> dict[str, Any]:
    return {
        "group_id": f"{prompt}{text}",
        "prompt": [{"role": "user", "content": prompt}] if prompt else [],
        "responses": [{"response_id": "a", "content": text}],
        "labels": [{"labeler": "w", "kind": "acceptable", "values": {"a": acceptable}}],
    }


def test_the_nearest_are_picked_once_and_in_order(tmp_path: Path) -> None:
    scores = {"far": 3.0, "near": 0.6, "nearest": 0.45, "next": 0.8}
    logged = [answer(text, score) for text, score in scores.items()]
    logged += [answer("NEAR ", 0.6), answer("too long", 0.0, unscored=True)]
    found = picked(tmp_path, logged, 3)
    assert [normalize_text(text) for text in found.rows["response"]] == ["nearest", "near", "next"]
    assert found.rows["distance"].to_list() == pytest.approx([0.05, 0.1, 0.3])
    assert found.left_out == {selection.AGAIN: 1, selection.UNSCORED: 1}
    assert found.divided == 0


def test_what_was_exported_is_not_exported_again(tmp_path: Path) -> None:
    logged = [answer(f"answer {n}", 0.5 + n / 10) for n in range(1, 5)]
    storage = Storage.open(str(tmp_path))
    first = picked(tmp_path, logged, 2)
    for _ in range(2):  # the same again is the same file
        keep_asked(storage, first.rows)
    assert len(storage.list("asked")) == 1
    assert "answer 1" not in storage.read(f"asked/{storage.list('asked')[0]}").decode()
    second = picked(tmp_path, logged, 4, asked=asked_before(storage))
    assert second.rows["response"].to_list() == ["answer 3", "answer 4"]
    assert second.left_out == {selection.ASKED: 2}
    keep_asked(storage, second.rows)
    with pytest.raises(BadInputError, match="none is left to judge: 4 exported before"):
        picked(tmp_path, logged, 4, asked=asked_before(storage))
    storage.write("asked/broken.json", b"{}")
    with pytest.raises(BadInputError, match=r"broken\.json: is not a list of exported answers"):
        asked_before(storage)


def test_half_are_those_that_the_previous_champion_decides_otherwise_the_surest_first(tmp_path: Path) -> None:
    # Distances 0.1 ... 1.0; the other version disagrees on every answer from 0.6 on, and is unsure of the last.
    logged = [answer(f"answer {n}", 0.5 + n / 10) for n in range(1, 11)]

    def ask(rows: pl.DataFrame) -> Opinion:
        far = rows["distance"].to_numpy() > 0.55
        distances = np.where(rows["response"].to_numpy() == "answer 10", 0.01, 2.0)
        return Opinion(np.where(far, "block", rows["decision"].to_numpy()).tolist(), distances)

    found = picked(tmp_path, logged, 4, ask=ask)
    assert found.rows["response"].to_list() == ["answer 9", "answer 8", "answer 1", "answer 2"]
    assert found.divided == 2
    asked: list[int] = []

    def agrees(rows: pl.DataFrame) -> Opinion:
        asked.append(len(rows))
        return Opinion(rows["decision"].to_list(), np.full(len(rows), np.nan))

    few = picked(tmp_path, logged, 4, ask=agrees, settings=configured(drift={"second_opinions": 3}))
    assert few.rows["response"].to_list() == [f"answer {n}" for n in (1, 2, 3, 4)]
    assert (few.divided, asked) == (0, [3])


def test_an_answer_to_a_prompt_brings_another_to_the_same_prompt(tmp_path: Path) -> None:
    logged = [
        answer("p far", 2.0, "p"),
        answer("p near", 0.6, "p"),
        answer("p next", 0.9, "p"),
        answer("q only", 0.5, "q"),
        answer("text", 0.7),
    ]
    found = picked(tmp_path, logged, 2)
    assert found.rows["response"].to_list() == ["p near", "p next"]
    assert found.left_out == {selection.ALONE: 1}
    # Three do not fit the text's place before the pair: the pair first, then the text, then what is left.
    assert picked(tmp_path, logged, 4).rows["response"].to_list() == ["p near", "p next", "text", "p far"]
    # A pair that does not fit any more is passed over.
    assert picked(tmp_path, logged, 1).rows["response"].to_list() == ["text"]


def test_labeled_golden_and_held_out_answers_are_not_asked_about(tmp_path: Path) -> None:
    settings = configured(splits={"golden": 0.4, "anchors": 1})
    store = FeedbackStore.open(str(tmp_path))
    first = canonical(tmp_path / "first.jsonl", *(labeled(f"text {n}", n % 2 == 0, f"prompt {n}") for n in range(10)))
    ingest([first], store, settings, key=b"key")
    golden = [f"prompt {n}" for n in range(10) if prompt_key([("user", f"prompt {n}")]) in store.golden_documents()]
    free = [f"free {n}" for n in range(40)]
    trained = {text for text in free if bucket("rewardloop", text_digest(text)) < SplitSettings().train}
    assert 0 < len(trained) < 40
    logged = [answer(text, 0.6) for text in free]
    logged += [answer("TEXT  1", 0.5, "prompt 1")]
    logged += [answer(f"new answer {n}", 0.5, golden[0]) for n in range(2)]
    found = picked(tmp_path, logged, 100, settings=settings)
    assert set(found.rows["response"]) == trained
    assert found.left_out == {selection.LABELED: 1, selection.GOLDEN: 2, selection.HELD_OUT: 40 - len(trained)}


def test_without_texts_it_is_said_how_to_log_them(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"export-tasks: none is logged; .* set serving.log.texts: true"):
        picked(tmp_path, [], 5)
    with pytest.raises(BadInputError, match=r"1 decisions are logged, all without texts; .* serving.log.texts"):
        picked(tmp_path, [decision(NOW)], 5)
    with pytest.raises(BadInputError, match="of 1 logged answers none is left to judge: 1 the only logged answer"):
        picked(tmp_path, [answer("a", 0.5, "q")], 5)


def finished(tasks: list[dict[str, Any]], verdicts: dict[str, dict[int, str]]) -> list[dict[str, Any]]:
    """Tasks as Label Studio exports them: response -> labeler -> choice."""
    export = []
    for number, task in enumerate(tasks, start=1):
        annotations = [
            {
                "id": 100 * number + who,
                "completed_by": {"id": who, "email": "somebody@example.org"},
                "was_cancelled": False,
                "created_at": "2026-11-21T12:00:00Z",
                "result": [{"type": "choices", "from_name": "verdict", "value": {"choices": [choice]}}],
            }
            for who, choice in verdicts.get(task["data"]["response"], {}).items()
        ]
        export.append({"id": number, "data": task["data"], "annotations": annotations})
    return export


def taken(folder: Path, name: str, content: Any, settings: Settings) -> IngestReport:
    path = folder / name
    path.write_text(json.dumps(content))
    return ingest([path], FeedbackStore.open(str(folder / "store")), settings, key=b"a key of the tests")


def rows_of(folder: Path) -> pl.DataFrame:
    store = FeedbackStore.open(str(folder / "store"))
    return pl.concat([store.read_batch(b.digest).with_columns(batch=pl.lit(b.digest)) for b in store.batches()])


def test_from_the_log_to_labels_that_are_only_trained_on(tmp_path: Path) -> None:
    """Picked, exported, labeled in Label Studio, ingested: active, in the training split, and nowhere else."""
    settings = configured(splits={"golden": 0.05, "anchors": 4}, preferences={"reliability": {"method": "none"}})
    store = FeedbackStore.open(str(tmp_path / "store"))
    random = [labeled(f"text {n}", n % 2 == 0) for n in range(100)]
    ingest([canonical(tmp_path / "random.jsonl", *random)], store, settings, key=b"a key of the tests")
    logged = [answer(f"hard {n}", 0.5 + n / 1000) for n in range(60)]
    logged += [answer(f"reply {side} to {n}", 0.4 + n / 100, f"question {n}") for n in range(20) for side in "ab"]
    found = picked(tmp_path / "store", logged, 30, settings=settings)
    assert len(found.rows) == 30
    answers = [Answer(*row) for row in found.rows.select("prompt", "response", "segment").iter_rows()]
    tasks = make_tasks(answers, model="models:/acme-reward/3", criterion="overall")
    assert not {"score", "decision", "threshold"} & set(tasks[0]["data"])
    verdicts = {
        one.response: {7: "acceptable" if n % 2 else "unacceptable", 8: "acceptable"} for n, one in enumerate(answers)
    }
    report = taken(tmp_path, "export.json", finished(tasks, verdicts), settings)
    assert (report.importer, report.rows_in, report.rows_taken) == ("label-studio-verdicts", 60, 60)
    everything = rows_of(tmp_path)
    active = everything.filter(sampling="active")
    assert {content for one in active["responses"].to_list() for content in (r["content"] for r in one)} == set(
        verdicts
    )
    assert active["source"].unique().to_list() == [f"selection:{tasks[0]['data']['selection']}"]
    built = build(
        everything,
        preferences=settings.preferences,
        splits=settings.splits,
        evaluation=settings.evaluation,
        golden=frozenset(store.golden_documents()),
    )
    assert set(built.items.filter(pl.col("response").is_in(list(verdicts)))["split"]) == {"train"}
    assert set(built.items.filter(pl.col("response").is_in(list(verdicts)))["response"]) == set(verdicts)
    assert set(built.items["split"]) > {"train", "calibration"}
    assert store.golden_documents().isdisjoint(active["document"].to_list())
    # The same export again adds nothing, and what is labeled now is not asked about again.
    assert taken(tmp_path, "again.json", finished(tasks, verdicts), settings).digest is None
    again = picked(tmp_path / "store", logged, 30, settings=settings)
    assert set(again.rows["response"]).isdisjoint(verdicts)
    assert again.left_out[selection.LABELED] == 30


def test_verdicts_of_one_person_on_one_prompt_stand_together(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "q"}]
    tasks = make_tasks([Answer(prompt, "a", "web"), Answer(prompt, "b", "web")], model="m", criterion="tone")
    verdicts = {"a": {7: "acceptable", 8: "acceptable"}, "b": {7: "unacceptable"}}
    assert taken(tmp_path, "export.json", finished(tasks, verdicts), configured()).groups == 2
    rows = rows_of(tmp_path)
    assert rows["content"].n_unique() == 1
    labels = sorted(sorted(value["value"] for value in one[0]["values"]) for one in rows["labels"].to_list())
    assert labels == [[0.0, 1.0], [1.0]]
    assert {one[0]["criterion"] for one in rows["labels"].to_list()} == {"tone"}
    assert rows["segment"].unique().to_list() == ["web"]
    assert "example.org" not in rows.write_json()


def test_what_is_no_verdict_is_counted_or_quarantined_with_its_reason(tmp_path: Path) -> None:
    tasks = make_tasks([Answer([], f"text {n}", None) for n in range(7)], model="m", criterion="overall")
    export = finished(tasks, {f"text {n}": {7: "acceptable"} for n in range(7)})
    export[1]["data"]["response"] = "another text"
    export[2]["annotations"][0]["was_cancelled"] = True
    export[3]["annotations"] = []
    export[4]["annotations"][0]["result"][0]["value"] = {"choices": ["acceptable", "unacceptable"]}
    export[5]["annotations"] += [json.loads(json.dumps(export[5]["annotations"][0]))]
    opposite = json.loads(json.dumps(export[6]["annotations"][0]))
    opposite["result"][0]["value"] = {"choices": ["unacceptable"]}
    export[6]["annotations"] += [opposite]
    report = taken(tmp_path, "export.json", export, configured(validation={"max_failed_share": 0.9}))
    assert (report.rows_in, report.rows_taken, report.rows_quarantined, report.rows_duplicate) == (9, 3, 3, 1)
    assert report.skipped == {"skipped by their labeler": 1, "not annotated yet": 1}
    reasons = " ".join(report.reasons)
    assert "are not those that were exported" in reasons
    assert "found \"acceptable\", \"unacceptable\"; expected 'acceptable' or 'unacceptable'" in reasons
    assert "says otherwise of this answer at export.json:7" in reasons
    (lines,) = (tmp_path / "store" / "quarantine").glob("*/rows.jsonl")
    assert "example.org" not in lines.read_text()
